//! Verdicts read back from a store or an agent: one row each.

use std::net::{IpAddr, SocketAddr};

use comfy_table::{Attribute, Cell, Color, Table, presets};

use super::record::{Action, Confidence, Endpoint, FlowVerdict, HopName, L4, Outcome};
use super::style::Mark;
use super::{Style, words};

const COLUMNS: [&str; 8] = [
    "", "TIME", "FLOW", "OUTCOME", "CAUSE", "DIED", "SURE", "PROTO",
];

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    outcome: Outcome,
    cells: [String; 7],
}

impl Row {
    pub fn of(verdict: &FlowVerdict, style: Style) -> Self {
        let (proto, ports) = transport(verdict.l4.as_ref());
        let source = end(
            name(&verdict.source),
            verdict.ip.source,
            ports.map(|ports| ports.0),
        );
        let destination = end(
            cluster_name(&verdict.destination),
            verdict.ip.destination,
            ports.map(|ports| ports.1),
        );
        let confidence = match verdict.confidence {
            Confidence::Proven => "proven",
            Confidence::Inferred => "inferred",
            Confidence::Unknown => "unknown",
        };
        // Whole seconds: who needs more has the JSON.
        let time: String = verdict.time.0.chars().take(19).collect();
        Self {
            outcome: verdict.outcome,
            cells: [
                time + "Z",
                words::clean(&format!("{source} {} {destination}", style.arrow()), style),
                words::outcome(verdict.outcome.into()).to_owned(),
                words::clean(verdict.cause.as_deref().unwrap_or_default(), style),
                died(verdict, style),
                confidence.to_owned(),
                proto.to_owned(),
            ],
        }
    }
}

/// All rows under one heading; the empty text when there are none.
pub fn table(rows: &[Row], style: Style) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if style.rich {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    let heading = |name: &&str| Cell::new(name).add_attribute(Attribute::Dim);
    table.set_header(COLUMNS.iter().map(heading));
    for row in rows {
        let (mark, color) = match row.outcome {
            Outcome::Delivered => (Mark::Good, Color::DarkGreen),
            Outcome::Undetermined => (Mark::Doubt, Color::DarkYellow),
            _ => (Mark::Bad, Color::DarkRed),
        };
        let mut cells = vec![Cell::new(style.mark(mark)).fg(color)];
        cells.extend(row.cells.iter().map(Cell::new));
        table.add_row(cells);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

fn transport(l4: Option<&L4>) -> (&'static str, Option<(u16, u16)>) {
    match l4 {
        Some(L4::Tcp(tcp)) => ("tcp", tcp.source_port.zip(tcp.destination_port)),
        Some(L4::Udp(udp)) => ("udp", udp.source_port.zip(udp.destination_port)),
        Some(L4::Sctp(sctp)) => ("sctp", sctp.source_port.zip(sctp.destination_port)),
        Some(L4::Icmpv4(_)) => ("icmp", None),
        Some(L4::Icmpv6(_)) => ("icmpv6", None),
        None => ("", None),
    }
}

/// By name where there is one.
fn end(name: Option<String>, address: IpAddr, port: Option<u16>) -> String {
    match (name, port) {
        (Some(name), Some(port)) => format!("{name}:{port}"),
        (Some(name), None) => name,
        (None, Some(port)) => SocketAddr::new(address, port).to_string(),
        (None, None) => address.to_string(),
    }
}

fn name(endpoint: &Endpoint) -> Option<String> {
    cluster_name(endpoint)
        .or_else(|| endpoint.netns.clone())
        .or_else(|| endpoint.node_name.clone())
        .or_else(|| endpoint.host.then(|| "node".to_owned()))
}

/// What the cluster calls it.
fn cluster_name(endpoint: &Endpoint) -> Option<String> {
    if let Some(service) = &endpoint.service {
        return Some(format!("svc {}/{}", service.namespace, service.name));
    }
    if let Some(pod) = &endpoint.pod_name {
        let namespace = endpoint.namespace.as_ref();
        return Some(namespace.map_or_else(|| pod.clone(), |space| format!("{space}/{pod}")));
    }
    None
}

fn died(verdict: &FlowVerdict, style: Style) -> String {
    if !is_failing(verdict.outcome) {
        return String::new();
    }
    let dropped = verdict
        .hops
        .iter()
        .rev()
        .find(|hop| hop.action == Action::Dropped);
    let place = match (dropped, verdict.died_between) {
        (Some(hop), _) => spelling(hop.name),
        (None, Some([last, _])) if verdict.outcome == Outcome::LeftNodeNoAnswer => {
            format!("after {}", spelling(last))
        }
        (None, Some([last, next])) => {
            format!("{} {} {}", spelling(last), style.arrow(), spelling(next))
        }
        (None, None) => return String::new(),
    };
    let way_back = if verdict.is_reply { "reply, " } else { "" };
    format!("{way_back}{place}")
}

fn spelling(hop: HopName) -> String {
    match serde_json::to_value(hop) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// See DESIGN §5: those that make the exit code 1.
pub const fn is_failing(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Delivered | Outcome::Undetermined)
}

const OUTCOMES: [Outcome; 7] = [
    Outcome::Delivered,
    Outcome::Refused,
    Outcome::DroppedHere,
    Outcome::LeftNodeNoAnswer,
    Outcome::NeverArrived,
    Outcome::ReplyLost,
    Outcome::Undetermined,
];

/// An outcome by its name in the JSON, in either case; `failing` stands for all that are.
pub fn outcomes(text: &str) -> Result<Vec<Outcome>, String> {
    if text.eq_ignore_ascii_case("failing") {
        return Ok(OUTCOMES
            .into_iter()
            .filter(|outcome| is_failing(*outcome))
            .collect());
    }
    let name = serde_json::Value::String(text.to_ascii_uppercase());
    serde_json::from_value(name)
        .map(|outcome| vec![outcome])
        .map_err(|_| {
            let names: Vec<String> = OUTCOMES
                .iter()
                .filter_map(|outcome| serde_json::to_value(outcome).ok())
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect();
            format!(
                "there is no outcome '{text}'; there are failing, {}",
                names.join(", ")
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixtures;
    use crate::verdict;

    #[test]
    fn a_row_says_what_the_trace_said() {
        let verdicts = [fixtures::firewall_drop(), fixtures::delivered()];
        let context = fixtures::context();
        let rows: Vec<Row> = verdicts
            .iter()
            .map(|verdict| Row::of(&FlowVerdict::from((verdict, &context)), Style::PLAIN))
            .collect();
        let text = table(&rows, Style::PLAIN);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        for (line, verdict) in lines[1..].iter().zip(&verdicts) {
            let flow = words::flow_short(verdict, &context, Style::PLAIN);
            let (_, destination) = flow.split_once(' ').unwrap();
            assert!(
                line.contains(destination) && line.contains(words::outcome(verdict.outcome)),
                "{text}"
            );
        }
        assert!(
            lines[1].starts_with('X') && lines[1].contains("HOST_FIREWALL_DROP"),
            "{text}"
        );
    }

    #[test]
    fn failing_means_the_same_here_as_in_the_core() {
        for outcome in [
            verdict::Outcome::Delivered,
            verdict::Outcome::Refused,
            verdict::Outcome::DroppedHere,
            verdict::Outcome::LeftNodeNoAnswer,
            verdict::Outcome::NeverArrived,
            verdict::Outcome::ReplyLost,
            verdict::Outcome::Undetermined,
        ] {
            assert_eq!(is_failing(outcome.into()), outcome.is_failing());
        }
    }
}
