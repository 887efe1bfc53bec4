//! The lab ring: every scenario on this kernel, for real. Needs root: `cargo test -p netdiag-tests --features lab`.
//!
//! One test per scenario, topology and family. What this machine cannot run is counted as ignored, with the reason.

use libtest_mimic::{Arguments, Failed, Trial};
use netdiag_tests::needs;
use netdiag_tests::runner::{Options, run, variant};
use netdiag_tests::scenario;

/// Scenarios mostly wait; more of them at once than processors.
const THREADS: usize = 8;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let mut skipped = Vec::new();
    let mut trials = Vec::new();
    for scenario in scenario::all() {
        for (topology, family) in scenario.variants() {
            let name = variant(scenario, topology, family);
            let missing = needs::missing(scenario);
            let ignored = missing.is_some();
            skipped.extend(missing.map(|why| format!("{name}: {why}")));
            let record = std::env::var_os("NETDIAG_RECORD_DIR").map(Into::into);
            let act = move || {
                let options = Options {
                    record_dir: record,
                    ..Options::default()
                };
                match run(scenario, topology, family, &options) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(Failed::from(format!("{error:#}"))),
                }
            };
            trials.push(Trial::test(name, act).with_ignored_flag(ignored));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !skipped.is_empty() {
        println!("{} skipped:\n{}", skipped.len(), skipped.join("\n"));
    }
    conclusion.exit();
}
