//! Reads a namespace's packet filter: nft's tables over netlink, those of iptables (on nft and on xtables) and the ipsets
//! by the programs that own them.
//!
//! Only listing commands are run, and none that would load a module or make a table. What could not be read comes back
//! as blind spots beside what could.
//!
//! An iptables table on nft shows to nft with its matches missing (`xt`), so such tables are read by
//! `iptables-nft-save`. The nft program is asked only for what `ruleset::nft::wire` does not understand: it spends a
//! second on 20,000 rules.

use std::collections::HashSet;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use caps::{CapSet, Capability};
use serde_json::Value;

use super::error::IdentityError;
use super::netns::{NetnsHandle, run_in};
use super::nftables::{Contents, Named};
use super::scene::now;
use crate::inventory::{BlindSpot, Delta};
use crate::ruleset::model::{Match, Step, Table};
use crate::ruleset::nft::wire::{self, Interfaces};
use crate::ruleset::reading::without_doubles;
use crate::ruleset::{Backend, Family, Listing, Reading, Ruleset, Source, ipset, iptables, nft};

/// With more chains than this that only nft understands, it lists the whole table.
const MANY_CHAINS: usize = 8;

/// What was read, and what was not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RulesetSnapshot {
    pub ruleset: Ruleset,
    /// What `ruleset` was read from.
    pub listings: Vec<Listing>,
    /// Rules that may exist but are not in `ruleset`.
    pub blind: Vec<BlindSpot>,
}

/// Reads all rules of a namespace, as news for the core.
pub fn reading(netns: &NetnsHandle) -> Result<Vec<Delta>, IdentityError> {
    let at = now();
    let RulesetSnapshot {
        ruleset,
        listings,
        blind,
    } = read(netns)?;
    let reading = Reading {
        netns: netns.netns(),
        at,
        ruleset,
        listings,
    };
    let rules = Delta::Rules(Arc::new(reading));
    Ok(std::iter::once(rules)
        .chain(blind.into_iter().map(Delta::Blind))
        .collect())
}

/// Reads all rules of a namespace.
pub fn read(netns: &NetnsHandle) -> Result<RulesetSnapshot, IdentityError> {
    run_in(netns, read_here)
}

/// Threads started here are in the namespace of the thread that starts them.
fn read_here() -> RulesetSnapshot {
    let parts = thread::scope(|scope| {
        let readers = [
            scope.spawn(|| save_nft("iptables", Family::Ip)),
            scope.spawn(|| save_nft("ip6tables", Family::Ip6)),
            scope.spawn(|| save_legacy("iptables", Family::Ip)),
            scope.spawn(|| save_legacy("ip6tables", Family::Ip6)),
        ];
        list_nft(|| {
            readers
                .into_iter()
                .filter_map(|reader| reader.join().ok())
                .collect()
        })
    });
    let mut snapshot = RulesetSnapshot::default();
    for part in parts {
        snapshot.ruleset.tables.extend(part.tables);
        snapshot.listings.extend(part.listings);
        snapshot.blind.extend(part.blind);
    }
    without_doubles(&mut snapshot.ruleset.tables);
    read_ipsets(&mut snapshot);
    snapshot
}

/// What one program gave.
#[derive(Default)]
struct Part {
    tables: Vec<Table>,
    listings: Vec<Listing>,
    blind: Vec<BlindSpot>,
    /// iptables-nft-save is there and failed, for this family.
    failed: Option<(Family, Failure)>,
}

impl Part {
    fn blind(what: &str, failure: &Failure) -> Self {
        Self {
            blind: vec![spot(what, failure.to_string())],
            ..Self::default()
        }
    }

    /// Tables that were read, and lines that were not understood.
    fn of(
        source: Source,
        text: String,
        tables: Vec<Table>,
        strange: &[String],
        program: &str,
    ) -> Self {
        let blind = strange
            .first()
            .map(|first| {
                let why = format!("{} lines not understood, the first: {first}", strange.len());
                spot(program, why)
            })
            .into_iter()
            .collect();
        Self {
            tables,
            listings: vec![Listing { source, text }],
            blind,
            failed: None,
        }
    }
}

