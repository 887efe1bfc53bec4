//! What `--pcap` writes, read back by a library and by tshark. Needs root, as the lab does.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use netdiag_tests::faults::{Case, broken, firewall};
use netdiag_tests::node::Node;
use netdiag_tests::plan::{Family, Topology};
use netdiag_tests::programs;
use netdiag_tests::server::port;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::Block;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::section_header::SectionHeaderOption;

const TCP: u8 = 6;

/// A packet of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    interface: String,
    at: Duration,
    bytes: Vec<u8>,
    comments: Vec<String>,
}

impl Frame {
    fn is_v4(&self) -> bool {
        self.bytes[0] >> 4 == 4
    }

    fn addresses(&self) -> (IpAddr, IpAddr) {
        let v4 = |at: usize| <[u8; 4]>::try_from(&self.bytes[at..at + 4]).map(IpAddr::from);
        let v6 = |at: usize| <[u8; 16]>::try_from(&self.bytes[at..at + 16]).map(IpAddr::from);
        let pair = if self.is_v4() {
            (v4(12), v4(16))
        } else {
            (v6(8), v6(24))
        };
        (pair.0.expect("4 bytes"), pair.1.expect("16 bytes"))
    }

    fn is_tcp(&self) -> bool {
        self.bytes[if self.is_v4() { 9 } else { 6 }] == TCP
    }

    fn ports(&self) -> (u16, u16) {
        let at = if self.is_v4() { 20 } else { 40 };
        let port = |at: usize| u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]);
        (port(at), port(at + 2))
    }

    /// TCP from `source` to `destination`.
    fn goes(&self, source: IpAddr, destination: SocketAddr) -> bool {
        self.is_tcp()
            && self.addresses() == (source, destination.ip())
            && self.ports().1 == destination.port()
    }

    fn says(&self, words: &str) -> bool {
        self.comments.iter().any(|comment| comment.contains(words))
    }
}

/// The file by the library: the section's comment and its packets.
fn read(path: &Path) -> Result<(String, Vec<Frame>)> {
    let mut reader = PcapNgReader::new(BufReader::new(File::open(path)?))?;
    let is_comment = |option: &SectionHeaderOption| match option {
        SectionHeaderOption::Comment(text) => Some(text.to_string()),
        _ => None,
    };
    let comment = reader.section().options.iter().find_map(is_comment);
    let (mut names, mut frames) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block? {
            Block::InterfaceDescription(interface) => {
                ensure!(interface.linktype == DataLink::RAW, "{interface:?}");
                let name = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                names.push(name.context("an interface without a name")?);
            }
            Block::EnhancedPacket(packet) => {
                let comments = packet.options.iter().filter_map(|option| match option {
                    EnhancedPacketOption::Comment(text) => Some(text.to_string()),
                    _ => None,
                });
                let interface = names.get(packet.interface_id as usize);
                frames.push(Frame {
                    interface: interface.context("a packet without an interface")?.clone(),
                    at: packet.timestamp,
                    comments: comments.collect(),
                    bytes: packet.data.to_vec(),
                });
            }
            other => bail!("unexpected {other:?}"),
        }
    }
    let distinct: BTreeSet<_> = names.iter().collect();
    // The pod's own interface may bear the name of the node's, so only the node's hops are told apart by name.
    ensure!(distinct.len() + 1 >= names.len(), "{names:?}");
    Ok((comment.context("the section has no comment")?, frames))
}

struct Traced {
    /// When it ran.
    from: Duration,
    to: Duration,
    output: Output,
}

/// One connection that a rule of FORWARD drops, one that it does not.
fn trace(node: &Node, folder: &Path, steps: [SocketAddr; 2]) -> Result<Traced> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH);
    let from = now()?;
    let mut command = node.netns.command(programs::netdiag()?);
    command
        .args(["trace", "--netns", node.pod().name()])
        .args(["--uplink", node.uplink(), "-o", "jsonl", "--pcap"])
        .arg(folder.join("live.pcapng"))
        .arg("--record")
        .arg(folder.join("recording"))
        .arg("--")
        .arg(programs::sender()?)
        .args(["send", "--report"])
        .arg(folder.join("report"))
        .args(steps.map(|to| format!("tcp:{to}")));
    let output = command.output().context("run netdiag trace")?;
    let to = now()?;
    Ok(Traced { from, to, output })
}

fn replay(folder: &Path) -> Result<Output> {
    let mut command = Command::new(programs::netdiag()?);
    command
        .args(["replay", "-o", "jsonl", "--pcap"])
        .arg(folder.join("replayed.pcapng"))
        .arg(folder.join("recording"));
    command.output().context("run netdiag replay")
}

/// What tshark makes of it: interface, addresses, comment and malformations of each packet.
fn tshark(path: &Path) -> Result<Option<Vec<Vec<String>>>> {
    let fields = [
        "frame.interface_name",
        "ip.src",
        "ipv6.src",
        "frame.comment",
        "_ws.malformed",
        "tcp.dstport",
    ];
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(path).args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: no tshark here ({error}); install the package tshark");
            return Ok(None);
        }
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tshark: {stderr}");
    let text = String::from_utf8(output.stdout)?;
    let row = |line: &str| line.split('\t').map(str::to_owned).collect();
    Ok(Some(text.lines().map(row).collect()))
}

