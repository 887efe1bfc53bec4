//! A rule of the JSON listing in nft's own language, as `nft list` prints it, without counters.

use serde_json::Value;

/// The whole rule.
pub fn rule(statements: &[Value], comment: Option<&str>) -> String {
    let mut words: Vec<String> = statements
        .iter()
        .filter_map(|statement| statement.as_object()?.iter().next())
        .filter(|(name, _)| *name != "counter")
        .map(|(name, body)| statement(name, body))
        .filter(|text| !text.is_empty())
        .collect();
    if let Some(comment) = comment {
        words.push(format!("comment \"{comment}\""));
    }
    words.join(" ")
}

/// One statement; what is not known stays JSON.
pub fn statement(name: &str, body: &Value) -> String {
    let known = match name {
        "match" => comparison(body),
        "accept" | "drop" | "return" | "continue" | "notrack" => Some(name.to_owned()),
        "jump" | "goto" => body
            .get("target")
            .map(|target| format!("{name} {}", expr(target))),
        "vmap" => pair(body, "key", "data").map(|(key, data)| {
            format!(
                "{} vmap {}",
                Style::of(key).write(key),
                Style::of(key).write(data)
            )
        }),
        "mangle" => pair(body, "key", "value")
            .map(|(key, value)| format!("{} set {}", expr(key), Style::of(key).write(value))),
        "reject" => Some(reject(body)),
        "log" => Some(log(body)),
        "limit" => limit(body),
        "snat" | "dnat" | "masquerade" | "redirect" => Some(nat(name, body)),
        "set" => pair(body, "op", "elem")
            .zip(body.get("set"))
            .map(|((op, elem), set)| {
                let each = body.get("stmt").and_then(Value::as_array);
                let each = each.map_or_else(String::new, |statements| per_element(statements));
                format!("{} {} {{ {}{each} }}", expr(op), expr(set), expr(elem))
            }),
        "xt" => body.get("name").map(|extension| {
            format!(
                "xt {} {}",
                expr(body.get("type").unwrap_or(&Value::Null)),
                expr(extension)
            )
        }),
        "ct count" => body.get("val").map(|limit| {
            let over = if body.get("inv").and_then(Value::as_bool) == Some(true) {
                "over "
            } else {
                ""
            };
            format!("ct count {over}{}", expr(limit))
        }),
        "queue" => Some(body.get("num").map_or_else(
            || "queue".to_owned(),
            |num| format!("queue to {}", expr(num)),
        )),
        _ => None,
    };
    known.unwrap_or_else(|| format!("{name} {body}"))
}

fn pair<'v>(body: &'v Value, one: &str, other: &str) -> Option<(&'v Value, &'v Value)> {
    Some((body.get(one)?, body.get(other)?))
}

fn comparison(body: &Value) -> Option<String> {
    let (left, right) = pair(body, "left", "right")?;
    let op = body.get("op").and_then(Value::as_str).unwrap_or("==");
    let style = Style::of(left);
    // `ct state new,established`, `tcp dport 80`: these operators are not written.
    let implied = matches!(op, "==" | "in") && left.get("&").is_none();
    let right = match right {
        Value::Bool(found) => if *found { "exists" } else { "missing" }.to_owned(),
        other => style.write(other),
    };
    let left = style.write(left);
    Some(if implied {
        format!("{left} {right}")
    } else {
        format!("{left} {op} {right}")
    })
}

/// How nft writes the values of a field.
#[derive(Clone, Copy)]
enum Style {
    Plain,
    /// Interface names.
    Quoted,
    /// Marks.
    Hex,
}

impl Style {
    fn of(left: &Value) -> Self {
        if let Some(field) = left.get("&").and_then(|parts| parts.get(0)) {
            return Self::of(field);
        }
        let key = |kind| {
            left.get(kind)
                .and_then(|part: &Value| part.get("key"))
                .and_then(Value::as_str)
        };
        match (key("meta"), key("ct")) {
            (Some("iif" | "oif" | "iifname" | "oifname"), _) => Self::Quoted,
            (Some("mark"), _) | (_, Some("mark")) => Self::Hex,
            _ => Self::Plain,
        }
    }

