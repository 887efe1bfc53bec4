//! BPF programs of others on an interface: they may drop or redirect what we trace.

use std::io;

use aya::programs::loaded_programs;
use aya::programs::tc::{SchedClassifier, TcAttachType};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::error::IdentityError;
use super::netlink::Channel;
use super::netns::{NetnsHandle, run_in};
use super::target::LinkRef;
use crate::inventory::{Delta, Program};

const DIRECTIONS: [(TcAttachType, &str, &str, u16); 2] = [
    (
        TcAttachType::Ingress,
        "tcx ingress",
        "tc ingress",
        TcHandle::MIN_INGRESS,
    ),
    (
        TcAttachType::Egress,
        "tcx egress",
        "tc egress",
        TcHandle::MIN_EGRESS,
    ),
];

/// The programs at tcx, clsact and XDP of each interface, without those whose ids are in `own`. An interface that is
/// gone has none.
pub fn foreign(
    namespace: &NetnsHandle,
    links: &[LinkRef],
    own: &[u32],
) -> Result<Vec<Delta>, IdentityError> {
    let read = || {
        links
            .iter()
            .map(|link| on_link(link).map(|programs| (link.ifindex, programs)))
            .collect()
    };
    let found: io::Result<Vec<_>> = run_in(namespace, read)?;
    let found = found.map_err(|cause| IdentityError::Netlink {
        act: "list the BPF programs on the interfaces",
        namespace: namespace.label(),
        cause,
    })?;
    let deltas = found.into_iter().map(|(ifindex, mut programs)| {
        programs.retain(|program| !own.contains(&program.id));
        Delta::Programs {
            netns: namespace.netns(),
            ifindex,
            programs,
        }
    });
    Ok(deltas.collect())
}

fn on_link(link: &LinkRef) -> io::Result<Vec<Program>> {
    let mut channel = Channel::open(NETLINK_ROUTE)?;
    let mut programs = Vec::new();
    for (direction, tcx, tc, parent) in DIRECTIONS {
        programs.extend(tcx_programs(&link.name, direction, tcx));
        programs.extend(tc_programs(&mut channel, link, parent, tc)?);
    }
    programs.extend(xdp_programs(&mut channel, link)?);
    Ok(programs)
}

fn tcx_programs(interface: &str, direction: TcAttachType, attach: &str) -> Vec<Program> {
    // Kernels before 6.6 have no tcx, and then nobody's program is there.
    let Ok((_, programs)) = SchedClassifier::query_tcx(interface, direction) else {
        return Vec::new();
    };
    programs
        .iter()
        .map(|info| Program {
            attach: attach.to_owned(),
            name: String::from_utf8_lossy(info.name()).into_owned(),
            id: info.id(),
        })
        .collect()
}

fn tc_programs(
    channel: &mut Channel,
    link: &LinkRef,
    parent: u16,
    attach: &str,
) -> io::Result<Vec<Program>> {
    let mut request = TcMessage::default();
    request.header.index = link.ifindex.0 as i32;
    request.header.parent = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: parent,
    };
    match channel.dump(&RouteNetlinkMessage::GetTrafficFilter(request)) {
        Ok(answers) => Ok(answers
            .iter()
            .filter_map(|answer| tc_program(answer, attach))
            .collect()),
        Err(error) if nothing_there(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The interface has gone, has no such qdisc, or the kernel no traffic control at all.
fn nothing_there(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENODEV | libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP)
    )
}

fn tc_program(answer: &RouteNetlinkMessage, attach: &str) -> Option<Program> {
    let RouteNetlinkMessage::NewTrafficFilter(filter) = answer else {
        return None;
    };
    let (mut name, mut id) = (String::new(), None);
    for attribute in &filter.attributes {
        let TcAttribute::Options(options) = attribute else {
            continue;
        };
        for option in options {
            match option {
                TcOption::Bpf(TcFilterBpfOption::ProgName(text)) => name.clone_from(text),
                TcOption::Bpf(TcFilterBpfOption::ProgId(number)) => id = Some(*number),
                _ => {}
            }
        }
    }
    // Each priority is dumped first as itself, then with its programs.
    Some(Program {
        attach: attach.to_owned(),
        name,
        id: id?,
    })
}

fn xdp_programs(channel: &mut Channel, link: &LinkRef) -> io::Result<Vec<Program>> {
    let mut request = LinkMessage::default();
    request.header.index = link.ifindex.0;
    let answer = match channel.get(&RouteNetlinkMessage::GetLink(request)) {
        Ok(RouteNetlinkMessage::NewLink(answer)) => answer,
        Ok(_) => return Ok(Vec::new()),
        Err(error) if nothing_there(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let xdp = answer
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Xdp(xdp) => Some(xdp.as_slice()),
            _ => None,
        });
    let mut programs: Vec<Program> = xdp
        .unwrap_or_default()
        .iter()
        .filter_map(xdp_program)
        .collect();
    // With one program the kernel states its id twice: as such and by mode.
    programs.sort_unstable_by_key(|program| program.id);
    programs.dedup_by_key(|program| program.id);
    Ok(programs)
}

fn xdp_program(attribute: &LinkXdp) -> Option<Program> {
    let (LinkXdp::ProgId(id)
    | LinkXdp::DrvProgId(id)
    | LinkXdp::SkbProgId(id)
    | LinkXdp::HwProgId(id)) = attribute
    else {
        return None;
    };
    Some(Program {
        attach: "xdp".to_owned(),
        name: program_name(*id),
        id: *id,
    })
}

/// Empty when the kernel does not tell it.
fn program_name(id: u32) -> String {
    let info = loaded_programs().flatten().find(|info| info.id() == id);
    info.map(|info| String::from_utf8_lossy(info.name()).into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
#[path = "programs_tests.rs"]
mod tests;
