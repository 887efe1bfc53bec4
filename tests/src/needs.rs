//! What a scenario needs of the machine, and whether it has it.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::unistd::geteuid;

use crate::scenario::Scenario;

/// A thing some machines lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// x_tables and its programs.
    IptablesLegacy,
    /// tcx links (kernel 6.6).
    Tcx,
    /// The match `statistic`.
    Statistic,
    /// The match `u32`.
    U32,
    /// `quota` of nft.
    Quota,
}

/// Why the scenario cannot run here; `None` when it can.
pub fn missing(scenario: &Scenario) -> Option<String> {
    if !geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let lacking = |need: &&Need| !available(**need);
    scenario
        .needs
        .iter()
        .find(lacking)
        .map(|need| format!("this machine has no {need:?}"))
}

/// Tries it, once per process: what a version says about it is not asked.
fn available(need: Need) -> bool {
    static KNOWN: Mutex<BTreeMap<Need, bool>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    *known.entry(need).or_insert_with(|| probe(need))
}

fn probe(need: Need) -> bool {
    match need {
        Need::IptablesLegacy => alone("iptables-legacy -S") && alone("ip6tables-legacy -S"),
        Need::Statistic => {
            alone("iptables-nft -A INPUT -m statistic --mode nth --every 9 --packet 0 -j DROP")
        }
        Need::U32 => alone("iptables-nft -A INPUT -m u32 --u32 0=0 -j DROP"),
        Need::Quota => {
            alone("nft add table ip t;add chain ip t c;add rule ip t c quota over 1 bytes drop")
        }
        Need::Tcx => crate::bpf::has_tcx(),
    }
}

/// Whether a command line succeeds in a namespace of its own.
fn alone(line: &str) -> bool {
    let mut command = Command::new("unshare");
    command.arg("--net").args(line.split_whitespace());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
