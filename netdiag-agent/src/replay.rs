//! A recording through the engine: the verdicts of the trace that wrote it, without privilege and without kernel.

use std::io::BufRead;
use std::path::Path;

use crate::engine::{Engine, Input};
use crate::event::Ktime;
use crate::inventory::{Delta, Inventory};
use crate::recording::{Error, Limits, Reader};
use crate::verdict::Verdict;

/// Replays a recording; `decided` gets each verdict with what was known of the node when it was decided.
///
/// A recording that breaks off, because the trace was killed or the file was cut, is replayed as far as it goes: its
/// flows are decided as if the trace had ended there. Where it broke off within a line, that is then the error.
pub fn replay<R: BufRead>(
    reader: Reader<R>,
    decided: impl FnMut(&Verdict, &Inventory),
) -> Result<(), Error> {
    let (_, end) = engine_after(reader, decided);
    end
}

/// As [`replay`], with the engine as it is when all is decided.
pub fn engine_after<R: BufRead>(
    reader: Reader<R>,
    mut decided: impl FnMut(&Verdict, &Inventory),
) -> (Engine, Result<(), Error>) {
    let mut engine = Engine::new(reader.config());
    let mut step = |input: Input| {
        for verdict in engine.step(input) {
            decided(&verdict, engine.inventory());
        }
    };
    let mut latest = Ktime::default();
    let mut stopped = false;
    let mut fault = None;
    for input in reader {
        match input {
            Ok(input) => {
                latest = latest.max(time_of(&input).unwrap_or(latest));
                stopped = matches!(input, Input::Stop(_));
                step(input);
            }
            Err(error) => fault = Some(error),
        }
    }
    if !stopped {
        step(Input::Stop(latest));
    }
    (engine, fault.map_or(Ok(()), Err))
}

/// All verdicts of a recording, every revision of each.
pub fn verdicts(path: &Path) -> Result<Vec<Verdict>, Error> {
    let mut verdicts = Vec::new();
    replay(Reader::open(path, Limits::default())?, |verdict, _| {
        verdicts.push(verdict.clone());
    })?;
    Ok(verdicts)
}

