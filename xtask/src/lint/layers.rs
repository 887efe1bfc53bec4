//! Which module of the agent may use which, and what the pure ones may never touch.
//!
//! One crate cannot enforce this through Cargo, so the sources are scanned. Paths between modules are written
//! `crate::…`; code below `#[cfg(test)]`, which stands last in a file, is free.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A module of netdiag-agent/src.
struct Layer {
    module: &'static str,
    may_use: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// No I/O, no clock, no async, no serde.
    Pure,
    /// Pure, but the text it takes apart is JSON.
    Parser,
    /// Touches the world.
    Edge,
}

const fn pure(module: &'static str, may_use: &'static [&'static str]) -> Layer {
    Layer {
        module,
        may_use,
        kind: Kind::Pure,
    }
}

const fn parser(module: &'static str, may_use: &'static [&'static str]) -> Layer {
    Layer {
        module,
        may_use,
        kind: Kind::Parser,
    }
}

const fn edge(module: &'static str, may_use: &'static [&'static str]) -> Layer {
    Layer {
        module,
        may_use,
        kind: Kind::Edge,
    }
}

/// Every module stands here, below those that may use it.
const LAYERS: &[Layer] = &[
    pure("event", &[]),
    pure("ruleset", &["event"]),
    parser("ruleset::nft", &["event", "ruleset"]),
    pure("inventory", &["event", "ruleset"]),
    // The words of a verdict: hops, outcomes, translations. The rest of `verdict` stands above the flows.
    pure("verdict::types", &["event", "inventory", "ruleset"]),
    pure("flow", &["event", "inventory", "verdict::types"]),
    pure(
        "verdict",
        &["event", "flow", "inventory", "ruleset", "verdict::types"],
    ),
    pure(
        "engine",
        &["event", "flow", "inventory", "ruleset", "verdict"],
    ),
    // The kernel's rules come over netlink in the words nft itself uses.
    edge(
        "identity",
        &["event", "inventory", "ruleset", "ruleset::nft"],
    ),
    // A source sends inputs.
    edge("kernel", &["engine", "event", "inventory"]),
    edge("check", &["event", "inventory", "ruleset", "verdict"]),
    edge("export", &["event", "flow", "inventory", "verdict"]),
    edge("explain", &["export", "verdict"]),
    edge(
        "pcap",
        &["engine", "event", "export", "flow", "inventory", "verdict"],
    ),
    edge("recording", &["engine", "event", "inventory", "ruleset"]),
    edge(
        "replay",
        &["engine", "event", "inventory", "recording", "verdict"],
    ),
    edge("store", &["export"]),
    // The node mode, without the traces themselves: settings, service, metrics, budget.
    edge(
        "agent",
        &[
            "event",
            "export",
            "identity",
            "inventory",
            "store",
            "verdict",
        ],
    ),
    edge("privilege", &[]),
    // The words for pods are parsed where they are looked for.
    edge("cli", &["event", "export", "identity"]),
    edge("app", ANY),
    edge("lib", ANY),
    edge("main", ANY),
];

const ANY: &[&str] = &["*"];

/// What makes a module impure.
const IMPURE: &[&str] = &[
    "aya",
    "aya_log",
    "tokio",
    "futures",
    "serde",
    "serde_json",
    "schemars",
    "kube",
    "nix",
    "libc",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "Instant::now",
    "SystemTime::now",
    "async fn",
    "async move",
    "println!",
    "eprintln!",
];

/// One line that breaks the order.
pub struct Violation {
    file: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// Scans every source file below `sources`.
pub fn check(sources: &Path) -> Result<Vec<Violation>> {
    let mut files = Vec::new();
    collect(sources, &mut files)?;
    files.sort();
    let mut violations = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let inside = file
            .strip_prefix(sources)
            .expect("the file was found below this folder");
        let found = check_file(&module_of(inside), &text);
        violations.extend(found.into_iter().map(|(line, what)| Violation {
            file: file.clone(),
            line,
            what,
        }));
    }
    Ok(violations)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)
        .with_context(|| format!("list {}", folder.display()))?
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if is_source(&entry.file_name().to_string_lossy()) {
            files.push(path);
        }
    }
    Ok(())
}

/// Tests in files of their own (`tests.rs`, `links_tests.rs`) are free, as are those at the end of a file.
fn is_source(name: &str) -> bool {
    name.strip_suffix(".rs")
        .is_some_and(|name| !name.ends_with("tests"))
}

/// `verdict/rules/no_route.rs` is `verdict::rules::no_route`.
fn module_of(inside: &Path) -> String {
    let path = inside.with_extension("");
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("::")
}

/// The innermost layer that holds this path.
fn layer_of(path: &str) -> Option<&'static Layer> {
    let holds = |layer: &&Layer| {
        path.strip_prefix(layer.module)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    LAYERS
        .iter()
        .filter(holds)
        .max_by_key(|layer| layer.module.len())
}

fn check_file(module: &str, text: &str) -> Vec<(usize, String)> {
    let Some(layer) = layer_of(module) else {
        return vec![(
            1,
            format!(
                "module `{module}` has no place in the layering table of xtask/src/lint/layers.rs"
            ),
        )];
    };
    let code = code_of(text);
    let mut found: Vec<(usize, String)> = Vec::new();
    let module = layer.module;
    for (at, path) in uses(&code) {
        let Some(used) = layer_of(path).map(|used| used.module) else {
            continue;
        };
        let allowed = used == module || layer.may_use == ANY || layer.may_use.contains(&used);
        if !allowed {
            found.push((
                line_of(&code, at),
                format!("`{module}` may not use `{used}`"),
            ));
        }
    }
    if layer.kind != Kind::Edge {
        let exempt = |word: &str| layer.kind == Kind::Parser && word.starts_with("serde");
        for word in IMPURE.iter().filter(|word| !exempt(word)) {
            let hits = code
                .match_indices(word)
                .filter(|&(at, _)| stands_alone(&code, at, word));
            found.extend(hits.map(|(at, _)| {
                (
                    line_of(&code, at),
                    format!("`{module}` is pure and may not touch `{word}`"),
                )
            }));
        }
    }
    found.sort();
    found
}

/// The code without comments and without its tests; lines keep their numbers.
fn code_of(text: &str) -> String {
    let lines = text
        .lines()
        .take_while(|line| line.trim() != "#[cfg(test)]");
    lines
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// `crate::a::b` gives `a::b`; `crate::{a::b, c}` gives `a::b` and `c`.
fn uses(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, word) in code
        .match_indices("crate::")
        .filter(|&(at, word)| stands_alone(code, at, word))
    {
        let rest = at + word.len();
        if !code[rest..].starts_with('{') {
            found.push((rest, path(&code[rest..])));
            continue;
        }
        let mut depth = 0;
        let mut fresh = false;
        for (offset, letter) in code[rest..].char_indices() {
            match letter {
                '{' => {
                    depth += 1;
                    fresh = depth == 1;
                }
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                ',' => fresh = depth == 1,
                _ if fresh && !letter.is_whitespace() => {
                    found.push((rest + offset, path(&code[rest + offset..])));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// The path that stands first in the text.
fn path(code: &str) -> &str {
    let end = code.find(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != ':');
    code[..end.unwrap_or(code.len())].trim_end_matches(':')
}

/// `serde` in `use serde::…`, not in `my_serde`, nor as a plain word of a string: a crate is followed by `::`.
fn stands_alone(code: &str, at: usize, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let before = code[..at].chars().next_back();
    let after = &code[at + word.len()..];
    let ends = word.ends_with([':', '!']) || !after.starts_with(part);
    let names_a_crate = word
        .chars()
        .all(|letter| letter.is_lowercase() || letter == '_')
        && !word.contains(' ');
    !before.is_some_and(part) && ends && (!names_a_crate || after.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(module: &str, code: &str) -> Vec<String> {
        check_file(module, code)
            .into_iter()
            .map(|(line, what)| format!("{line}: {what}"))
            .collect()
    }

    #[test]
    fn the_agent_as_it_stands_keeps_the_order() {
        let violations = check(&crate::sh::root().join("netdiag-agent/src")).unwrap();
        assert!(
            violations.is_empty(),
            "{}",
            violations
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        );
    }

    #[test]
    fn a_use_against_the_direction_is_found() {
        assert_eq!(
            complaints("event", "use std::fmt;\nuse crate::verdict::Verdict;"),
            ["2: `event` may not use `verdict`"]
        );
        assert_eq!(
            complaints("flow", "fn f() -> crate::engine::Input {}"),
            ["1: `flow` may not use `engine`"]
        );
        assert!(complaints("engine", "use crate::flow::Flow;").is_empty());
        assert_eq!(complaints("flow::nat", "use crate::verdict::Hop;").len(), 1);
        assert!(complaints("flow::nat", "use crate::verdict::types::Hop;").is_empty());
    }

    #[test]
    fn grouped_uses_are_found_at_their_line() {
        let code = "use crate::{\n    event::{Event, app},\n    kernel,\n    flow::Flow,\n};";
        assert_eq!(
            complaints("verdict", code),
            ["3: `verdict` may not use `kernel`"]
        );
    }

    #[test]
    fn a_pure_module_that_reads_the_clock_or_a_file_is_found() {
        assert_eq!(complaints("engine", "let now = Instant::now();").len(), 1);
        assert_eq!(complaints("flow", "use std::fs::File;").len(), 1);
        assert_eq!(complaints("event", "use serde::Serialize;").len(), 1);
        assert!(complaints("app", "let now = Instant::now();").is_empty());
        assert!(complaints("ruleset::nft", "use serde_json::Value;").is_empty());
        assert_eq!(
            complaints("ruleset::nft", "use std::fs;\nuse std::process::Command;").len(),
            2
        );
    }

    #[test]
    fn comments_tests_and_look_alikes_are_not() {
        let code = "//! see crate::kernel\nlet tokio_free = \"no tokio here\";\n#[cfg(test)]\nmod tests { use std::fs; }";
        assert!(
            complaints("flow", code).is_empty(),
            "{:?}",
            complaints("flow", code)
        );
    }

    #[test]
    fn a_module_without_a_place_is_found() {
        assert_eq!(complaints("misc", "").len(), 1);
    }

    #[test]
    fn the_table_has_no_cycle() {
        for (at, layer) in LAYERS.iter().enumerate() {
            for used in layer.may_use.iter().filter(|used| **used != "*") {
                let below = LAYERS.iter().position(|other| other.module == *used);
                assert!(
                    below.is_some_and(|below| below < at),
                    "{} uses {used}, which is not below it",
                    layer.module
                );
            }
        }
    }
}
