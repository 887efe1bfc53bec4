//! From the API's objects to the few facts a verdict needs; nothing else of an object is kept.
//!
//! Whatever an object holds is read as far as it makes sense: an address that is none is passed over.

mod machines;
mod pods;
mod policies;
mod services;
mod slices;

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::intern::Interner;
use crate::event::Proto;
use crate::inventory::cluster::{Change, Name, TargetPort};

pub use machines::{machine, namespace};
pub use pods::pod;
pub use policies::policy;
pub use services::service;
pub use slices::{beta_slice, endpoints, slice};

/// What reading an object needs besides it.
#[derive(Debug, Default)]
pub struct Pruner {
    pub interner: Interner,
    /// Nanoseconds to add to a kernel time to get nanoseconds since the Unix epoch.
    pub wall_offset: i64,
}

/// An object's identity among its kind, and the news it is; `None`: it lacks what every object has.
pub type Read<K> = fn(&mut Pruner, &K) -> Option<(Arc<str>, Change)>;

fn name(pruner: &mut Pruner, meta: &ObjectMeta) -> Option<Name> {
    Some(Name {
        namespace: pruner.interner.text(meta.namespace.as_deref()?),
        name: meta.name.as_deref()?.into(),
    })
}

/// By namespace and name.
fn key(name: &Name) -> Arc<str> {
    name.to_string().into()
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn proto(text: Option<&str>) -> Proto {
    match text {
        Some("UDP") => Proto::UDP,
        Some("SCTP") => Proto(132),
        _ => Proto::TCP,
    }
}

fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok()
}

fn target(pruner: &mut Pruner, port: &IntOrString) -> Option<TargetPort> {
    Some(match port {
        IntOrString::Int(number) => TargetPort::Number(self::port(*number)?),
        // A number in quotes is a number.
        IntOrString::String(text) => match text.parse() {
            Ok(number) => TargetPort::Number(number),
            Err(_) => TargetPort::Named(pruner.interner.text(text)),
        },
    })
}

#[cfg(test)]
mod tests;