fn check(topology: Topology, family: Family) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: not root");
        return Ok(());
    }
    let node = Node::with(topology)?;
    firewall::forward_rule(&Case::new(&node, family))?;
    let plan = node.addresses(family);
    let outside = plan.external[0];
    let healthy = SocketAddr::new(outside, port::TCP[0]);
    let dropped = SocketAddr::new(outside, broken::TCP);
    let folder = tempfile::tempdir()?;
    let traced = trace(&node, folder.path(), [healthy, dropped])?;
    let stderr = String::from_utf8_lossy(&traced.output.stderr);
    ensure!(traced.output.status.code() == Some(1), "{stderr}");

    let live = folder.path().join("live.pcapng");
    let (comment, frames) = read(&live)?;
    let told = || format!("{topology}/{family}\n{comment}\n{frames:#?}\n{stderr}");
    ensure!(comment.contains("HOST_FIREWALL_DROP at NF_FORWARD"), told());
    ensure!(comment.contains("2 flows, 1 failing"), told());
    let at = |interface: &str, source: IpAddr, destination| {
        let here = frames.iter().filter(|frame| frame.interface == interface);
        here.filter(|frame| frame.goes(source, destination)).count()
    };
    let (veth, uplink) = (node.veth(), node.uplink());
    let pod = plan.pod[0];
    ensure!(at(&format!("POD_VETH {veth}"), pod, dropped) > 0, told());
    ensure!(
        at(&format!("NIC_EGRESS {uplink}"), plan.node, healthy) > 0,
        told()
    );
    ensure!(
        at(&format!("NIC_EGRESS {uplink}"), pod, healthy) == 0,
        told()
    );
    ensure!(
        at(&format!("NIC_EGRESS {uplink}"), plan.node, dropped) == 0,
        told()
    );
    let verdicts: Vec<_> = frames
        .iter()
        .filter(|frame| frame.says("HOST_FIREWALL_DROP"))
        .collect();
    let [verdict] = verdicts[..] else {
        bail!("{} packets bear the verdict\n{}", verdicts.len(), told())
    };
    ensure!(verdict.interface == "NF_FORWARD drop", told());
    ensure!(
        verdict.goes(pod, dropped) && verdict.says("NETFILTER_DROP"),
        told()
    );
    let in_time = |frame: &Frame| traced.from <= frame.at && frame.at <= traced.to;
    ensure!(frames.iter().all(in_time), told());
    ensure!(frames.is_sorted_by_key(|frame| frame.at), told());

    let replayed = replay(folder.path())?;
    ensure!(replayed.status.code() == Some(1), "{replayed:?}");
    ensure!(
        read(&folder.path().join("replayed.pcapng"))? == (comment.clone(), frames.clone()),
        told()
    );

    let Some(rows) = tshark(&live)? else {
        return Ok(());
    };
    ensure!(rows.len() == frames.len(), "{rows:?}\n{}", told());
    for (row, frame) in rows.iter().zip(&frames) {
        let [interface, v4, v6, comment, malformed, _] = &row[..] else {
            bail!("{row:?}")
        };
        ensure!(*interface == frame.interface, "{row:?}\n{}", told());
        ensure!(malformed.is_empty(), "{row:?}\n{}", told());
        let source = if frame.is_v4() { v4 } else { v6 };
        ensure!(source.parse::<IpAddr>()? == frame.addresses().0, "{row:?}");
        let says = comment.contains("HOST_FIREWALL_DROP");
        ensure!(
            says == frame.says("HOST_FIREWALL_DROP"),
            "{row:?}\n{}",
            told()
        );
    }
    Ok(())
}

#[test]
fn a_drop_on_a_bridge_is_read_back() {
    for family in Family::ALL {
        check(Topology::Bridge, family).unwrap_or_else(|error| panic!("{error:?}"));
    }
}

#[test]
fn a_drop_on_a_point_to_point_node_is_read_back() {
    for family in Family::ALL {
        check(Topology::PointToPoint, family).unwrap_or_else(|error| panic!("{error:?}"));
    }
}

#[test]
fn a_recording_that_is_not_there_leaves_an_earlier_capture_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let capture = folder.path().join("earlier.pcapng");
    fs::write(&capture, "precious")?;
    let output = Command::new(programs::netdiag()?)
        .args(["replay", "--pcap"])
        .arg(&capture)
        .arg(folder.path().join("mistyped"))
        .output()?;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(fs::read(&capture)?, b"precious");
    Ok(())
}

#[test]
fn a_file_that_cannot_be_written_is_one_line() -> Result<()> {
    let scenario = netdiag_tests::replay::folder().join("no_route_bridge_v6");
    let recording = scenario.join(netdiag_tests::replay::RECORDING);
    let output = Command::new(programs::netdiag()?)
        .args(["replay", "--pcap", "/nonexistent/x.pcapng"])
        .arg(&recording)
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.starts_with("error: create packet file /nonexistent/x.pcapng: "),
        "{stderr}"
    );
    Ok(())
}
