//! One flow in full: its path hop by hop, where it died, why, how sure, and what to do.

use std::fmt::Write;

use super::style::{Mark, Tone, wrap};
use super::words::{self, clean};
use super::{Context, Options, Style};
use crate::verdict::{Action, BLIND_SPOT, Hop, HopName, Nat, RULES, Verdict};

/// Width of the column with `why`, `evidence`, `do`.
const LABEL: usize = 10;
const INDENT: usize = 2;

/// The mark of a flow.
pub(super) const fn mark(verdict: &Verdict) -> Mark {
    match verdict.outcome {
        crate::verdict::Outcome::Delivered => Mark::Good,
        crate::verdict::Outcome::Undetermined => Mark::Doubt,
        _ => Mark::Bad,
    }
}

/// The whole block, `alike` more flows having ended the same way.
pub(super) fn block(
    verdict: &Verdict,
    context: &Context,
    options: Options,
    alike: &[u16],
) -> String {
    let style = options.style;
    let mut page = Page {
        style,
        text: String::new(),
    };
    page.heading(verdict, context, alike);
    page.path(verdict);
    page.reasons(verdict);
    if options.verbose && !verdict.history.is_empty() {
        page.line("");
        page.line(&format!("  {}", style.paint(Tone::Dim, "events")));
        for event in &verdict.history {
            page.line(&format!(
                "    {}",
                style.paint(Tone::Dim, &clean(event, style))
            ));
        }
    }
    page.text
}

struct Page {
    style: Style,
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn heading(&mut self, verdict: &Verdict, context: &Context, alike: &[u16]) {
        let style = self.style;
        let mark = mark(verdict);
        let flow = clean(&words::flow_long(verdict, context, style), style);
        let proto = verdict.tuple.proto;
        self.line(&format!(
            "{} {} {proto}",
            style.painted_mark(mark),
            style.paint(Tone::Strong, &flow)
        ));
        let headline = style.paint(mark.tone(), &words::headline(verdict));
        let sure = match verdict.cause {
            Some(cause) => format!("{cause}, {}", words::confidence(verdict.confidence)),
            None => words::confidence(verdict.confidence).to_owned(),
        };
        self.line(&format!("  {headline} ({sure})"));
        if let Some(remediation) = &verdict.remediation {
            for line in wrap(&clean(&remediation.summary, style), style.width, INDENT) {
                self.line(&format!("  {}", style.paint(Tone::Strong, &line)));
            }
        }
        if !alike.is_empty() {
            let flows = words::plural(alike.len() as u64, "more flow");
            self.line(&format!(
                "  and so did {flows} to the same place{}",
                ports(alike)
            ));
        }
        self.line("");
    }

    fn path(&mut self, verdict: &Verdict) {
        let longest = verdict
            .hops
            .iter()
            .map(|hop| words::hop_name(hop.name).len())
            .max();
        let two_way = verdict.hops.iter().any(|hop| hop.reply);
        let mut told = vec![false; verdict.nat.len()];
        for hop in &verdict.hops {
            let nats = translations(verdict, hop, &mut told);
            let direction = match (two_way, hop.reply) {
                (false, _) => "",
                (true, false) => self.style.onward(),
                (true, true) => self.style.back(),
            };
            self.hop(hop, direction, longest.unwrap_or(0), &nats);
        }
        for (nat, told) in verdict.nat.iter().zip(told) {
            if !told {
                let text = translation(nat, self.style);
                self.line(&format!("      {text} at {}", words::hop_name(nat.hop)));
            }
        }
        if !verdict.hops.is_empty() {
            self.line("");
        }
    }

    /// The hop, and below it the thing that did it.
    fn hop(&mut self, hop: &Hop, direction: &str, width: usize, nats: &[&Nat]) {
        let style = self.style;
        let name = format!("{:width$}", words::hop_name(hop.name));
        let name = match hop.action {
            Action::Dropped => style.paint(Tone::Bad, &name),
            Action::NotSeen | Action::NotObservable => style.paint(Tone::Dim, &name),
            Action::Seen | Action::Translated => name,
        };
        let mark = style.painted_mark(hop_mark(hop.action));
        let what = clean(&what_happened(hop, nats, style), style);
        self.line(&format!("    {mark} {direction}{name}  {what}"));
        if let Some(component) = &hop.component {
            let indent = 6 + direction.chars().count() + width + 2;
            for line in wrap(
                &clean(&words::component(component), style),
                style.width,
                indent,
            ) {
                self.line(&format!("{}{line}", " ".repeat(indent)));
            }
        }
    }

