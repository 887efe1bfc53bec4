//! The two programs a run needs, and the schema the first one prints.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use jsonschema::Validator;
use serde_json::Value;

/// `netdiag`: `NETDIAG_BIN`, else beside this executable, else of the other profile.
pub fn netdiag() -> Result<PathBuf> {
    find("NETDIAG_BIN", "netdiag")
}

/// `netdiag-lab`, which is also what sends the traffic.
pub fn sender() -> Result<PathBuf> {
    find("NETDIAG_LAB_BIN", "netdiag-lab")
}

/// Prometheus' checker, where `cargo xtask setup` could get it.
pub fn promtool() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let fetched = own.ancestors().map(|folder| folder.join("tools/promtool"));
    let path = std::env::var_os("PATH")?;
    let installed = std::env::split_paths(&path).map(|folder| folder.join("promtool"));
    fetched.chain(installed).find(|path| path.is_file())
}

fn find(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("find this executable")?;
    let mut folder = own.parent().context("this executable is in no folder")?;
    // Test executables are one folder deeper than programs.
    if folder.ends_with("deps") {
        folder = folder
            .parent()
            .context("target/PROFILE/deps has a parent")?;
    }
    let target = folder.parent().unwrap_or(folder);
    let places = [
        folder.to_owned(),
        target.join("debug"),
        target.join("release"),
    ];
    match places
        .iter()
        .map(|place| place.join(name))
        .find(|path| path.is_file())
    {
        Some(path) => Ok(path),
        None => bail!(
            "no {name} in {}; run `cargo build`, or set {variable}",
            folder.display()
        ),
    }
}

/// The validator made from `netdiag schema`, once per process.
pub fn schema() -> Result<&'static Validator> {
    static SCHEMA: OnceLock<Result<Validator, String>> = OnceLock::new();
    let made = SCHEMA
        .get_or_init(|| load(&netdiag().map_err(|e| e.to_string())?).map_err(|e| format!("{e:#}")));
    made.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn load(netdiag: &Path) -> Result<Validator> {
    let output = Command::new(netdiag)
        .arg("schema")
        .output()
        .with_context(|| format!("run {} schema", netdiag.display()))?;
    ensure!(output.status.success(), "netdiag schema: {}", output.status);
    let schema: Value =
        serde_json::from_slice(&output.stdout).context("netdiag schema is no JSON")?;
    jsonschema::validator_for(&schema).context("netdiag schema is no JSON Schema")
}