    fn write(self, value: &Value) -> String {
        match (value, self) {
            (Value::String(text), Self::Quoted) if !text.starts_with('@') => format!("\"{text}\""),
            (Value::Number(number), Self::Hex) => {
                format!("0x{:08x}", number.as_u64().unwrap_or_default())
            }
            (Value::String(text), _) => text.clone(),
            (Value::Array(values), _) => self.joined(values, ","),
            (Value::Object(object), _) => object
                .iter()
                .next()
                .map_or_else(String::new, |(name, body)| self.part(name, body)),
            (other, _) => other.to_string(),
        }
    }

    fn joined(self, values: &[Value], separator: &str) -> String {
        values
            .iter()
            .map(|value| self.write(value))
            .collect::<Vec<_>>()
            .join(separator)
    }

    /// What holds values of the field.
    fn part(self, name: &str, body: &Value) -> String {
        let list = body.as_array().map_or(&[][..], Vec::as_slice);
        match name {
            "range" => self.joined(list, "-"),
            "concat" => self.joined(list, " . "),
            "&" | "|" | "^" | "<<" | ">>" => self.joined(list, &format!(" {name} ")),
            "set" if body.is_array() => format!("{{ {} }}", self.members(list)),
            "set" => format!("{{ {} }}", self.write(body)),
            "elem" => {
                let value = body.get("val").map(|value| self.write(value));
                let timeout = body.get("timeout").and_then(Value::as_u64);
                let timeout = timeout.map(|seconds| format!(" timeout {}", span(seconds)));
                value.unwrap_or_default() + &timeout.unwrap_or_default()
            }
            _ => part(name, body),
        }
    }

