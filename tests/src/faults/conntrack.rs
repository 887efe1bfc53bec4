//! Connection tracking: its table, its ports, its opinion of a packet.

use std::fmt::Write;
use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Case, at, broken};
use crate::plan::Family;
use crate::topology::nft_tool;

/// The node may masquerade the pods on two ports only, and the second pod holds both.
pub fn two_snat_ports(case: &Case) -> Result<()> {
    case.node.run(&format!(
        "{} -w -t nat -I POSTROUTING -s {} -o {} -p tcp --dport {} -j MASQUERADE --to-ports 40000-40001",
        nft_tool(case.family),
        case.addresses().pods,
        case.node.uplink(),
        broken::TCP,
    ))?;
    let to = at(case.healthy(), broken::TCP);
    let held = case.node.pods[1].within(|| {
        let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(2));
        Ok([connect(), connect()].map(|stream| stream.with_context(|| format!("connect to {to}"))))
    })?;
    for stream in held {
        case.node.keep(stream?);
    }
    Ok(())
}

/// A rule drops what conntrack calls INVALID, as kube-proxy's and Calico's do.
pub fn drop_invalid(case: &Case) -> Result<()> {
    let tool = nft_tool(case.family);
    case.node
        .run(&format!(
            "{tool} -w -I FORWARD -m conntrack --ctstate INVALID -j DROP"
        ))
        .map(drop)
}

/// The conntrack table of the node holds as many connections as it may, none of which can be evicted.
///
/// The limit belongs to the whole machine, so it is the table that is filled, not the limit that is lowered.
pub fn full_table(case: &Case) -> Result<()> {
    let limit: u32 = case
        .node
        .run("cat /proc/sys/net/netfilter/nf_conntrack_max")?
        .trim()
        .parse()
        .context("read nf_conntrack_max")?;
    let mut commands = String::new();
    let a = case.addresses();
    let (from, to) = (a.stranger, a.nobody);
    let family = if case.family == Family::V4 {
        "ipv4"
    } else {
        "ipv6"
    };
    for index in 0..=limit {
        let (source, destination) = (1 + index % 60_000, 1 + index / 60_000);
        let _ = writeln!(
            commands,
            "-I -f {family} -p udp -s {from} -d {to} --sport {source} --dport {destination} \
             -r {to} -q {from} --reply-port-src {destination} --reply-port-dst {source} \
             -t 600 -u SEEN_REPLY,ASSURED"
        );
    }
    let file = tempfile::NamedTempFile::new().context("make a temporary file")?;
    fs::write(file.path(), commands).context("write the connections to add")?;
    let path = file.path().to_string_lossy().into_owned();
    // The last of them finds the table full, which is the point.
    let output = case
        .node
        .netns
        .command("conntrack")
        .args(["-R", &path])
        .output();
    output.context("run conntrack -R").map(drop)
}
