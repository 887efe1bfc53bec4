//! What takes the drop away: the exact command for a plain rule, the owner's own way for an owned one.

use super::evaluate::Candidate;
use super::facts::PacketFacts;
use super::model::{Backend, Family, Hook, RuleRef};
use super::owner::{Owner, ServicePort, policies, service_without_endpoints};

/// In words, and as commands to run on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undo {
    pub summary: String,
    pub commands: Vec<String>,
}

/// How to let this packet pass.
pub fn undo(candidate: &Candidate, owner: Owner, facts: &PacketFacts) -> Undo {
    if let Some(service) = service_without_endpoints(candidate) {
        return without_endpoints(&service);
    }
    match owner {
        _ if owner.is_policy_engine() => policy(candidate, owner),
        Owner::Ufw => ufw(candidate, facts),
        Owner::Firewalld => firewalld(candidate, facts),
        Owner::Fail2ban => Undo {
            summary: format!("fail2ban has banned {}", facts.src),
            commands: vec![format!("fail2ban-client unban {}", facts.src)],
        },
        Owner::Docker if candidate.rule.is_some() => docker(candidate, facts),
        Owner::Plain | Owner::Docker | Owner::Libvirt => Undo {
            summary: place(candidate),
            commands: vec![command(candidate)],
        },
        _ => Undo {
            summary: format!(
                "{}; {} writes it again: change what it was made from, not the rule",
                place(candidate),
                owner.name()
            ),
            commands: Vec::new(),
        },
    }
}

/// `rule 3 of INPUT (table filter) drops it`
pub fn place(candidate: &Candidate) -> String {
    let Candidate {
        family,
        table,
        chain,
        ..
    } = candidate;
    let does = match candidate.fate {
        super::evaluate::Fate::Reject => "rejects it",
        super::evaluate::Fate::Drop => "drops it",
        super::evaluate::Fate::Translated => "translates its source",
        super::evaluate::Fate::Spared => "lets it go untranslated",
        super::evaluate::Fate::Handed => {
            "hands it to a program that does not take it or does not give it back"
        }
    };
    match (candidate.rule, &candidate.element) {
        (None, _) => format!(
            "the policy of chain {chain} (table {} {table}) {does}",
            family.name()
        ),
        (_, Some(element)) => {
            format!(
                "element {} of map {} (table {} {table}) {does}",
                element.key,
                element.map,
                family.name()
            )
        }
        (Some(RuleRef::Number(number)), None) => {
            format!("rule {number} of {chain} (table {table}) {does}")
        }
        (Some(RuleRef::Handle(handle)), None) => {
            format!(
                "rule handle {handle} of chain {chain} (table {} {table}) {does}",
                family.name()
            )
        }
    }
}

/// The exact command that removes the rule, or turns the policy.
pub fn command(candidate: &Candidate) -> String {
    let Candidate {
        family,
        table,
        chain,
        ..
    } = candidate;
    let iptables = program(candidate.backend, *family);
    let option = if table == "filter" {
        String::new()
    } else {
        format!("-t {table} ")
    };
    let target = format!("{} {} {}", family.name(), word(table), word(chain));
    match (candidate.rule, &candidate.element) {
        (None, _) if candidate.backend.is_iptables() => {
            format!("{iptables} {option}-P {chain} ACCEPT")
        }
        (None, _) => format!("nft chain {target} '{{ policy accept; }}'"),
        (Some(RuleRef::Number(number)), _) => {
            format!("{iptables} {option}-D {} {number}", word(chain))
        }
        (Some(RuleRef::Handle(_)), Some(element)) => {
            format!(
                "nft delete element {} {} {} '{{ {} }}'",
                family.name(),
                word(table),
                word(&element.map),
                element.key
            )
        }
        (Some(RuleRef::Handle(handle)), None) => {
            format!("nft delete rule {target} handle {handle}")
        }
    }
}

const fn program(backend: Backend, family: Family) -> &'static str {
    match (backend, family) {
        (Backend::Legacy, Family::Ip6) => "ip6tables-legacy",
        (Backend::Legacy, _) => "iptables-legacy",
        (_, Family::Ip6) => "ip6tables",
        _ => "iptables",
    }
}

