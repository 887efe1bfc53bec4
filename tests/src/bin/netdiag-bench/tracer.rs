//! The traced side: starts netdiag, reads its verdicts, ends it.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netdiag_tests::node::Node;
use netdiag_tests::programs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A `netdiag trace` of the node's first pod, running until told to stop.
pub struct Tracer {
    child: Child,
    /// From its start to the line that says so.
    pub ready: Duration,
    lines: Receiver<(Instant, String)>,
}

impl Tracer {
    pub fn start(node: &Node) -> Result<Self> {
        let mut command = node.netns.command(programs::netdiag()?);
        command.args([
            "trace",
            "--netns",
            node.pod().name(),
            "--uplink",
            node.uplink(),
            "-f",
            "-o",
            "jsonl",
        ]);
        let started = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start netdiag")?;
        let (stdout, stderr) = (lines(child.stdout.take()), lines(child.stderr.take()));
        let mut tracer = Self {
            child,
            ready: Duration::ZERO,
            lines: stdout,
        };
        let mut said = String::new();
        while !said.contains("ready") {
            match stderr.recv_timeout(Duration::from_secs(20)) {
                Ok((at, line)) => (tracer.ready, said) = (at - started, line),
                Err(_) => bail!("netdiag was never ready; it said last: {said}"),
            }
        }
        // Its further words are of no interest, but the pipe must not fill.
        std::thread::spawn(move || stderr.into_iter().for_each(drop));
        Ok(tracer)
    }

    /// Makes one connection that fails; returns how long the verdict on it takes.
    pub fn verdict_on(&self, node: &Node, port: u16) -> Result<Duration> {
        let to = SocketAddr::new(node.plan.v4.external[0], port);
        let sent = node.pod().within(|| {
            let sent = Instant::now();
            // It fails, that is the point.
            let _ = TcpStream::connect_timeout(&to, Duration::from_millis(20));
            Ok(sent)
        })?;
        let wanted = format!("\"destination_port\":{port}");
        loop {
            match self.lines.recv_timeout(Duration::from_secs(10)) {
                Ok((at, line)) if line.contains(&wanted) => return Ok(at - sent),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("no verdict on port {port} within 10 s"),
                Err(RecvTimeoutError::Disconnected) => bail!("netdiag ended"),
            }
        }
    }

    /// In KiB.
    pub fn peak_memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let peak = status.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        peak.with_context(|| format!("no VmHWM in {path}"))
    }

    /// Ctrl-C; returns how long it took to detach everything and end.
    pub fn stop(mut self) -> Result<Duration> {
        let asked = Instant::now();
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).context("interrupt netdiag")?;
        self.child.wait().context("wait for netdiag")?;
        Ok(asked.elapsed())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Only after an error is it still running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: Option<impl Read + Send + 'static>) -> Receiver<(Instant, String)> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let stream = stream
            .into_iter()
            .flat_map(|stream| BufReader::new(stream).lines());
        for line in stream.map_while(Result::ok) {
            if sender.send((Instant::now(), line)).is_err() {
                break;
            }
        }
    });
    receiver
}
