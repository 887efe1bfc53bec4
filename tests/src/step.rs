//! One conversation to try, as text: `tcp:198.51.100.10:8080,size=4000`. Text, so that a failure prints the command.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connect, send, read the echo.
    Tcp,
    /// One datagram and its echo.
    Udp,
    /// Datagrams nobody need answer.
    UdpOneWay,
    /// Echo request and reply; the port is ignored.
    Icmp,
    /// One question over UDP.
    Dns,
    /// A bare SYN, built by hand; nothing waits for an answer.
    RawSyn,
    /// An acknowledgement of nothing, built by hand.
    RawAck,
    /// A bare datagram, built by hand.
    RawUdp,
    /// Speaks on a connection the node's builder opened from this source.
    Held,
}

const KINDS: [(Kind, &str); 9] = [
    (Kind::Tcp, "tcp"),
    (Kind::Udp, "udp"),
    (Kind::UdpOneWay, "udp-oneway"),
    (Kind::Icmp, "icmp"),
    (Kind::Dns, "dns"),
    (Kind::RawSyn, "raw-syn"),
    (Kind::RawAck, "raw-ack"),
    (Kind::RawUdp, "raw-udp"),
    (Kind::Held, "held"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
pub struct Step {
    pub kind: Kind,
    pub to: SocketAddr,
    /// Source address to bind or forge.
    pub from: Option<IpAddr>,
    /// Source port to bind.
    pub port: Option<u16>,
    pub ttl: Option<u8>,
    /// Payload bytes.
    pub size: usize,
    /// Datagrams, or connections one after the other.
    pub count: u32,
    pub timeout: Duration,
    /// Forbid fragmentation, and ignore what the path MTU is known to be.
    pub dont_fragment: bool,
    /// Send it with a wrong checksum.
    pub bad_checksum: bool,
    /// Send it with an IPv4 option no router accepts.
    pub bad_option: bool,
    /// Once the request is sent, make the node forget its connections, as a firewall's reload does.
    pub flush: bool,
    /// The name a DNS step asks for.
    pub name: Option<String>,
}

impl Step {
    pub const fn new(kind: Kind, to: SocketAddr) -> Self {
        Self {
            kind,
            to,
            from: None,
            port: None,
            ttl: None,
            size: 32,
            count: 1,
            // One SYN retransmission (after 1 s) fits in.
            timeout: Duration::from_millis(1200),
            dont_fragment: false,
            bad_checksum: false,
            bad_option: false,
            flush: false,
            name: None,
        }
    }

    #[must_use]
    pub const fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = Some(ttl);
        self
    }

    #[must_use]
    pub const fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    #[must_use]
    pub const fn size(mut self, bytes: usize) -> Self {
        self.size = bytes;
        self
    }

    #[must_use]
    pub const fn count(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    #[must_use]
    pub const fn dont_fragment(mut self) -> Self {
        self.dont_fragment = true;
        self
    }

    #[must_use]
    pub const fn bad_checksum(mut self) -> Self {
        self.bad_checksum = true;
        self
    }

    #[must_use]
    pub const fn bad_option(mut self) -> Self {
        self.bad_option = true;
        self
    }

    #[must_use]
    pub const fn flush(mut self) -> Self {
        self.flush = true;
        self
    }

    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// As `l4` of a verdict names it.
    pub const fn protocol(&self) -> &'static str {
        match (self.kind, self.to) {
            (Kind::Tcp | Kind::RawSyn | Kind::RawAck | Kind::Held, _) => "TCP",
            (Kind::Icmp, SocketAddr::V4(_)) => "ICMPv4",
            (Kind::Icmp, SocketAddr::V6(_)) => "ICMPv6",
            _ => "UDP",
        }
    }

    /// Flows netdiag must tell apart in it: each connection has its own source port, datagrams share one.
    pub const fn flows(&self) -> usize {
        match self.kind {
            Kind::Tcp => self.count as usize,
            _ => 1,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = Self::new(self.kind, self.to);
        let kind = KINDS
            .iter()
            .find(|(kind, _)| *kind == self.kind)
            .map_or("", |(_, name)| name);
        write!(f, "{kind}:{}", self.to)?;
        if let Some(from) = self.from {
            write!(f, ",from={from}")?;
        }
        if let Some(port) = self.port {
            write!(f, ",port={port}")?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, ",ttl={ttl}")?;
        }
        if self.size != plain.size {
            write!(f, ",size={}", self.size)?;
        }
        if self.count != plain.count {
            write!(f, ",count={}", self.count)?;
        }
        if self.timeout != plain.timeout {
            write!(f, ",timeout={}", self.timeout.as_millis())?;
        }
        let flags = [
            (self.dont_fragment, "df"),
            (self.bad_checksum, "badsum"),
            (self.bad_option, "badopt"),
            (self.flush, "flush"),
        ];
        for (_, flag) in flags.iter().filter(|(set, _)| *set) {
            write!(f, ",{flag}")?;
        }
        self.name
            .as_ref()
            .map_or(Ok(()), |name| write!(f, ",name={name}"))
    }
}

impl FromStr for Step {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(',');
        let target = parts.next().unwrap_or_default();
        let (kind, to) = target
            .split_once(':')
            .with_context(|| format!("{text}: want KIND:ADDRESS:PORT"))?;
        let kind = KINDS
            .iter()
            .find(|(_, name)| *name == kind)
            .with_context(|| format!("{text}: no kind of step is called {kind}"))?
            .0;
        let mut step = Self::new(kind, to.parse().with_context(|| format!("{text}: {to}"))?);
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            step.set(key, value)
                .with_context(|| format!("{text}: {part}"))?;
        }
        Ok(step)
    }
}

