//! TC filters over netlink: finding and removing our own. All functions act on the calling thread's namespace.
//!
//! A filter stays when the process that made it is killed. Ours carry a mark: a name that begins with `netdiag_`, and a
//! handle made of a tag and the process id.

use std::fs;
use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Begins the name of each of our TC programs.
const NAME_PREFIX: &str = "netdiag_";
/// Upper byte of our handles.
const TAG: u32 = 0x4e;
/// The qdisc under the filter is ours too.
const OWN_QDISC: u32 = 1 << 23;
/// The rest of a handle is the process id (`PID_MAX_LIMIT` is 2^22).
const PID: u32 = (1 << 22) - 1;
const RECEIVE_BUFFER: usize = 64 << 10;

pub const INGRESS: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0xfff2,
};
pub const EGRESS: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0xfff3,
};
const CLSACT: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0xfff1,
};

/// One filter that runs a BPF program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    header: TcHeader,
    name: Option<String>,
    program: Option<u32>,
}

impl Filter {
    /// The process that made it, if it is one of ours.
    fn owner(&self) -> Option<u32> {
        let handle = u32::from(self.header.handle);
        let ours = self
            .name
            .as_deref()
            .is_some_and(|name| name.starts_with(NAME_PREFIX));
        (ours && handle >> 24 == TAG).then_some(handle & PID)
    }

    fn has_own_qdisc(&self) -> bool {
        u32::from(self.header.handle) & OWN_QDISC != 0
    }

    /// Its maker still holds the program. Asking for the program and not only for the process keeps a reused process id
    /// from protecting it.
    fn in_use(&self, pid: u32) -> bool {
        let Some(wanted) = self.program else {
            return false;
        };
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
            return false;
        };
        files
            .flatten()
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .any(|info| {
                info.lines()
                    .filter_map(|line| line.strip_prefix("prog_id:"))
                    .any(|id| id.trim().parse() == Ok(wanted))
            })
    }
}

/// The handle that marks our filters.
pub const fn handle(pid: u32, own_qdisc: bool) -> u32 {
    TAG << 24 | if own_qdisc { OWN_QDISC } else { 0 } | (pid & PID)
}

/// Removes filters of ours whose process is gone, from every interface of this namespace. Returns how many.
pub fn sweep() -> io::Result<usize> {
    let mut removed = 0;
    for interface in &nix::net::if_::if_nameindex()? {
        let ifindex = interface.index() as i32;
        let mut own_qdisc = false;
        for filter in filters(ifindex)? {
            if filter.owner().is_some_and(|pid| !filter.in_use(pid)) {
                delete_filter(&filter)?;
                removed += 1;
                own_qdisc |= filter.has_own_qdisc();
            }
        }
        if own_qdisc {
            remove_unused_qdisc(ifindex)?;
        }
    }
    Ok(removed)
}

/// Removes the clsact qdisc, unless somebody else has a filter on it by now.
pub fn remove_unused_qdisc(ifindex: i32) -> io::Result<()> {
    if has_filters(ifindex)? {
        return Ok(());
    }
    let mut message = TcMessage::with_index(ifindex);
    message.header.parent = CLSACT;
    message.header.handle = TcHandle {
        major: 0xffff,
        minor: 0,
    };
    message
        .attributes
        .push(TcAttribute::Kind("clsact".to_owned()));
    request(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK).map(|_| ())
}

/// The interface has a clsact qdisc.
pub fn has_clsact(ifindex: i32) -> io::Result<bool> {
    let dump = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::with_index(ifindex));
    // The kernel ignores the index in a dump of qdiscs.
    Ok(request(dump, NLM_F_DUMP)?.iter().any(|qdisc| {
        let is_clsact = |a: &TcAttribute| matches!(a, TcAttribute::Kind(kind) if kind == "clsact");
        qdisc.header.index == ifindex && qdisc.attributes.iter().any(is_clsact)
    }))
}

fn delete_filter(filter: &Filter) -> io::Result<()> {
    let mut message = TcMessage::default();
    message.header = filter.header.clone();
    message
        .attributes
        .push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    request(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK).map(|_| ())
}

/// The BPF filters of an interface, both directions.
pub fn filters(ifindex: i32) -> io::Result<Vec<Filter>> {
    Ok(dump(ifindex)?.into_iter().filter_map(bpf_filter).collect())
}

fn has_filters(ifindex: i32) -> io::Result<bool> {
    // Handle 0 is the entry of a priority, which has no filter of its own.
    Ok(dump(ifindex)?
        .iter()
        .any(|message| u32::from(message.header.handle) != 0))
}

fn dump(ifindex: i32) -> io::Result<Vec<TcMessage>> {
    let mut found = Vec::new();
    for parent in [INGRESS, EGRESS] {
        let mut message = TcMessage::with_index(ifindex);
        message.header.parent = parent;
        match request(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP) {
            Ok(answers) => found.extend(answers),
            // No such qdisc, so no filters; or the interface went away.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINVAL | libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP)
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn bpf_filter(message: TcMessage) -> Option<Filter> {
    let (header, attributes) = message.into_parts();
    let is_bpf = attributes
        .iter()
        .any(|a| matches!(a, TcAttribute::Kind(kind) if kind == TcFilterBpf::KIND));
    if !is_bpf || u32::from(header.handle) == 0 {
        return None;
    }
    let mut filter = Filter {
        header,
        name: None,
        program: None,
    };
    for attribute in attributes {
        let TcAttribute::Options(options) = attribute else {
            continue;
        };
        for option in options {
            match option {
                TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name = Some(name),
                TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.program = Some(id),
                _ => {}
            }
        }
    }
    Some(filter)
}

/// Sends one request and collects the TC messages of its answer.
fn request(payload: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<TcMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::from(payload);
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = 1;
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    socket.send(&buffer, 0)?;
    let mut found = Vec::new();
    let mut buffer = Vec::with_capacity(RECEIVE_BUFFER);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        if collect(&buffer, &mut found)? {
            return Ok(found);
        }
    }
}

/// Takes the messages of one datagram. True when the answer is complete.
fn collect(mut datagram: &[u8], found: &mut Vec<TcMessage>) -> io::Result<bool> {
    while !datagram.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let step = (message.header.length as usize).next_multiple_of(4);
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => {
                return error.code.map_or(Ok(true), |code| {
                    Err(io::Error::from_raw_os_error(-code.get()))
                });
            }
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewTrafficFilter(message)
                | RouteNetlinkMessage::NewQueueDiscipline(message),
            ) => found.push(message),
            _ => {}
        }
        datagram = datagram.get(step.max(16)..).unwrap_or(&[]);
    }
    Ok(false)
}

#[cfg(test)]
#[path = "clsact_tests.rs"]
mod tests;
