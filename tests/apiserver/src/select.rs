//! Field and label selectors, as far as they are used.

use serde_json::Value;

/// `metadata.name=a,spec.nodeName!=b`
pub fn by_fields(selector: &str, object: &Value) -> bool {
    terms(selector).all(|term| {
        let (path, value, equal) = comparison(term);
        let found = path
            .split('.')
            .fold(object, |value, part| &value[part])
            .as_str()
            .unwrap_or("");
        (found == value) == equal
    })
}

/// `a=b,c!=d,e,!f,g in (h,i),j notin (k)`
pub fn by_labels(selector: &str, object: &Value) -> bool {
    let label = |key: &str| object["metadata"]["labels"][key].as_str();
    label_terms(selector).iter().all(|term| {
        let listed = |operator: &str| {
            let (key, values) = term.split_once(operator)?;
            let values = values.trim().strip_prefix('(')?.strip_suffix(')')?;
            let values: Vec<&str> = values.split(',').map(str::trim).collect();
            Some((label(key.trim()), values))
        };
        if let Some((found, values)) = listed(" notin ") {
            return found.is_none_or(|found| !values.contains(&found));
        }
        if let Some((found, values)) = listed(" in ") {
            return found.is_some_and(|found| values.contains(&found));
        }
        if term.contains('=') {
            let (key, value, equal) = comparison(term);
            return (label(key) == Some(value)) == equal;
        }
        match term.strip_prefix('!') {
            Some(key) => label(key).is_none(),
            None => label(term).is_some(),
        }
    })
}

fn terms(selector: &str) -> impl Iterator<Item = &str> {
    selector
        .split(',')
        .map(str::trim)
        .filter(|term| !term.is_empty())
}

/// Commas within brackets separate values, not terms.
fn label_terms(selector: &str) -> Vec<String> {
    let mut depth = 0;
    let mut terms = vec![String::new()];
    for letter in selector.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        match terms.last_mut() {
            Some(last) if letter != ',' || depth > 0 => last.push(letter),
            _ => terms.push(String::new()),
        }
    }
    let terms = terms.into_iter().map(|term| term.trim().to_owned());
    terms.filter(|term| !term.is_empty()).collect()
}

fn comparison(term: &str) -> (&str, &str, bool) {
    if let Some((key, value)) = term.split_once("!=") {
        return (key.trim(), value.trim(), false);
    }
    let (key, value) = term
        .split_once("==")
        .or_else(|| term.split_once('='))
        .unwrap_or((term, ""));
    (key.trim(), value.trim(), true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_select() {
        let pod = json!({"metadata": {"name": "a", "labels": {"app": "web", "tier": "1"}}, "spec": {"nodeName": "n1"}});
        for (selector, selected) in [
            ("spec.nodeName=n1", true),
            ("spec.nodeName!=n1", false),
            ("metadata.name==a,spec.nodeName!=n2", true),
            ("", true),
        ] {
            assert_eq!(by_fields(selector, &pod), selected, "{selector}");
        }
        for (selector, selected) in [
            ("app=web", true),
            ("app!=web", false),
            ("app in (db, web),tier", true),
            ("app notin (web)", false),
            ("!zone,zone!=a", true),
            ("tier=2", false),
        ] {
            assert_eq!(by_labels(selector, &pod), selected, "{selector}");
        }
    }
}