    fn reasons(&mut self, verdict: &Verdict) {
        if let Some(rule) = RULES
            .iter()
            .find(|rule| Some(rule.cause()) == verdict.cause)
        {
            self.prose("why", &[rule.page().in_one_sentence().to_owned()]);
        }
        let evidence: Vec<String> = verdict
            .evidence
            .iter()
            .map(|evidence| {
                let (text, source) = words::evidence(evidence);
                format!("{text} [{source}]")
            })
            .collect();
        self.prose("evidence", &evidence);
        let suspects: Vec<String> = verdict
            .suspects
            .iter()
            .zip(1..)
            .map(|(suspect, rank)| format!("{rank}. {}: {}", suspect.name, suspect.reason))
            .collect();
        self.prose("suspects", &suspects);
        let own = |caveat: &&String| !caveat.starts_with(BLIND_SPOT);
        let mut caveats: Vec<String> = verdict.caveats.iter().filter(own).cloned().collect();
        let told = caveats.iter().any(|caveat| caveat.contains("lost"));
        if verdict.lost_events > 0 && !told {
            let events = words::plural(verdict.lost_events, "event");
            caveats.push(format!("{events} lost while this flow lived"));
        }
        self.prose("caveats", &caveats);
        if let Some(remediation) = &verdict.remediation {
            self.commands(&remediation.commands);
        }
    }

    /// Never wrapped: they are there to be copied.
    fn commands(&mut self, commands: &[String]) {
        let mut label = format!("{:LABEL$}", "do");
        for command in commands {
            let shown = self.style.paint(Tone::Dim, &label);
            let command = self.style.paint(Tone::Strong, &clean(command, self.style));
            self.line(&format!("{}{shown}$ {command}", " ".repeat(INDENT)));
            label = " ".repeat(LABEL);
        }
    }

    /// A label, and its items one below the other.
    fn prose(&mut self, label: &str, items: &[String]) {
        let mut label = format!("{label:LABEL$}");
        for item in items {
            for (number, line) in wrap(
                &clean(item, self.style),
                self.style.width,
                INDENT + LABEL + 2,
            )
            .iter()
            .enumerate()
            {
                let hang = if number > 0 { "  " } else { "" };
                let shown = self.style.paint(Tone::Dim, &label);
                self.line(&format!("{}{shown}{hang}{line}", " ".repeat(INDENT)));
                label = " ".repeat(LABEL);
            }
        }
    }
}

const fn hop_mark(action: Action) -> Mark {
    match action {
        Action::Seen | Action::Translated => Mark::Good,
        Action::Dropped => Mark::Bad,
        Action::NotSeen | Action::NotObservable => Mark::Nothing,
    }
}

/// The translations this hop made, each told once.
fn translations<'a>(verdict: &'a Verdict, hop: &Hop, told: &mut [bool]) -> Vec<&'a Nat> {
    let mut here = Vec::new();
    for (nat, told) in verdict.nat.iter().zip(told) {
        if !*told && nat.hop == hop.name && !hop.reply {
            *told = true;
            here.push(nat);
        }
    }
    here
}

fn translation(nat: &Nat, style: Style) -> String {
    format!(
        "{} {} {} {}",
        words::nat_kind(nat.kind),
        nat.before,
        style.arrow(),
        nat.after
    )
}

fn what_happened(hop: &Hop, nats: &[&Nat], style: Style) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(hop.interface.as_deref().map(str::to_owned));
    parts.extend(nats.iter().map(|nat| translation(nat, style)));
    let count = (hop.count > 0).then(|| words::packets(hop.count));
    match hop.action {
        Action::Seen | Action::Translated => parts.extend(count),
        Action::Dropped => {
            parts.push(count.map_or("died here".to_owned(), |count| count + " died here"));
        }
        Action::NotSeen => parts.push("not seen".to_owned()),
        Action::NotObservable if hop.name == HopName::Fabric => {
            parts.push("beyond this node".to_owned());
        }
        Action::NotObservable => parts.push("cannot be seen".to_owned()),
    }
    parts.join(", ")
}

/// `: source ports 41824, 41826 …`
fn ports(ports: &[u16]) -> String {
    const SHOWN: usize = 8;
    if ports.contains(&0) {
        return String::new();
    }
    let mut text = String::from(": source port");
    text += if ports.len() == 1 { " " } else { "s " };
    for (index, port) in ports.iter().take(SHOWN).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{port}");
    }
    if ports.len() > SHOWN {
        text += ", ...";
    }
    text
}
