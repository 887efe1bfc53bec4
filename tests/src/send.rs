//! Runs steps from the namespace it is in and says what the sender got to see.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

use crate::faults::{conntrack, held};
use crate::server::SLOWNESS;
use crate::step::{Answer, Kind, Step};
use crate::{dns, packet, sys};

/// Identifier of our echo requests and DNS queries.
const ID: u16 = 0x6e64;
/// Source port of packets built by hand.
const RAW_PORT: u16 = 41_414;
/// Bytes a TCP step writes before it reads the echo.
const PIECE: usize = 16 * 1024;
const ICMP_ECHO: u8 = 8;
const ICMP_ECHO_REPLY: u8 = 0;
const ICMPV6_ECHO: u8 = 128;
const ICMPV6_ECHO_REPLY: u8 = 129;

/// Moves this thread into a named namespace.
pub fn enter(name: &str) -> Result<()> {
    let path = Path::new(crate::cleanup::NETNS_DIR).join(name);
    let netns = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    setns(netns, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", path.display()))
}

/// Runs the steps in order and writes `STEP<tab>ANSWER` lines; `node` is the namespace that `flush` flushes.
pub fn run(steps: &[Step], node: Option<&str>, report: &Path) -> Result<()> {
    let mut lines = Vec::new();
    for step in steps {
        let answer = if step.flush {
            flushed(
                step,
                node.with_context(|| format!("{step}: which node? --node NAME"))?,
            )?
        } else {
            attempt(step, node, &|| ())?
        };
        lines.push(format!("{step}\t{answer}\n"));
    }
    fs::write(report, lines.concat()).with_context(|| format!("write {}", report.display()))
}

/// A step during which a namespace forgets its connections, while the slow server still thinks.
///
/// Not before the question is acknowledged: an acknowledgement that is lost would bring the question once more, and with it
/// a new entry. From then on over and over until the step ends; nothing passes between question and answer.
fn flushed(step: &Step, node: &str) -> Result<Answer> {
    thread::scope(|scope| {
        let (asked, question) = mpsc::channel::<()>();
        let (ended, end) = mpsc::channel::<()>();
        let flusher = scope.spawn(move || {
            enter(node)?;
            if question.recv().is_err() {
                // Nothing was ever asked; the answer tells why.
                return Ok(());
            }
            loop {
                conntrack::forget()?;
                if end.recv_timeout(SLOWNESS / 4) != Err(RecvTimeoutError::Timeout) {
                    return Ok(());
                }
            }
        });
        let answer = attempt(step, Some(node), &|| {
            let _ = asked.send(());
        });
        drop((asked, ended));
        flusher
            .join()
            .unwrap_or_else(|_| bail!("the flusher panicked"))?;
        answer
    })
}

/// `asked` is called once the question has arrived at the other end.
fn attempt(step: &Step, node: Option<&str>, asked: &(dyn Fn() + Sync)) -> Result<Answer> {
    let Kind::Held = step.kind else {
        return once(step, asked);
    };
    let node = node.with_context(|| format!("{step}: which node? --node NAME"))?;
    let from = step
        .from
        .with_context(|| format!("{step}: whose connection? from=ADDRESS"))?;
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter(node)?;
            held::order(from, asked)
        });
        inside
            .join()
            .unwrap_or_else(|_| bail!("the thread that asks the holder panicked"))
    })
}

/// Reads what [`run`] wrote.
pub fn read_report(text: &str) -> Result<Vec<Answer>> {
    text.lines()
        .map(|line| line.rsplit('\t').next().unwrap_or_default().parse())
        .collect::<Result<_>>()
        .context("read the sender's report")
}

/// One step; an error is a fault of the lab, not of the network.
pub fn one(step: &Step) -> Result<Answer> {
    once(step, &|| ())
}

fn once(step: &Step, asked: &dyn Fn()) -> Result<Answer> {
    let result = match step.kind {
        Kind::Tcp => tcp(step, asked),
        Kind::Udp | Kind::UdpOneWay | Kind::Dns => udp(step),
        Kind::Icmp => icmp(step),
        Kind::Held => bail!("{step}: only as a step of a run"),
        Kind::RawSyn | Kind::RawAck | Kind::RawUdp => {
            packet::send(step, raw_source(step)?)?;
            return Ok(Answer::Sent);
        }
    };
    match result {
        Ok(answer) => Ok(answer),
        Err(error) => classify(&error).with_context(|| format!("{step}: {error}")),
    }
}

/// Which of the network's answers an error is; `None`: none of them.
fn classify(error: &io::Error) -> Option<Answer> {
    Some(match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => Answer::Refused,
        // Aborted: the kernel ended the attempt, and its reason had been taken by then.
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EPROTO | libc::ECONNABORTED) => {
            Answer::Unreachable
        }
        Some(libc::EMSGSIZE) => Answer::TooBig,
        Some(libc::EPERM | libc::EACCES | libc::EINVAL) => Answer::Denied,
        Some(libc::ETIMEDOUT | libc::EAGAIN | libc::EINPROGRESS) => Answer::Timeout,
        _ if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => Answer::Timeout,
        _ => return None,
    })
}

