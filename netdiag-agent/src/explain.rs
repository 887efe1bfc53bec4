//! `netdiag explain CAUSE`: the page of a cause, and the same as Markdown for `docs/causes/`.

use std::fmt::Write;

use crate::export::Style;
use crate::export::style::{Tone, clean, wrap};
use crate::verdict::{Page, RULES, Rule};

/// A name that is no cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is no cause{} (`netdiag explain` lists them all)", self.hint())]
pub struct UnknownCause {
    name: String,
    nearest: Option<&'static str>,
}

impl UnknownCause {
    fn hint(&self) -> String {
        self.nearest
            .map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
    }
}

/// Headings and texts, in the order they are read.
const fn sections(page: &Page) -> [(&'static str, &'static str); 4] {
    [
        ("What happened", page.what_happened),
        ("How we know", page.how_we_know),
        ("What else it could be", page.what_else),
        ("What to do", page.what_to_do),
    ]
}

/// The page of a cause, its name in any case.
pub fn page(name: &str, style: Style) -> Result<String, UnknownCause> {
    let rule = find(RULES, name)?;
    let mut text = format!("{}\n", style.paint(Tone::Strong, rule.cause().0));
    for (heading, words) in sections(&rule.page()) {
        let _ = write!(text, "\n{}\n", style.paint(Tone::Strong, heading));
        for line in wrap(&clean(words, style), style.width, 2) {
            let _ = writeln!(text, "  {line}");
        }
    }
    Ok(text)
}

/// All causes, each in one sentence.
pub fn list(style: Style) -> String {
    let width = RULES
        .iter()
        .map(|rule| rule.cause().0.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for rule in RULES {
        let mut name = style.paint(Tone::Strong, &format!("{:width$}", rule.cause().0));
        let sentence = clean(rule.page().in_one_sentence(), style);
        for line in wrap(&sentence, style.width, width + 2) {
            let _ = writeln!(text, "{name}  {line}");
            name = " ".repeat(width);
        }
    }
    text
}

/// The page of a rule as a file of `docs/causes/`.
pub fn markdown(rule: &dyn Rule) -> String {
    let mut text = format!("# {}\n", rule.cause().0);
    for (heading, words) in sections(&rule.page()) {
        let _ = write!(text, "\n## {heading}\n\n{words}\n");
    }
    text
}

/// The index of `docs/causes/`.
pub fn markdown_index() -> String {
    let mut text = String::from("# Causes\n\n| cause | what happened |\n|---|---|\n");
    for rule in RULES {
        let sentence = rule.page().in_one_sentence().replace('|', "\\|");
        let _ = writeln!(text, "| [{0}]({0}.md) | {sentence} |", rule.cause().0);
    }
    text
}

fn find(
    rules: &'static [&'static dyn Rule],
    name: &str,
) -> Result<&'static dyn Rule, UnknownCause> {
    let wanted = name.trim().to_ascii_uppercase().replace('-', "_");
    if let Some(rule) = rules.iter().find(|rule| rule.cause().0 == wanted) {
        return Ok(*rule);
    }
    // Wider than half the name, the nearest is no help.
    let nearest = rules
        .iter()
        .map(|rule| (distance(&wanted, rule.cause().0), rule.cause().0))
        .min()
        .filter(|(distance, _)| *distance <= wanted.len().div_ceil(2))
        .map(|(_, nearest)| nearest);
    let name = name
        .chars()
        .filter(|character| !character.is_control())
        .take(64)
        .collect();
    Err(UnknownCause { name, nearest })
}

/// Levenshtein: insertions, deletions and replacements that turn one name into the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("NO_ROUTE", "NO_ROUTE", 0),
            ("NO_ROUT", "NO_ROUTE", 1),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn every_cause_has_a_page_with_all_headings() {
        for rule in RULES {
            let name = rule.cause().0;
            let page = page(&name.to_lowercase(), Style::PLAIN).unwrap();
            assert!(page.starts_with(name), "{page}");
            let markdown = markdown(*rule);
            for (heading, words) in sections(&rule.page()) {
                assert!(words.len() > 20, "{name}: {heading}");
                assert!(
                    page.contains(heading)
                        && markdown.contains(&format!("## {heading}\n\n{words}\n"))
                );
            }
            assert!(list(Style::PLAIN).contains(name));
            assert!(markdown_index().contains(&format!("({name}.md)")));
            assert!(rule.page().in_one_sentence().ends_with('.'), "{name}");
        }
    }

    #[test]
    fn an_unknown_cause_names_the_nearest() {
        let error = page("no-rout", Style::PLAIN).unwrap_err().to_string();
        assert_eq!(
            error,
            "no-rout is no cause; did you mean NO_ROUTE? (`netdiag explain` lists them all)"
        );
        let error = page("xyzzy\x1b[31m", Style::PLAIN).unwrap_err().to_string();
        assert!(
            !error.contains('\x1b') && !error.contains("did you mean"),
            "{error}"
        );
    }
}
