//! docs/causes/ is generated from the rules: one page per cause, and none of a cause that is no more.
//!
//! `UPDATE_DOCS=1 cargo test -p netdiag-agent --test docs` writes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use netdiag::explain;
use netdiag::verdict::RULES;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/causes"))
}

#[test]
fn every_cause_has_its_page() {
    let wanted: BTreeMap<String, String> = RULES
        .iter()
        .map(|rule| (format!("{}.md", rule.cause()), explain::markdown(*rule)))
        .collect();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let _ = fs::remove_dir_all(folder());
        fs::create_dir_all(folder()).expect("make docs/causes");
        for (name, text) in &wanted {
            fs::write(folder().join(name), text).expect("write a page");
        }
    }
    let found: BTreeMap<String, String> = fs::read_dir(folder())
        .expect("docs/causes is there")
        .map(|entry| entry.expect("a folder entry"))
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).expect("read a page");
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    assert_eq!(
        found, wanted,
        "docs/causes is out of date: UPDATE_DOCS=1 writes it"
    );
}

#[test]
fn every_rule_explains_itself_under_every_heading() {
    for rule in RULES {
        let page = rule.page();
        for (heading, text) in [
            ("what_happened", page.what_happened),
            ("how_we_know", page.how_we_know),
            ("what_else", page.what_else),
            ("what_to_do", page.what_to_do),
        ] {
            assert!(text.len() > 20, "{}: {heading} is empty", rule.cause());
        }
    }
}

#[test]
fn causes_are_named_once() {
    let mut names: Vec<_> = RULES.iter().map(|rule| rule.cause().0).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}