fn spot(what: &str, why: String) -> BlindSpot {
    BlindSpot {
        what: what.to_owned(),
        why,
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the program {0} is not installed")]
    Missing(String),
    #[error("run {program}: {cause}")]
    Run { program: String, cause: io::Error },
    #[error("{program} failed: {stderr}")]
    Failed { program: String, stderr: String },
    #[error("read the output of {program}: {cause}")]
    Parse {
        program: String,
        cause: serde_json::Error,
    },
}

fn run(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output();
    let output = output.map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => Failure::Missing(program.to_owned()),
        _ => Failure::Run {
            program: program.to_owned(),
            cause,
        },
    })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stderr = stderr.lines().next().unwrap_or("no message");
        return Err(Failure::Failed {
            program: program.to_owned(),
            stderr: format!("{stderr}{}", hint()),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Tables made by iptables on nft. Where there is no such program, nft lists them as far as it can.
fn save_nft(program: &str, family: Family) -> Part {
    let own = run(&format!("{program}-nft-save"), &["-c"]);
    let text = own.or_else(|failure| {
        if !matches!(failure, Failure::Missing(_)) {
            return Err(failure);
        }
        let plain = format!("{program}-save");
        let text = run(&plain, &["-c"])?;
        if speaks_nft(&text) {
            Ok(text)
        } else {
            Err(Failure::Missing(format!("{program}-nft-save")))
        }
    });
    match text {
        Ok(text) => {
            let parsed = iptables::parse(&text, Backend::IptablesNft, family);
            let source = Source::Iptables(Backend::IptablesNft, family);
            Part::of(
                source,
                text,
                parsed.tables,
                &parsed.strange,
                &format!("{program}-nft-save"),
            )
        }
        Err(Failure::Missing(_)) => Part::default(),
        Err(failure) => Part {
            failed: Some((family, failure)),
            ..Part::default()
        },
    }
}

/// iptables asks for tables of xtables and for ipsets by a raw socket.
fn hint() -> &'static str {
    match caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW) {
        Ok(false) => " (CAP_NET_RAW is not held, which iptables may need)",
        _ => "",
    }
}

fn speaks_nft(text: &str) -> bool {
    text.lines()
        .next()
        .is_some_and(|header| header.contains("(nf_tables)"))
}

fn save_legacy(program: &str, family: Family) -> Part {
    let name = format!("{program}-legacy-save");
    let text = run(&name, &["-c"]).or_else(|failure| {
        // Before iptables 1.8 there was only one.
        let text = run(&format!("{program}-save"), &["-c"]);
        text.ok()
            .filter(|text| !text.is_empty() && !speaks_nft(text))
            .ok_or(failure)
    });
    match text {
        Ok(text) => {
            let parsed = iptables::parse(&text, Backend::Legacy, family);
            Part::of(
                Source::Iptables(Backend::Legacy, family),
                text,
                parsed.tables,
                &parsed.strange,
                &name,
            )
        }
        // The kernel knows whether anybody ever made such a table here.
        Err(failure) if has_legacy_tables(program) => {
            Part::blind(&format!("{program}-legacy rules"), &failure)
        }
        Err(_) => Part::default(),
    }
}

fn has_legacy_tables(program: &str) -> bool {
    let names = match program {
        "ip6tables" => "/proc/thread-self/net/ip6_tables_names",
        _ => "/proc/thread-self/net/ip_tables_names",
    };
    std::fs::read_to_string(names).is_ok_and(|names| !names.trim().is_empty())
}

/// Names that iptables on nft gives its tables: whether they are its own is known once it has listed them.
fn may_be_iptables((family, name): &Named) -> bool {
    matches!(family, Family::Ip | Family::Ip6)
        && matches!(
            name.as_str(),
            "raw" | "mangle" | "nat" | "filter" | "security"
        )
}

/// nft tables the iptables programs have read already.
fn covered(parts: &[Part]) -> HashSet<Named> {
    let tables = parts.iter().flat_map(|part| &part.tables);
    let nft = tables.filter(|table| table.backend == Backend::IptablesNft);
    nft.map(|table| (table.family, table.name.clone()))
        .collect()
}

/// Tables of nft, and the listing that says the same in its words.
#[derive(Default)]
struct Objects {
    parsed: nft::Parsed,
    text: String,
    blind: Vec<BlindSpot>,
}

impl Objects {
    fn add(&mut self, object: &Value) {
        self.parsed.add(object);
        let before = if self.text.is_empty() {
            "{\"nftables\":["
        } else {
            ","
        };
        self.text.push_str(before);
        // It goes to a recording as it is, so it is read again only there.
        self.text.push_str(&object.to_string());
    }

