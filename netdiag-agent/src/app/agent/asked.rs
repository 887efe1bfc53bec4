//! From a request for a trace to what is to be traced.

use std::path::Path;

use crate::agent::api::Ask;
use crate::app::running::{Order, Scope};
use crate::app::trace;
use crate::cli::{Destination, Host, Subject};
use crate::engine;
use crate::event::Span;
use crate::identity::kube::names::Wanted as Names;
use crate::identity::pods::{Query, Sources, Wanted};

/// Also what it is called. The error is one line for the caller.
pub(super) fn order(
    ask: &Ask,
    kubeconfig: Option<&Path>,
) -> Result<(String, Order, Subject), String> {
    let (name, subject) = subject(ask, kubeconfig)?;
    let to = ask.to.as_deref().map(str::parse::<Destination>).transpose();
    let to = to.map_err(|why| format!("to: {why}"))?;
    let targets = match to.as_ref().map(|to| (&to.host, to.port)) {
        None => Vec::new(),
        Some((Host::Any, port)) => vec![(None, port)],
        Some((Host::Address(address), port)) => vec![(Some(*address), port)],
        Some((Host::Name(_) | Host::Object(_), _)) => {
            return Err("to: give an address and a port; names are not looked up here".to_owned());
        }
    };
    let name = to.map_or_else(|| name.clone(), |to| format!("{name} to {to}"));
    let config = ask
        .no_answer
        .map_or_else(engine::Config::default, |span| engine::Config {
            no_answer: Span(span.0.as_nanos() as u64),
        });
    let order = Order {
        selector: trace::selector(&subject, &ask.uplinks),
        targets,
        config,
        scope: Scope::Target,
        snap: false,
        max_tier: None,
        explain_rule: false,
        names: Some(Names::of_process(kubeconfig)),
        follower: None,
    };
    Ok((name, order, subject))
}

fn subject(ask: &Ask, kubeconfig: Option<&Path>) -> Result<(String, Subject), String> {
    let pods = |wanted: Wanted| {
        let query = Query {
            wanted,
            namespace: ask.namespace.clone(),
        };
        let sources = Sources {
            kubeconfig: kubeconfig.map(Path::to_owned),
            runtime: None,
        };
        Subject::Pods(query, sources)
    };
    let mut given = Vec::new();
    if let Some(netns) = &ask.netns {
        let subject = match netns.as_str() {
            "" => return Err("netns: wanted is a name below /run/netns or a path".to_owned()),
            path if path.contains('/') => Subject::NetnsPath(path.into()),
            name => Subject::NetnsName(name.to_owned()),
        };
        given.push((format!("netns {netns}"), subject));
    }
    if let Some(pid) = ask.pid {
        given.push((format!("pid {pid}"), Subject::Pid(pid)));
    }
    if let Some(interface) = &ask.interface {
        let subject = Subject::Interface(interface.clone());
        given.push((format!("interface {interface}"), subject));
    }
    if let Some(pod) = &ask.pod {
        let wanted = Wanted::parse(pod).map_err(|why| format!("pod: {why}"))?;
        given.push((pod.clone(), pods(wanted)));
    }
    if let Some(labels) = &ask.labels {
        let wanted = Wanted::labels(labels).map_err(|why| format!("labels: {why}"))?;
        given.push((format!("pods {labels}"), pods(wanted)));
    }
    match (given.pop(), given.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err("give one of pod, labels, netns, pid and interface".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str) -> Result<(String, Order, Subject), String> {
        order(&serde_json::from_str(json).unwrap(), None)
    }

    #[test]
    fn a_request_means_what_the_same_options_of_trace_mean() {
        let (name, order, subject) =
            asked(r#"{"netns":"web","to":"10.0.0.1:80","uplinks":["eth0"],"no_answer":"1s"}"#)
                .unwrap();
        assert_eq!(name, "netns web to 10.0.0.1:80");
        assert_eq!(subject, Subject::NetnsName("web".to_owned()));
        assert_eq!(
            order.targets,
            [(Some("10.0.0.1".parse().unwrap()), Some(80))]
        );
        assert_eq!(order.config.no_answer, Span::millis(1000));
        assert_eq!(order.selector.uplinks, ["eth0"]);
        let (name, _, subject) = asked(r#"{"pod":"pod/web-1","namespace":"shop"}"#).unwrap();
        assert!(matches!(subject, Subject::Pods(..)), "{name}: {subject:?}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_one_line() {
        for (json, wanted) in [
            ("{}", "give one of"),
            (r#"{"pid":1,"netns":"web"}"#, "give one of"),
            (r#"{"netns":""}"#, "netns"),
            (r#"{"labels":"app in (web"}"#, "labels"),
            (r#"{"pid":1,"to":"10.0.0.1:http"}"#, "to:"),
            (r#"{"pid":1,"to":"example.com:80"}"#, "to:"),
        ] {
            let why = asked(json)
                .err()
                .unwrap_or_else(|| panic!("{json} is refused"));
            assert!(why.contains(wanted) && !why.contains('\n'), "{json}: {why}");
        }
    }
}