    /// Elements of a set, or pairs of a map.
    fn members(self, members: &[Value]) -> String {
        let words = members
            .iter()
            .map(|member| match member.as_array().map(Vec::as_slice) {
                Some([key, data]) => format!("{} : {}", self.write(key), expr(data)),
                _ => self.write(member),
            });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// A value, or an expression.
pub fn expr(value: &Value) -> String {
    Style::Plain.write(value)
}

fn part(name: &str, body: &Value) -> String {
    let text = |key: &str| body.get(key).map(expr).unwrap_or_default();
    match name {
        "payload" if body.get("protocol").is_some() => {
            format!("{} {}", text("protocol"), text("field"))
        }
        "payload" => format!("@{},{},{}", text("base"), text("offset"), text("len")),
        "meta" => match text("key").as_str() {
            key @ ("iif" | "oif" | "iifname" | "oifname") => key.to_owned(),
            key => format!("meta {key}"),
        },
        "ct" if body.get("dir").is_some() => format!("ct {} {}", text("dir"), text("key")),
        "ct" => format!("ct {}", text("key")),
        "fib" => format!(
            "fib {} {}",
            Style::Plain.joined(
                body.get("flags")
                    .and_then(Value::as_array)
                    .map_or(&[], Vec::as_slice),
                " . "
            ),
            text("result")
        ),
        "numgen" => format!(
            "numgen {} mod {}{}",
            text("mode"),
            text("mod"),
            offset(body)
        ),
        "jhash" => {
            let seed = body.get("seed").and_then(Value::as_u64);
            let seed = seed.map_or_else(String::new, |seed| format!(" seed {seed:#x}"));
            format!(
                "jhash {} mod {}{seed}{}",
                text("expr"),
                text("mod"),
                offset(body)
            )
        }
        "symhash" => format!("symhash mod {}{}", text("mod"), offset(body)),
        "tcp option" | "ip option" | "sctp chunk" => match body.get("field") {
            Some(field) => format!("{name} {} {}", text("name"), expr(field)),
            None => format!("{name} {}", text("name")),
        },
        "exthdr" => match body.get("field") {
            Some(field) => format!("{} {}", text("name"), expr(field)),
            None => format!("exthdr {}", text("name")),
        },
        "rt" => match body.get("family") {
            Some(family) => format!("rt {} {}", expr(family), text("key")),
            None => format!("rt {}", text("key")),
        },
        "prefix" => format!("{}/{}", text("addr"), text("len")),
        "map" => format!("{} map {}", text("key"), text("data")),
        "jump" | "goto" => format!("{name} {}", text("target")),
        "accept" | "drop" | "return" | "continue" => name.to_owned(),
        _ => format!("{name} {body}"),
    }
}

/// What is added to a number that was drawn.
fn offset(body: &Value) -> String {
    let offset = body.get("offset").and_then(Value::as_u64).unwrap_or(0);
    match offset {
        0 => String::new(),
        offset => format!(" offset {offset}"),
    }
}

fn reject(body: &Value) -> String {
    let word = |key| body.get(key).and_then(Value::as_str);
    match (word("type"), word("expr")) {
        // What nft does unless told otherwise.
        (None, _) | (Some("icmpx"), Some("port-unreachable")) => "reject".to_owned(),
        (Some(kind), None) => format!("reject with {kind}"),
        (Some(kind), Some(code)) => format!("reject with {kind} {code}"),
    }
}

fn log(body: &Value) -> String {
    let prefix = body
        .get("prefix")
        .map(|prefix| format!(" prefix \"{}\"", expr(prefix)));
    let group = body
        .get("group")
        .map(|group| format!(" group {}", expr(group)));
    format!(
        "log{}{}",
        prefix.unwrap_or_default(),
        group.unwrap_or_default()
    )
}

/// What is done for each element of a set, behind the element.
fn per_element(statements: &[Value]) -> String {
    let named = statements.iter().filter_map(Value::as_object).flatten();
    let words: Vec<_> = named
        .map(|(name, body)| match name.as_str() {
            "counter" => " counter".to_owned(),
            name => format!(" {}", statement(name, body)),
        })
        .collect();
    words.concat()
}

fn limit(body: &Value) -> Option<String> {
    let over = if body.get("inv").and_then(Value::as_bool) == Some(true) {
        "over "
    } else {
        ""
    };
    let unit = body.get("rate_unit");
    let unit = unit.map(|unit| format!(" {}", expr(unit)));
    // Of packets nft takes a burst of 5 for granted, of bytes none, and does not print it.
    let burst = match (body.get("burst"), body.get("burst_unit")) {
        (Some(burst), Some(unit)) if burst.as_u64() != Some(0) => {
            format!(" burst {} {}", expr(burst), expr(unit))
        }
        (Some(burst), None) if unit.is_none() && burst.as_u64() != Some(5) => {
            format!(" burst {} packets", expr(burst))
        }
        _ => String::new(),
    };
    Some(format!(
        "limit rate {over}{}{}/{}{burst}",
        expr(body.get("rate")?),
        unit.unwrap_or_default(),
        expr(body.get("per")?)
    ))
}

/// A number of seconds as nft prints it: `1d2h3m4s`, without the parts that are zero.
fn span(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, 'd'),
        (seconds / 3600 % 24, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let words: Vec<_> = parts
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    words.concat()
}

fn nat(name: &str, body: &Value) -> String {
    let family = body
        .get("family")
        .map(|family| format!(" {}", expr(family)))
        .unwrap_or_default();
    let port = body
        .get("port")
        .map(|port| format!(":{}", expr(port)))
        .unwrap_or_default();
    match body.get("addr") {
        Some(address) => format!("{name}{family} to {}{port}", expr(address)),
        None if !port.is_empty() => format!("{name} to {port}"),
        None => name.to_owned(),
    }
}
