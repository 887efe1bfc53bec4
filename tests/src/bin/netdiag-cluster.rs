//! `netdiag-cluster`: the scenarios of a real Kubernetes node, run on it by `cargo xtask cluster test`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use netdiag_tests::cluster::run::{Cluster, run};

const USAGE: &str = "usage: netdiag-cluster --kubeconfig FILE --start-scripts FOLDER [NAME…]";

fn main() -> ExitCode {
    match of_words() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn of_words() -> Result<bool> {
    let (mut kubeconfig, mut start_scripts, mut names) = (None, None, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--kubeconfig" => kubeconfig = words.next(),
            "--start-scripts" => start_scripts = words.next(),
            _ => names.push(word),
        }
    }
    let cluster = Cluster {
        kubeconfig: kubeconfig.context(USAGE)?.into(),
        start_scripts: start_scripts.context(USAGE)?.into(),
    };
    run(cluster, &names)
}
