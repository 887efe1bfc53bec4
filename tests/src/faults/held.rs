//! A connection that is older than the trace: opened while the node is built, spoken on when a step says so.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::node::Node;
use crate::server::SLOWNESS;
use crate::step::Answer;
use crate::sys;

/// Longer than the slow server takes.
const PATIENCE: Duration = Duration::from_secs(SLOWNESS.as_secs() + 1);
/// What the holder says when its question has arrived.
const ASKED: &[u8; 1] = b"?";
const PAUSE: Duration = Duration::from_millis(10);

/// What to hold open.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Which of the node's pods has it.
    pub pod: usize,
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Speaks all the time, not only when asked to.
    pub busy: bool,
}

/// Where the holder of a pod's connection waits for orders: abstract sockets belong to a network namespace, this one to
/// the node's.
fn address(from: IpAddr) -> Result<UnixAddress> {
    UnixAddress::from_abstract_name(format!("netdiag-held-{from}"))
        .context("name the holder's socket")
}

/// Opens it and keeps it as long as the node.
pub fn hold(node: &Node, held: Held) -> Result<()> {
    let mut stream = node.pods[held.pod].within(|| {
        let act = || format!("connect {} to {}", held.from, held.to);
        let socket = Socket::new(
            Domain::for_address(held.to),
            Type::STREAM,
            Some(Protocol::TCP),
        )
        .with_context(act)?;
        socket.bind(&held.from.into()).with_context(act)?;
        socket
            .connect_timeout(&held.to.into(), PATIENCE)
            .with_context(act)?;
        Ok(TcpStream::from(socket))
    })?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .context("limit the wait for the echo")?;
    anyhow::ensure!(
        talk(&mut stream, || ()) == Answer::Ok,
        "the connection to {} carries nothing",
        held.to
    );
    let orders = node.netns.within(|| {
        UnixListener::bind_addr(&address(held.from.ip())?).context("listen for orders")
    })?;
    orders.set_nonblocking(true).context("listen for orders")?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::Builder::new()
        .name("hold".to_owned())
        .spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((mut client, _)) = orders.accept() {
                    // Who gave the order and went away does not want to know.
                    let answer = talk(&mut stream, || drop(client.write_all(ASKED)));
                    let _ = client.write_all(answer.to_string().as_bytes());
                } else if held.busy {
                    talk(&mut stream, || ());
                }
                thread::sleep(PAUSE);
            }
        })
        .context("start the holder's thread")?;
    node.keep(Holder {
        stop,
        thread: Some(thread),
    });
    Ok(())
}

/// Orders the holder of this address to speak; called in the node's namespace. What it got to see; `asked` is called once
/// the question has arrived at the other end.
pub fn order(from: IpAddr, asked: impl FnOnce()) -> Result<Answer> {
    let mut client = UnixStream::connect_addr(&address(from)?)
        .with_context(|| format!("ask the holder of {from}"))?;
    let mut arrived = [0; ASKED.len()];
    client
        .read_exact(&mut arrived)
        .context("wait for the holder's question")?;
    asked();
    let mut answer = String::new();
    client
        .read_to_string(&mut answer)
        .context("read the holder's answer")?;
    answer.parse()
}

fn talk(stream: &mut TcpStream, asked: impl FnOnce()) -> Answer {
    let mut buffer = [b'n'; 32];
    let said = stream
        .write_all(&buffer)
        .and_then(|()| sys::wait_for_acknowledgement(stream, PATIENCE));
    asked();
    let said = said.and_then(|()| stream.read_exact(&mut buffer));
    match said {
        Ok(()) => Answer::Ok,
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ETIMEDOUT) => Answer::Timeout,
            _ => Answer::Refused,
        },
    }
}

struct Holder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
