//! As much of helm's template language as the chart uses: values, `if`/`else`/`end`, and the few functions below.
//! Anything else is an error, so that the chart cannot come to use what is not rendered here as helm renders it.

use serde_json::Value;

/// Renders one template.
pub fn render(text: &str, data: &Value) -> Result<String, String> {
    let pieces = split(text)?;
    let mut at = 0;
    let out = block(&pieces, &mut at, data, true)?;
    if at < pieces.len() {
        return Err(format!("{:?} without a beginning", pieces[at]));
    }
    Ok(out)
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Action(String),
}

fn split(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let mut before = rest[..start].to_owned();
        let inside = &rest[start + 2..];
        let end = inside.find("}}").ok_or("an action is never closed")?;
        let (mut action, mut after) = (&inside[..end], &inside[end + 2..]);
        if let Some(trimmed) = action.strip_prefix('-') {
            before.truncate(before.trim_end().len());
            action = trimmed;
        }
        if let Some(trimmed) = action.strip_suffix('-') {
            after = after.trim_start();
            action = trimmed;
        }
        pieces.push(Piece::Text(before));
        pieces.push(Piece::Action(action.trim().to_owned()));
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// Up to the `else` or `end` that belongs to the caller.
fn block(pieces: &[Piece], at: &mut usize, data: &Value, wanted: bool) -> Result<String, String> {
    let mut out = String::new();
    while let Some(piece) = pieces.get(*at) {
        match piece {
            Piece::Text(text) => out += text,
            Piece::Action(action) if action == "end" || action == "else" => break,
            Piece::Action(action) => match action.strip_prefix("if ") {
                None if wanted => out += &print(&pipeline(action, data)?)?,
                None => {}
                Some(condition) => {
                    let holds = wanted && is_true(&pipeline(condition, data)?);
                    *at += 1;
                    let mut chosen = block(pieces, at, data, holds)?;
                    if !holds {
                        chosen.clear();
                    }
                    if pieces.get(*at) == Some(&Piece::Action("else".to_owned())) {
                        *at += 1;
                        let other = block(pieces, at, data, wanted && !holds)?;
                        if wanted && !holds {
                            chosen = other;
                        }
                    }
                    if pieces.get(*at) != Some(&Piece::Action("end".to_owned())) {
                        return Err(format!("if {condition} is never ended"));
                    }
                    out += &chosen;
                }
            },
        }
        *at += 1;
    }
    Ok(out)
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn print(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        other => Err(format!("{other} has no one way to be printed; use toYaml")),
    }
}

fn pipeline(text: &str, data: &Value) -> Result<Value, String> {
    let mut value = None;
    for command in text.split('|') {
        value = Some(call(&words(command)?, value, data)?);
    }
    value.ok_or_else(|| "an empty action".to_owned())
}

/// Split at blanks outside quotes; quotes stay.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for letter in text.chars() {
        quoted ^= letter == '"';
        if letter == ' ' && !quoted {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    words.retain(|word| !word.is_empty());
    if quoted || words.is_empty() {
        return Err(format!("'{text}' is no command"));
    }
    Ok(words)
}

fn call(words: &[String], piped: Option<Value>, data: &Value) -> Result<Value, String> {
    let arguments: Result<Vec<Value>, String> =
        words[1..].iter().map(|word| term(word, data)).collect();
    let mut arguments = arguments?;
    arguments.extend(piped);
    let wrong = || format!("'{}' has other arguments here", words[0]);
    match (words[0].as_str(), arguments.as_slice()) {
        ("and", [first, second]) => Ok(if is_true(first) { second } else { first }.clone()),
        ("quote", [value]) => Ok(format!("{:?}", print(value)?).into()),
        ("toYaml", [value]) => {
            let text = serde_norway::to_string(value).map_err(|error| error.to_string())?;
            Ok(text.trim_end().into())
        }
        ("nindent", [Value::Number(depth), Value::String(text)]) => {
            let margin = " ".repeat(depth.as_u64().ok_or_else(wrong)? as usize);
            let lines = text.lines().map(|line| format!("\n{margin}{line}"));
            Ok(lines.collect::<String>().into())
        }
        ("printf", [Value::String(format), rest @ ..]) => {
            let mut out = format.clone();
            for value in rest {
                out = out.replacen("%s", &print(value)?, 1);
            }
            Ok(out.into())
        }
        ("and" | "quote" | "toYaml" | "nindent" | "printf", _) => Err(wrong()),
        (word, []) => term(word, data),
        (word, _) => Err(format!("the function {word} is not rendered here")),
    }
}

fn term(word: &str, data: &Value) -> Result<Value, String> {
    if let Some(path) = word.strip_prefix('.') {
        // Helm prints an absent value as nothing; here it is a misspelling.
        return path
            .split('.')
            .try_fold(data, |value, key| value.get(key))
            .cloned()
            .ok_or_else(|| format!("there is no value {word}"));
    }
    serde_json::from_str(word).map_err(|_| format!("'{word}' is neither a value nor a literal"))
}
