//! The servers of one namespace: TCP echo (and HTTP when spoken to so), UDP echo, DNS. One thread, one poll loop.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::dns;
use crate::netns::Netns;

/// Ports every server namespace listens on.
pub mod port {
    /// TCP echo, HTTP for who says GET.
    pub const TCP: [u16; 3] = [8080, 8081, 8082];
    /// UDP echo.
    pub const UDP: [u16; 3] = [9000, 9001, 9002];
    pub const DNS: u16 = 53;
    /// Nobody listens here.
    pub const CLOSED: u16 = 7777;
    /// TCP echo that takes [`super::SLOWNESS`] to answer.
    pub const SLOW: u16 = 8083;
    /// Receives and never answers.
    pub const MUTE: u16 = 9999;
}

/// What a slow server waits before its answer: on a busy machine a few threads in a row must get their turn within.
pub const SLOWNESS: Duration = Duration::from_secs(3);

/// The servers stop when this is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// TCP on every address; datagrams on these, because a wildcard socket answers from whatever address the
    /// route back prefers.
    pub fn start(netns: &Netns, addresses: &[IpAddr]) -> Result<Self> {
        let mut sockets = netns.within(|| Sockets::open(addresses))?;
        let (reader, writer) = io::pipe().context("make a pipe")?;
        let thread = std::thread::Builder::new()
            .name(format!("serve {}", netns.name()))
            .spawn(move || while sockets.serve_once(reader.as_fd()) {})
            .context("start a server thread")?;
        Ok(Self {
            stop: Some(writer),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The closed pipe is what ends the loop.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Sockets {
    listeners: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
    streams: Vec<TcpStream>,
}

impl Sockets {
    fn open(addresses: &[IpAddr]) -> Result<Self> {
        let mut sockets = Self {
            listeners: Vec::new(),
            datagrams: Vec::new(),
            streams: Vec::new(),
        };
        for any in [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ] {
            for port in port::TCP.into_iter().chain([port::SLOW]) {
                sockets.listeners.push(listen((any, port).into(), 128)?);
            }
        }
        for &address in addresses {
            for port in port::UDP.into_iter().chain([port::DNS, port::MUTE]) {
                sockets.datagrams.push(receive((address, port).into())?);
            }
        }
        Ok(sockets)
    }

    /// Waits for something to do and does it; false when told to stop.
    fn serve_once(&mut self, stop: BorrowedFd<'_>) -> bool {
        let ready = match self.wait(stop) {
            Ok(ready) => ready,
            Err(error) => return error == nix::Error::EINTR,
        };
        let Some((stopped, ready)) = ready.split_first() else {
            return false;
        };
        if *stopped {
            return false;
        }
        let (listeners, ready) = ready.split_at(self.listeners.len());
        let (datagrams, streams) = ready.split_at(self.datagrams.len());
        for (socket, _) in self
            .datagrams
            .iter()
            .zip(datagrams)
            .filter(|(_, ready)| **ready)
        {
            answer(socket);
        }
        let mut flags = streams.iter();
        self.streams
            .retain_mut(|stream| !flags.next().is_some_and(|ready| *ready) || echo(stream));
        for (listener, _) in self
            .listeners
            .iter()
            .zip(listeners)
            .filter(|(_, ready)| **ready)
        {
            while let Ok((stream, _)) = listener.accept() {
                if stream.set_nonblocking(true).is_ok() {
                    self.streams.push(stream);
                }
            }
        }
        true
    }

    /// Which of stop, listeners, datagrams and streams (in that order) have something.
    fn wait(&self, stop: BorrowedFd<'_>) -> nix::Result<Vec<bool>> {
        let sockets = self.listeners.iter().map(AsFd::as_fd);
        let sockets = sockets.chain(self.datagrams.iter().map(AsFd::as_fd));
        let sockets = sockets.chain(self.streams.iter().map(AsFd::as_fd));
        let all = std::iter::once(stop).chain(sockets);
        let mut polled: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        poll(&mut polled, PollTimeout::NONE)?;
        Ok(polled.iter().map(|fd| fd.any().unwrap_or(true)).collect())
    }
}

/// A non-blocking listener with a backlog of choice.
pub fn listen(address: SocketAddr, backlog: i32) -> Result<TcpListener> {
    let socket = bound(address, Type::STREAM, Protocol::TCP)?;
    socket
        .listen(backlog)
        .with_context(|| format!("listen on {address}"))?;
    Ok(socket.into())
}

/// A non-blocking datagram socket.
pub fn receive(address: SocketAddr) -> Result<UdpSocket> {
    Ok(bound(address, Type::DGRAM, Protocol::UDP)?.into())
}

fn bound(address: SocketAddr, kind: Type, protocol: Protocol) -> Result<Socket> {
    let act = || format!("bind {address}");
    let socket =
        Socket::new(Domain::for_address(address), kind, Some(protocol)).with_context(act)?;
    if address.is_ipv6() {
        socket.set_only_v6(true).with_context(act)?;
    }
    socket.set_reuse_address(true).with_context(act)?;
    socket.set_nonblocking(true).with_context(act)?;
    socket.bind(&address.into()).with_context(act)?;
    Ok(socket)
}

fn answer(socket: &UdpSocket) {
    let Ok(own) = socket.local_addr() else { return };
    let mut buffer = vec![0; 65536];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let message = &buffer[..length];
        // An answer that cannot be sent is an answer lost, as in any network.
        let _ = match own.port() {
            port::MUTE => Ok(0),
            port::DNS => {
                dns::reply(message, own.ip()).map_or(Ok(0), |reply| socket.send_to(&reply, from))
            }
            _ => socket.send_to(message, from),
        };
    }
}

/// Sends back what came; false when the conversation is over.
fn echo(stream: &mut TcpStream) -> bool {
    let mut buffer = vec![0; 65536];
    match stream.read(&mut buffer) {
        Ok(0) => false,
        Ok(length) if buffer[..length].starts_with(b"GET ") => {
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n",
            );
            false
        }
        Ok(length) => {
            if stream
                .local_addr()
                .is_ok_and(|own| own.port() == port::SLOW)
            {
                std::thread::sleep(SLOWNESS);
            }
            write_back(stream, &buffer[..length]).is_ok()
        }
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}

/// Waits for room in the send buffer, which at first is smaller than what may have come.
fn write_back(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(bytes)?;
    stream.set_nonblocking(true)
}