    fn table(&mut self, contents: &mut Contents, table: &Named, interfaces: &Interfaces) {
        let (family, name) = table;
        let messages = match contents.table(table) {
            Ok(messages) => messages,
            // It has just been removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let what = format!("nft table {} {name}", family.name());
                return self.blind.push(spot(&what, error.to_string()));
            }
        };
        let unknown = wire::decode(*family, &messages, interfaces, &mut |object| {
            self.add(&object);
        });
        match unknown {
            Some(chains) => {
                let of = |object: &Value| {
                    let chain = object.get("rule")?.get("chain")?.as_str()?;
                    chains.get(chain).map(drop)
                };
                let wanted = |object: &Value| of(object).is_some();
                if chains.len() > MANY_CHAINS {
                    self.program(&["table", family.name(), name], wanted);
                } else {
                    for chain in &chains {
                        self.program(&["chain", family.name(), name, chain], wanted);
                    }
                }
            }
            None => self.program(&["table", family.name(), name], |_| true),
        }
    }

    /// What the kernel said is not understood here, so nft is asked.
    fn program(&mut self, what: &[&str], wanted: impl Fn(&Value) -> bool) {
        let listed = run("nft", &[&["-j", "list"], what].concat()).and_then(|text| {
            serde_json::from_str::<Value>(&text).map_err(|cause| Failure::Parse {
                program: "nft".to_owned(),
                cause,
            })
        });
        match listed {
            Ok(document) => {
                let objects = nft::objects(&document).iter();
                objects.filter(|o| wanted(o)).for_each(|o| self.add(o));
            }
            Err(failure) => {
                let what = format!("nft {}", what.join(" "));
                self.blind.push(spot(&what, failure.to_string()));
            }
        }
    }

    fn part(mut self) -> Part {
        let mut part = Part::default();
        if !self.text.is_empty() {
            self.text.push_str("]}");
            let nft::Parsed { tables, strange } = self.parsed;
            part = Part::of(Source::Nft, self.text, tables, &strange, "nft");
        }
        part.blind.extend(self.blind);
        part
    }
}

/// The tables of nft; `finish` waits for those iptables has read.
fn list_nft(finish: impl FnOnce() -> Vec<Part>) -> Vec<Part> {
    let contents = Contents::read();
    let mut contents = match contents {
        Ok(contents) => contents,
        Err(error) => {
            let mut parts = finish();
            // EINVAL: the kernel has no nf_tables, and so no rules of it.
            if error.raw_os_error() != Some(libc::EINVAL) {
                let blind = vec![spot("nft rules", error.to_string())];
                parts.push(Part {
                    blind,
                    ..Part::default()
                });
            }
            return parts;
        }
    };
    let interfaces = interface_names();
    let mut objects = Objects::default();
    let (unsure, own): (Vec<_>, Vec<_>) = contents.tables().into_iter().partition(may_be_iptables);
    for table in &own {
        objects.table(&mut contents, table, &interfaces);
    }
    let mut parts = finish();
    let covered = covered(&parts);
    for table in unsure.iter().filter(|table| !covered.contains(*table)) {
        objects.table(&mut contents, table, &interfaces);
        let failures = parts.iter().filter_map(|part| part.failed.as_ref());
        let failure = failures.into_iter().find(|(family, _)| *family == table.0);
        if let Some((family, failure)) = failure {
            let what = format!(
                "iptables matches in nft table {} {}",
                family.name(),
                table.1
            );
            objects.blind.push(spot(&what, failure.to_string()));
        }
    }
    parts.push(objects.part());
    parts
}

/// Of the calling thread's namespace.
fn interface_names() -> Interfaces {
    let interfaces = nix::net::if_::if_nameindex();
    let named = interfaces.iter().flatten().map(|interface| {
        let name = interface.name().to_string_lossy().into_owned();
        (interface.index(), name)
    });
    named.collect()
}

/// Only when a rule asks for one.
fn read_ipsets(snapshot: &mut RulesetSnapshot) {
    let asks = |step: &Step| matches!(step, Step::Match(Match::Ipset { .. }));
    let chains = snapshot.ruleset.tables.iter().flat_map(Table::chains);
    let asked = chains
        .flat_map(|chain| &chain.rules)
        .any(|rule| rule.steps.iter().any(asks));
    if !asked {
        return;
    }
    match run("ipset", &["save"]) {
        Ok(text) => {
            snapshot.ruleset.ipsets = ipset::parse(&text);
            snapshot.listings.push(Listing {
                source: Source::Ipset,
                text,
            });
        }
        Err(failure) => snapshot
            .blind
            .push(spot("members of ipsets", failure.to_string())),
    }
}

#[cfg(test)]
#[path = "rulesets_tests.rs"]
mod tests;