fn time_of(input: &Input) -> Option<Ktime> {
    match input {
        Input::Event(event) => Some(event.at),
        Input::Inventory(Delta::Counters { at, .. } | Delta::Cluster { at, .. })
        | Input::Lost { at, .. }
        | Input::Tick(at)
        | Input::Stop(at) => Some(*at),
        Input::Inventory(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::engine::Config;
    use crate::event::{
        Detail, Drop, Event, HookId, IfIndex, Netns, Packet, Pass, Place, Proto, TcpFlags,
        TcpHeader, Tuple,
    };
    use crate::inventory::{Link, Namespace, NamespaceKind, Node, Role};
    use crate::recording::Recorder;
    use crate::verdict::Outcome;

    const NODE: Netns = Netns(1);
    const POD: Netns = Netns(2);

    fn event(at: u64, hook: HookId, detail: Detail) -> Input {
        let tuple = Tuple {
            proto: Proto::TCP,
            src: "10.244.0.2:41822".parse().unwrap(),
            dst: "198.51.100.10:443".parse().unwrap(),
        };
        Input::Event(Event {
            at: Ktime(at),
            cpu: 0,
            hook: Some(hook),
            place: Place {
                netns: Some(NODE),
                ifindex: Some(IfIndex(7)),
                ifname: Some("vethweb".into()),
                iif: None,
            },
            packet: Some(Packet {
                tcp: Some(TcpHeader {
                    flags: TcpFlags(TcpFlags::SYN),
                    seq: 77,
                    ack: 0,
                }),
                ..Packet::of(tuple)
            }),
            conntrack: None,
            detail,
        })
    }

    fn link(netns: Netns, ifindex: u32, name: &str, role: Role, address: &str) -> Input {
        Input::Inventory(Delta::Link(Link {
            netns,
            ifindex: IfIndex(ifindex),
            name: name.into(),
            role,
            peer: None,
            up: true,
            mtu: 1500,
            addresses: vec![address.parse().unwrap()],
        }))
    }

    fn namespace(netns: Netns, kind: NamespaceKind, name: &str) -> Input {
        Input::Inventory(Delta::Namespace(Namespace {
            netns,
            kind,
            name: Some(name.to_owned()),
            target: kind == NamespaceKind::Pod,
        }))
    }

    /// A pod's SYN dropped by a firewall, and silence after it.
    fn inputs() -> Vec<Input> {
        let second = 1_000_000_000;
        let drop = Drop {
            reason: Some("NETFILTER_DROP".into()),
            location: Some("nft_do_chain".into()),
            stack: vec!["nf_hook_slow".into(), "ip_forward".into()],
            route: None,
            refusal: None,
        };
        let mut inputs = vec![
            Input::Inventory(Delta::Node(Node {
                name: "node-0".to_owned(),
                netns: NODE,
                wall_offset: 1_795_219_000_000_000_000,
                kernel: "6.12.0".to_owned(),
                tier: 0,
                hooks: vec![HookId::TcIngress, HookId::KfreeSkb],
            })),
            namespace(NODE, NamespaceKind::Node, "host"),
            namespace(POD, NamespaceKind::Pod, "web"),
            link(NODE, 2, "eth0", Role::Uplink, "10.240.0.9"),
            link(NODE, 7, "vethweb", Role::PodVeth, "169.254.1.1"),
            link(POD, 2, "eth0", Role::PodInterface, "10.244.0.2"),
            event(second, HookId::TcIngress, Detail::Seen(Pass::Received)),
            event(second + 5_000, HookId::KfreeSkb, Detail::Dropped(drop)),
        ];
        inputs.extend((1..80).map(|tick| Input::Tick(Ktime(second + tick * second / 10))));
        inputs.push(Input::Stop(Ktime(10 * second)));
        inputs
    }

    fn live() -> Vec<Verdict> {
        let mut engine = Engine::new(Config::default());
        inputs()
            .into_iter()
            .flat_map(|input| engine.step(input))
            .collect()
    }

    fn record(inputs: &[Input]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut recorder = Recorder::new(&mut bytes, "live".to_owned(), Config::default()).unwrap();
        for input in inputs {
            recorder.write(input).unwrap();
        }
        recorder.finish().unwrap();
        bytes
    }

    fn replayed(bytes: &[u8]) -> (Vec<Verdict>, Result<(), Error>) {
        let mut verdicts = Vec::new();
        let reader =
            Reader::new(Cursor::new(bytes), "f.ndjson".to_owned(), Limits::default()).unwrap();
        let end = replay(reader, |verdict, inventory| {
            assert_eq!(inventory.node.as_ref().unwrap().name, "node-0");
            verdicts.push(verdict.clone());
        });
        (verdicts, end)
    }

    #[test]
    fn a_replay_gives_the_verdicts_of_the_trace() {
        let live = live();
        assert!(
            live.iter()
                .any(|verdict| verdict.outcome == Outcome::DroppedHere),
            "{live:#?}"
        );
        let (verdicts, end) = replayed(&record(&inputs()));
        end.unwrap();
        assert_eq!(verdicts, live);
    }

    #[test]
    fn a_killed_trace_is_decided_as_far_as_it_goes() {
        let inputs = inputs();
        let bytes = record(&inputs[..inputs.len() - 2]);
        let (verdicts, end) = replayed(&bytes);
        end.unwrap();
        assert_eq!(verdicts.len(), 1);

        let (verdicts, end) = replayed(&bytes[..bytes.len() - 3]);
        assert_eq!(verdicts.len(), 1);
        let fault = end.unwrap_err().to_string();
        let line = inputs.len() - 1;
        assert!(
            fault.starts_with(&format!("f.ndjson line {line}: cut off")),
            "{fault}"
        );
    }

    #[test]
    fn a_file_is_replayed_by_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace.ndjson");
        std::fs::write(&path, record(&inputs())).unwrap();
        assert_eq!(verdicts(&path).unwrap(), live());
    }
}
