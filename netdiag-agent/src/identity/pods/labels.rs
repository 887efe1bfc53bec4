//! Label selectors as operators type them: `app=web,tier!=db,env in (prod,test),!canary`.

use std::collections::BTreeSet;

use kube::core::{Expression, Selector};

const WANTED: &str =
    "wanted is KEY=VALUE, KEY!=VALUE, KEY, !KEY, KEY in (A,B) or KEY notin (A,B), joined by commas";

/// The error is one line.
pub fn parse(text: &str) -> Result<Selector, String> {
    let terms = split(text)?;
    if terms.iter().all(|term| term.trim().is_empty()) {
        return Err(format!("an empty selector selects every pod; {WANTED}"));
    }
    terms
        .into_iter()
        .map(|term| expression(term.trim()))
        .collect()
}

/// At the commas outside parentheses.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut terms, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' if !inside => inside = true,
            ')' if inside => inside = false,
            '(' | ')' => {
                return Err(format!(
                    "'{}': parentheses do not match; {WANTED}",
                    text.escape_debug()
                ));
            }
            ',' if !inside => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(format!(
            "'{}': a parenthesis is never closed; {WANTED}",
            text.escape_debug()
        ));
    }
    terms.push(&text[start..]);
    Ok(terms)
}

fn expression(term: &str) -> Result<Expression, String> {
    let fault = || format!("'{}' is no label selector; {WANTED}", term.escape_debug());
    let key = |text: &str| valid_key(text.trim()).ok_or_else(fault);
    let value = |text: &str| valid_value(text.trim()).ok_or_else(fault);
    if let Some(rest) = term.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key(rest)?));
    }
    if let Some((before, values)) = term.strip_suffix(')').and_then(|term| term.split_once('(')) {
        let values: BTreeSet<String> = values.split(',').map(value).collect::<Result<_, _>>()?;
        let mut words = before.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(name), Some("in"), None) => Ok(Expression::In(key(name)?, values)),
            (Some(name), Some("notin"), None) => Ok(Expression::NotIn(key(name)?, values)),
            _ => Err(fault()),
        };
    }
    if let Some((name, text)) = term.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, value(text)?));
    }
    if let Some((name, text)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(Expression::Equal(key(name)?, value(text)?));
    }
    Ok(Expression::Exists(key(term)?))
}

/// `[prefix/]name`.
fn valid_key(text: &str) -> Option<String> {
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let sound = is_word(name) && prefix.is_none_or(|prefix| prefix.len() <= 253 && is_name(prefix));
    sound.then(|| text.to_owned())
}

fn valid_value(text: &str) -> Option<String> {
    (text.is_empty() || is_word(text)).then(|| text.to_owned())
}

/// What the API admits as a label's value: at most 63 letters, digits, `-`, `_`, `.`, with a letter or digit at either end.
fn is_word(text: &str) -> bool {
    let plain = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && plain(text.bytes().next())
        && plain(text.bytes().next_back())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// A name in DNS, as objects have.
pub(super) fn is_name(text: &str) -> bool {
    let sound = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(sound)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::core::SelectorExt;

    use super::*;

    fn selects(text: &str, labels: &[(&str, &str)]) -> bool {
        let labels: BTreeMap<String, String> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        parse(text).unwrap().matches(&labels)
    }

    #[test]
    fn every_form_selects_what_it_says() {
        let web = [("app", "web"), ("env", "prod"), ("k8s.io/part-of", "shop")];
        for (text, wanted) in [
            ("app=web", true),
            ("app==web", true),
            ("app = web , env", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("k8s.io/part-of=shop", true),
            ("env in (test, prod)", true),
            ("env in (test)", false),
            ("env notin (test),app", true),
            ("!canary", true),
            ("!app", false),
            ("canary", false),
            ("app=", false),
        ] {
            assert_eq!(selects(text, &web), wanted, "{text}");
        }
    }

    #[test]
    fn what_goes_to_the_server_means_the_same() {
        let text = "app=web,env in (prod,test),!canary,a/b!=c";
        assert_eq!(parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn nonsense_is_refused_in_one_line() {
        for text in [
            "",
            ",",
            "app=web,",
            "=web",
            "app=a b",
            "app in web",
            "app in (a",
            "a)b",
            "-a",
            "a/b/c",
            "app=ü",
            "in (a)",
            "app of (a)",
            "app=a\nb",
        ] {
            let error = parse(text).expect_err(text);
            assert!(
                !error.trim().is_empty() && error.contains(WANTED),
                "{text}: {error}"
            );
        }
    }
}