impl Step {
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "from" => self.from = Some(value.parse()?),
            "port" => self.port = Some(value.parse()?),
            "ttl" => self.ttl = Some(value.parse()?),
            "size" => self.size = value.parse()?,
            "count" => self.count = value.parse()?,
            "timeout" => self.timeout = Duration::from_millis(value.parse()?),
            "df" => self.dont_fragment = true,
            "badsum" => self.bad_checksum = true,
            "badopt" => self.bad_option = true,
            "flush" => self.flush = true,
            "name" => self.name = Some(value.to_owned()),
            _ => bail!("no such option"),
        }
        Ok(())
    }
}

/// What the sender got to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The echo, the handshake, the DNS answer without error.
    Ok,
    /// Sent; no answer was waited for.
    Sent,
    Timeout,
    /// RST, or ICMP port unreachable.
    Refused,
    /// ICMP or routing said there is no way (network, host, TTL, prohibited).
    Unreachable,
    /// ICMP said the packet is too big.
    TooBig,
    /// The local firewall or a local route forbids it.
    Denied,
    /// A DNS error code.
    Rcode(u8),
}

const ANSWERS: [(Answer, &str); 7] = [
    (Answer::Ok, "ok"),
    (Answer::Sent, "sent"),
    (Answer::Timeout, "timeout"),
    (Answer::Refused, "refused"),
    (Answer::Unreachable, "unreachable"),
    (Answer::TooBig, "too-big"),
    (Answer::Denied, "denied"),
];

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Rcode(code) = self {
            return write!(f, "rcode={code}");
        }
        f.pad(
            ANSWERS
                .iter()
                .find(|(answer, _)| answer == self)
                .map_or("", |(_, name)| name),
        )
    }
}

impl FromStr for Answer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(code) = text.strip_prefix("rcode=") {
            return Ok(Self::Rcode(code.parse()?));
        }
        let known = ANSWERS.iter().find(|(_, name)| *name == text);
        Ok(known
            .with_context(|| format!("no answer is called {text}"))?
            .0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_back_as_it_was_written() {
        for text in [
            "tcp:198.51.100.10:8080",
            "udp:[2001:db8::1]:9000,ttl=1,size=1400,df",
            "dns:10.0.0.1:53,timeout=500,name=nx.example",
            "raw-syn:10.0.0.1:80,from=127.0.0.1,badsum",
            "tcp:10.0.0.1:80,from=10.0.0.2,port=41000",
            "udp-oneway:10.0.0.1:80,count=50",
        ] {
            let step: Step = text.parse().expect(text);
            assert_eq!(step.to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "tcp",
            "tcp:nowhere:1",
            "foo:1.2.3.4:5",
            "tcp:1.2.3.4:5,x=1",
        ] {
            assert!(text.parse::<Step>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_reads_back() {
        for answer in [Answer::Ok, Answer::TooBig, Answer::Rcode(3)] {
            assert_eq!(
                answer.to_string().parse::<Answer>().expect("written by us"),
                answer
            );
        }
    }
}
