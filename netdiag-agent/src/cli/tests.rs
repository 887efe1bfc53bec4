use std::ffi::OsString;
use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::identity::pods::{Wanted, WorkloadKind};

fn config(line: &str) -> Result<Config, Error> {
    let args = std::iter::once("netdiag").chain(line.split_whitespace());
    parse(args.map(OsString::from))
}

fn trace(line: &str) -> Trace {
    match config(line)
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .command
    {
        Command::Trace(trace) => trace,
        other => panic!("{line}: {other:?}"),
    }
}

/// The one line an input error prints.
fn fault(line: &str) -> String {
    let error = config(line).expect_err(line);
    assert_eq!(error.exit_code(), exit::INPUT, "{line}");
    match error {
        Error::Input(fault) => {
            assert!(!fault.contains('\n'), "{fault}");
            fault
        }
        Error::Grammar(error) => error.render().to_string(),
    }
}

fn to(text: &str) -> Destination {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_trace_has_sensible_defaults() {
    let trace = trace("trace --netns web");
    assert_eq!(trace.subject, Subject::NetnsName("web".to_owned()));
    assert_eq!(trace.until, Until::Elapsed(Duration::from_secs(30)));
    assert_eq!(trace.no_answer, Span::millis(3000));
    assert_eq!(trace.output.name, "table");
    assert_eq!((trace.to, trace.record, trace.verbose), (None, None, false));
}

#[test]
fn every_option_of_trace_arrives() {
    let trace = trace(
        "trace --netns /proc/7/ns/net --uplink eth0 --uplink eth1 --to :443 --no-answer 500ms -o jsonl \
         --record out.ndjson -v --duration 2m -- curl -v http://x",
    );
    assert_eq!(trace.subject, Subject::NetnsPath("/proc/7/ns/net".into()));
    assert_eq!(trace.uplinks, ["eth0", "eth1"]);
    assert_eq!(
        trace.to,
        Some(Destination {
            host: Host::Any,
            port: Some(443)
        })
    );
    assert_eq!(trace.no_answer, Span::millis(500));
    assert_eq!(trace.output.name, "jsonl");
    assert_eq!(trace.record, Some("out.ndjson".into()));
    assert!(trace.verbose);
    let command = ["curl", "-v", "http://x"].map(OsString::from).to_vec();
    assert_eq!(
        trace.until,
        Until::CommandEnded {
            command,
            limit: Some(Duration::from_mins(2))
        }
    );
}

#[test]
fn subjects_and_ends_are_read() {
    assert_eq!(trace("trace --pid 7 -f").subject, Subject::Pid(7));
    assert_eq!(trace("trace --pid 7 -f").until, Until::Interrupted);
    assert_eq!(
        trace("trace --interface eth0").subject,
        Subject::Interface("eth0".to_owned())
    );
    let ended = Until::CommandEnded {
        command: vec!["true".into()],
        limit: None,
    };
    assert_eq!(trace("trace --pid 7 -- true").until, ended);
}

#[test]
fn pods_are_asked_for_in_their_own_words() {
    let query = |line: &str| match trace(line).subject {
        Subject::Pods(query, sources) => (query, sources),
        other => panic!("{line}: {other:?}"),
    };
    let (pod, sources) =
        query("trace pod/web-0 -n shop --kubeconfig c --runtime-endpoint unix:///s -f");
    assert_eq!(pod.wanted, Wanted::Pod("web-0".to_owned()));
    assert_eq!(pod.namespace.as_deref(), Some("shop"));
    assert_eq!(sources.kubeconfig, Some("c".into()));
    assert_eq!(sources.runtime.as_deref(), Some("unix:///s"));
    let (labels, sources) = query("trace -l app=web,!canary");
    assert_eq!(labels.wanted, Wanted::labels("app=web,!canary").unwrap());
    assert_eq!((labels.namespace, sources), (None, Sources::default()));
    let (workload, _) = query("trace deploy/web");
    let deployment = Wanted::Workload(WorkloadKind::Deployment, "web".to_owned());
    assert_eq!(workload.wanted, deployment);
}

#[test]
fn global_options_stand_anywhere() {
    let config = config("schema --color never --log-level debug").unwrap();
    assert_eq!(
        (config.color, config.log_level),
        (ColorChoice::Never, LevelFilter::DEBUG)
    );
    assert_eq!(config.command, Command::Schema);
}

#[test]
fn grammar_mistakes_are_named_in_one_line() {
    assert!(fault("trace").contains("nothing to follow"));
    assert!(fault("trace --netns a --pid 1").contains("more than one thing"));
    assert!(fault("trace pod/web --interface eth0").contains("more than one thing"));
    assert!(fault("trace pod/web -l app=web").contains("more than one thing"));
    assert!(fault("trace web -n shop").contains("pod/web"));
    assert!(fault("trace -l app=a=b").contains("-l"));
    assert!(fault("trace --pid 1 -f --duration 3s").contains("-f"));
    assert!(fault("trace --pid 1 -f -- true").contains("COMMAND"));
    assert!(fault("trace --netns= ").contains("--netns"));
}

#[test]
fn bad_values_are_refused_with_the_option_named() {
    for (line, option) in [
        ("trace --pid 0", "--pid"),
        ("trace --pid x", "--pid"),
        ("trace --pid 1 --duration 0s", "--duration"),
        ("trace --pid 1 --duration 5", "--duration"),
        ("trace --pid 1 --duration -5s", "--duration"),
        ("trace --pid 1 --no-answer soon", "--no-answer"),
        ("trace --pid 1 --no-answer 9999999h", "--no-answer"),
        ("trace --pid 1 -o xml", "--output"),
        ("trace --pid 1 --to a:b:c", "--to"),
        ("trace --pid 1 --to svc/Web", "--to"),
        ("trace --pid 1 --to svc/a.b.c", "--to"),
        ("doctor -o jsonl", "--output"),
        ("replay", "FILE"),
        ("frobnicate", "frobnicate"),
    ] {
        assert!(fault(line).contains(option), "{line}: {}", fault(line));
    }
}

#[test]
fn help_and_version_are_no_error() {
    for line in ["--help", "--version", "trace --help"] {
        assert_eq!(
            config(line).expect_err(line).exit_code(),
            exit::HEALTHY,
            "{line}"
        );
    }
}

#[test]
fn destinations_are_read() {
    let address = |text: &str| Host::Address(text.parse::<IpAddr>().unwrap());
    let name = |text: &str| Host::Name(text.to_owned());
    for (text, host, port) in [
        ("192.0.2.1", address("192.0.2.1"), None),
        ("192.0.2.1:443", address("192.0.2.1"), Some(443)),
        ("2001:db8::1", address("2001:db8::1"), None),
        ("[2001:db8::1]", address("2001:db8::1"), None),
        ("[2001:db8::1]:53", address("2001:db8::1"), Some(53)),
        ("::ffff:192.0.2.1", address("192.0.2.1"), None),
        (":8080", Host::Any, Some(8080)),
        ("example.com", name("example.com"), None),
        ("example.com.:443", name("example.com."), Some(443)),
        ("localhost:1", name("localhost"), Some(1)),
    ] {
        assert_eq!(to(text), Destination { host, port }, "{text}");
    }
}

#[test]
fn things_of_the_cluster_are_read() {
    for (text, kind, name, port_name, port) in [
        ("svc/web", ObjectKind::Service, "web", None, None),
        (
            "service/web.shop:80",
            ObjectKind::Service,
            "web.shop",
            None,
            Some(80),
        ),
        (
            "svc/web.shop.svc.cluster.local:http",
            ObjectKind::Service,
            "web.shop",
            Some("http"),
            None,
        ),
        (
            "pod/db-0.shop:5432",
            ObjectKind::Pod,
            "db-0.shop",
            None,
            Some(5432),
        ),
        (
            "po/kube-proxy-node.example.com",
            ObjectKind::Pod,
            "kube-proxy-node.example.com",
            None,
            None,
        ),
    ] {
        let host = Host::Object(Object {
            kind,
            name: name.to_owned(),
            port_name: port_name.map(str::to_owned),
        });
        assert_eq!(to(text), Destination { host, port }, "{text}");
    }
    assert_eq!(
        to("services/web.shop:http").to_string(),
        "svc/web.shop:http"
    );
}

#[test]
fn nonsense_destinations_are_refused() {
    for text in [
        "",
        ":",
        ":0",
        ":65536",
        ":http",
        "host:",
        "host:+5",
        "1.2.3",
        "300.1.1.1",
        "1.2.3.4.5",
        "[::1",
        "[::1]5",
        "[1.2.3.4]:5",
        "[x]:5",
        ":::",
        "a b",
        "a..b",
        "-a",
        "http://x",
        "x/y",
        "svc/",
        "svc/web:",
        "svc/web:0",
        "svc/a.b.c",
        "pod/a..b",
        "ü",
        "a,b",
    ] {
        let error = text.parse::<Destination>().expect_err(text);
        assert!(
            !error.contains('\n') && !error.is_empty(),
            "{text}: {error}"
        );
    }
    let long = "a.".repeat(200);
    assert!(long.parse::<Destination>().is_err());
}

#[test]
fn names_become_addresses() {
    assert_eq!(
        to("192.0.2.1:1").addresses().unwrap(),
        ["192.0.2.1".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(to(":1").addresses().unwrap(), Vec::<IpAddr>::new());
    assert!(
        to("localhost")
            .addresses()
            .unwrap()
            .iter()
            .all(IpAddr::is_loopback)
    );
    // RFC 6761: never resolves.
    let error = to("nothing.invalid:1").addresses().unwrap_err().to_string();
    assert!(
        error.contains("nothing.invalid") && !error.contains('\n'),
        "{error}"
    );
}