fn open(step: &Step, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(step.to), kind, Some(protocol))?;
    let v6 = step.to.is_ipv6();
    if let Some(ttl) = step.ttl {
        if v6 {
            socket.set_unicast_hops_v6(u32::from(ttl))?;
        } else {
            socket.set_ttl_v4(u32::from(ttl))?;
        }
    }
    if step.dont_fragment && v6 {
        sys::set_socket_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, 2)?;
        sys::set_socket_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
    } else if step.dont_fragment {
        sys::set_socket_option(
            &socket,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DO,
        )?;
    }
    if let Some(from) = step.from {
        socket.bind(&SocketAddr::new(from, step.port.unwrap_or(0)).into())?;
    }
    socket.set_read_timeout(Some(step.timeout))?;
    socket.set_write_timeout(Some(step.timeout))?;
    Ok(socket)
}

/// Without this a datagram socket is told of a closed port only, not of a missing route or an expired TTL.
fn hear_errors(socket: &Socket, v6: bool) -> io::Result<()> {
    if v6 {
        sys::set_socket_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)
    } else {
        sys::set_socket_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)
    }
}

fn tcp(step: &Step, asked: &dyn Fn()) -> io::Result<Answer> {
    for _ in 0..step.count {
        let socket = open(step, Type::STREAM, Protocol::TCP)?;
        // Waits as long as a write may.
        socket.connect(&step.to.into())?;
        let mut stream = TcpStream::from(socket);
        // In pieces: a server that echoes and a client that only writes would block each other.
        let mut left = step.size;
        while left > 0 {
            let mut piece = vec![b'n'; left.min(PIECE)];
            stream.write_all(&piece)?;
            if step.flush {
                sys::wait_for_acknowledgement(&stream, step.timeout)?;
                asked();
            }
            stream.read_exact(&mut piece).map_err(early_end)?;
            left -= piece.len();
        }
    }
    Ok(Answer::Ok)
}

/// A server that hangs up before the echo refused the conversation.
fn early_end(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => io::Error::from_raw_os_error(libc::ECONNRESET),
        _ => error,
    }
}

fn udp(step: &Step) -> io::Result<Answer> {
    let socket = open(step, Type::DGRAM, Protocol::UDP)?;
    hear_errors(&socket, step.to.is_ipv6())?;
    let socket = UdpSocket::from(socket);
    socket.connect(step.to)?;
    let message = match &step.name {
        Some(name) => dns::query(ID, name, step.to.is_ipv6()).map_err(io::Error::other)?,
        None => vec![b'n'; step.size],
    };
    for _ in 0..step.count {
        socket.send(&message)?;
    }
    if step.kind == Kind::UdpOneWay {
        return Ok(Answer::Sent);
    }
    let mut buffer = vec![0; 65536];
    let length = socket.recv(&mut buffer)?;
    if step.kind == Kind::Dns {
        let (_, code) = dns::answer(&buffer[..length]).map_err(io::Error::other)?;
        return Ok(if code == dns::NOERROR {
            Answer::Ok
        } else {
            Answer::Rcode(code)
        });
    }
    Ok(Answer::Ok)
}

fn icmp(step: &Step) -> io::Result<Answer> {
    let v6 = step.to.is_ipv6();
    let protocol = if v6 {
        Protocol::ICMPV6
    } else {
        Protocol::ICMPV4
    };
    let socket = open(step, Type::RAW, protocol)?;
    hear_errors(&socket, v6)?;
    socket.connect(&SocketAddr::new(step.to.ip(), 0).into())?;
    for sequence in 1..=step.count {
        socket.send(&echo_request(v6, sequence as u16, step.size))?;
    }
    wait_for_echo(socket, step)
}

fn echo_request(v6: bool, sequence: u16, size: usize) -> Vec<u8> {
    let mut message = vec![if v6 { ICMPV6_ECHO } else { ICMP_ECHO }, 0, 0, 0];
    message.extend(ID.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.resize(8 + size, b'n');
    if !v6 {
        let sum = packet::checksum(&[&message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

fn wait_for_echo(mut socket: Socket, step: &Step) -> io::Result<Answer> {
    let deadline = Instant::now() + step.timeout;
    let mut buffer = vec![0; 65536];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let length = socket.read(&mut buffer)?;
        // A raw IPv4 socket shows the IP header, an IPv6 one does not.
        let skip = if step.to.is_ipv6() {
            0
        } else {
            usize::from(buffer[0] & 0x0f) * 4
        };
        let message = &buffer[skip.min(length)..length];
        let reply = if step.to.is_ipv6() {
            ICMPV6_ECHO_REPLY
        } else {
            ICMP_ECHO_REPLY
        };
        if message.len() >= 8 && message[0] == reply && message[4..6] == ID.to_be_bytes() {
            return Ok(Answer::Ok);
        }
        if left.is_zero() {
            return Ok(Answer::Timeout);
        }
    }
}

/// The forged source, or the one the kernel would take.
fn raw_source(step: &Step) -> Result<SocketAddr> {
    if let Some(from) = step.from {
        return Ok(SocketAddr::new(from, RAW_PORT));
    }
    let any: IpAddr = if step.to.is_ipv6() {
        [0_u16; 8].into()
    } else {
        [0; 4].into()
    };
    let socket = UdpSocket::bind((any, 0)).context("open a socket")?;
    socket
        .connect(step.to)
        .with_context(|| format!("find a source address for {step}"))?;
    let own = socket.local_addr().context("read the source address")?;
    if own.ip().is_unspecified() {
        bail!("{step}: no source address");
    }
    Ok(SocketAddr::new(own.ip(), RAW_PORT))
}