/// A name as a shell takes it: chains of kube-proxy hold slashes, those of others may hold anything.
fn word(name: &str) -> String {
    if name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_./:".contains(c))
    {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

fn without_endpoints(service: &ServicePort) -> Undo {
    let ServicePort {
        namespace, name, ..
    } = service;
    let what = if service.local {
        "endpoints on this node (policy Local)"
    } else {
        "endpoints"
    };
    Undo {
        summary: format!("Service {namespace}/{name} has no {what}: make a pod it selects ready"),
        commands: vec![
            format!(
                "kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={name}"
            ),
            format!("kubectl -n {namespace} get service {name} -o wide"),
        ],
    }
}

fn policy(candidate: &Candidate, owner: Owner) -> Undo {
    let names = policies(candidate);
    let which = if names.is_empty() {
        String::new()
    } else {
        format!(" ({})", names.join(", "))
    };
    let mut commands = vec!["kubectl get networkpolicies --all-namespaces".to_owned()];
    match owner {
        Owner::Calico => commands
            .push("calicoctl get networkpolicy,globalnetworkpolicy --all-namespaces".to_owned()),
        Owner::Cilium => {
            commands.push("kubectl get ciliumnetworkpolicies --all-namespaces".to_owned());
        }
        _ => {}
    }
    Undo {
        summary: format!(
            "a network policy{which} forbids it, through {}: allow this traffic in a policy; never delete the rule",
            owner.name()
        ),
        commands,
    }
}

/// `tcp`, port, when it has one.
fn port(facts: &PacketFacts) -> Option<(String, u16)> {
    Some((facts.proto.to_string(), facts.dport?))
}

fn ufw(candidate: &Candidate, facts: &PacketFacts) -> Undo {
    let route = if candidate.hook == Hook::Forward {
        "route "
    } else {
        ""
    };
    let out = if candidate.hook == Hook::Output {
        "out "
    } else {
        ""
    };
    let command = match port(facts) {
        Some((proto, port)) if candidate.hook == Hook::Input => format!("ufw allow {port}/{proto}"),
        Some((proto, port)) => {
            format!("ufw {route}allow {out}proto {proto} from any to any port {port}")
        }
        None => format!("ufw {route}allow {out}from {} to {}", facts.src, facts.dst),
    };
    Undo {
        summary: format!("{}; it is ufw's: allow the traffic there", place(candidate)),
        commands: vec![command],
    }
}

fn firewalld(candidate: &Candidate, facts: &PacketFacts) -> Undo {
    let rule = match port(facts) {
        // Ports and services of a zone open INPUT; what is forwarded is decided by the zone it comes from.
        _ if candidate.hook == Hook::Forward => {
            format!("--zone=trusted --add-source={}", facts.src)
        }
        Some((proto, port)) => format!("--add-port={port}/{proto}"),
        None => format!(
            "--add-rich-rule='rule family={} source address={} accept'",
            version(facts),
            facts.src
        ),
    };
    Undo {
        summary: format!(
            "{}; it is firewalld's: allow the traffic there",
            place(candidate)
        ),
        commands: vec![
            format!("firewall-cmd {rule}"),
            format!("firewall-cmd --permanent {rule}"),
        ],
    }
}

const fn version(facts: &PacketFacts) -> &'static str {
    if facts.is_ipv6() { "ipv6" } else { "ipv4" }
}

fn docker(candidate: &Candidate, facts: &PacketFacts) -> Undo {
    let iptables = program(candidate.backend, candidate.family);
    let ports = port(facts).map_or_else(String::new, |(proto, port)| {
        format!(" -p {proto} --dport {port}")
    });
    Undo {
        summary: format!(
            "{}; dockerd writes it again: allow the traffic in DOCKER-USER",
            place(candidate)
        ),
        commands: vec![format!(
            "{iptables} -I DOCKER-USER -s {} -d {}{ports} -j ACCEPT",
            facts.src, facts.dst
        )],
    }
}
