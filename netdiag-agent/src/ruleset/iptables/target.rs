//! What a rule does with the packets that meet its matches.

use super::super::model::{Effect, Nat, Step, Target};
use super::values::mark;
use super::words::{Jump, Opt, Parts};

/// Extensions that let the packet go on to the next rule.
const PASSING: &[&str] = &[
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DNPT",
    "DSCP",
    "ECN",
    "HL",
    "HMARK",
    "IDLETIMER",
    "LED",
    "LOG",
    "MARK",
    "NFLOG",
    "NOTRACK",
    "RATEEST",
    "SECMARK",
    "SET",
    "SNPT",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TRACE",
    "TTL",
    "ULOG",
];

/// Effects of the target, and where it leads.
pub fn read(parts: &Parts<'_>, is_chain: impl Fn(&str) -> bool) -> (Vec<Step>, Target) {
    let Some(jump) = &parts.target else {
        return (Vec::new(), Target::Continue);
    };
    if is_chain(&jump.name) {
        let chain = jump.name.as_ref().into();
        return (
            Vec::new(),
            if jump.goto {
                Target::Goto(chain)
            } else {
                Target::Jump(chain)
            },
        );
    }
    let target = match verdict(&jump.name) {
        Target::Reject(_) => Target::Reject(
            option(jump, "--reject-with").map_or(String::new(), |o| o.arg().to_owned()),
        ),
        other => other,
    };
    (effect(jump).map(Step::Effect).into_iter().collect(), target)
}

/// The same of a target known by its name alone.
pub fn named(name: &str) -> (Vec<Effect>, Target) {
    let (mark, connection_mark) = (
        Effect::MarkUnknown { mask: u32::MAX },
        Effect::CtMarkUnknown { mask: u32::MAX },
    );
    let effects = match name {
        "MARK" => vec![mark],
        // It saves the one or restores the other.
        "CONNMARK" => vec![mark, connection_mark],
        "NOTRACK" => vec![Effect::NoTrack],
        _ => Vec::new(),
    };
    (effects, verdict(name))
}

fn verdict(name: &str) -> Target {
    match name {
        "ACCEPT" => Target::Accept,
        "DROP" => Target::Drop,
        "RETURN" => Target::Return,
        "REJECT" => Target::Reject(String::new()),
        "QUEUE" | "NFQUEUE" => Target::Queue,
        "SNAT" => Target::Nat(Nat::Source),
        "DNAT" | "NETMAP" => Target::Nat(Nat::Destination),
        "MASQUERADE" => Target::Nat(Nat::Masquerade),
        "REDIRECT" => Target::Nat(Nat::Redirect),
        name if PASSING.contains(&name) => Target::Continue,
        name => Target::Unknown(name.to_owned()),
    }
}

fn option<'j, 'a>(jump: &'j Jump<'a>, name: &str) -> Option<&'j Opt<'a>> {
    jump.options.iter().find(|option| option.name == name)
}

fn effect(jump: &Jump<'_>) -> Option<Effect> {
    match jump.name.as_ref() {
        "MARK" => Some(
            match option(jump, "--set-xmark").and_then(|option| mark(option.arg())) {
                Some((value, mask)) => Effect::Mark {
                    and: !mask,
                    xor: value,
                },
                None => Effect::MarkUnknown { mask: u32::MAX },
            },
        ),
        "CONNMARK" => Some(connmark(jump)),
        "NOTRACK" => Some(Effect::NoTrack),
        "CT" if option(jump, "--notrack").is_some() => Some(Effect::NoTrack),
        _ => None,
    }
}

fn connmark(jump: &Jump<'_>) -> Effect {
    if let Some((value, mask)) = option(jump, "--set-xmark").and_then(|option| mark(option.arg())) {
        return Effect::CtMark {
            and: !mask,
            xor: value,
        };
    }
    let bits = |name| {
        option(jump, name)
            .and_then(|option| mark(option.arg()))
            .map_or(u32::MAX, |(mask, _)| mask)
    };
    let mask = bits("--nfmask") | bits("--ctmask");
    if option(jump, "--restore-mark").is_some() {
        Effect::MarkUnknown { mask }
    } else {
        Effect::CtMarkUnknown { mask }
    }
}
