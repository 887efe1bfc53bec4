//! `--to HOST[:PORT]`.

mod object;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

pub use object::{Object, ObjectKind};

/// Which flows: those to this host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub host: Host,
    /// `None`: any port.
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Any,
    Address(IpAddr),
    Name(String),
    /// Only the cluster knows where it is.
    Object(Object),
}

impl Destination {
    /// All addresses of the host, asking the system resolver for a name; empty for any host. May block. The cluster's
    /// objects have none here.
    pub fn addresses(&self) -> Result<Vec<IpAddr>, super::Error> {
        let fault = |why: String| super::Error::Input(format!("--to {self}: {why}"));
        let name = match &self.host {
            Host::Any | Host::Object(_) => return Ok(Vec::new()),
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let found = (name.as_str(), 0)
            .to_socket_addrs()
            .map_err(|error| fault(format!("cannot resolve {name}: {error}")))?;
        let mut addresses: Vec<_> = found.map(|address| address.ip().to_canonical()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(fault(format!("{name} has no address")));
        }
        Ok(addresses)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Any, None) => f.write_str("anywhere"),
            (Host::Any, Some(port)) => write!(f, ":{port}"),
            (Host::Address(address), None) => address.fmt(f),
            (Host::Address(address), Some(port)) => SocketAddr::new(*address, port).fmt(f),
            (Host::Object(object), None) => object.fmt(f),
            (Host::Object(object), Some(port)) => write!(f, "{object}:{port}"),
            (Host::Name(name), None) => f.write_str(name),
            (Host::Name(name), Some(port)) => write!(f, "{name}:{port}"),
        }
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(object) = Object::read(text) {
            return Self::of_object(object?);
        }
        let (host, port) = split(text)?;
        let port = port.map(parse_port).transpose()?;
        if host.is_empty() {
            return match port {
                Some(_) => Ok(Self {
                    host: Host::Any,
                    port,
                }),
                None => Err("wanted is HOST, HOST:PORT or :PORT".to_owned()),
            };
        }
        Ok(Self {
            host: parse_host(host)?,
            port,
        })
    }
}

impl Destination {
    fn of_object((mut object, port): (Object, Option<&str>)) -> Result<Self, String> {
        let port = match port {
            None => None,
            // Names of ports hold at least one letter (RFC 6335).
            Some(name) if name.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                object.port_name = Some(name.to_owned());
                None
            }
            Some(number) => Some(parse_port(number)?),
        };
        Ok(Self {
            host: Host::Object(object),
            port,
        })
    }
}

/// Host without brackets, and port.
fn split(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']').ok_or("the bracket is never closed")?;
        host.parse::<Ipv6Addr>()
            .map_err(|_| format!("{host} is not an IPv6 address"))?;
        return match tail.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if tail.is_empty() => Ok((host, None)),
            None => Err(format!("'{tail}' after the bracket: wanted is [IPv6]:PORT")),
        };
    }
    // More than one colon without brackets can only be an address.
    if text.matches(':').count() > 1 {
        text.parse::<Ipv6Addr>()
            .map_err(|_| "not an IPv6 address; with a port: [IPv6]:PORT".to_owned())?;
        return Ok((text, None));
    }
    Ok(text
        .split_once(':')
        .map_or((text, None), |(host, port)| (host, Some(port))))
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(format!(
            "'{text}' is not a port: wanted is a number from 1 to 65535"
        )),
    }
}

fn parse_host(text: &str) -> Result<Host, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Host::Address(address.to_canonical()));
    }
    let labels = || text.strip_suffix('.').unwrap_or(text).split('.');
    let sound = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
    };
    // A name whose last label is a number would be read as an address by every resolver (10.0.0, 300.1.1.1).
    let numeric = labels()
        .next_back()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if text.len() > 253 || numeric || !labels().all(sound) {
        return Err(format!("'{text}' is neither an address nor a host name"));
    }
    Ok(Host::Name(text.to_owned()))
}
