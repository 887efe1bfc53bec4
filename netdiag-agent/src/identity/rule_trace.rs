//! `--explain-rule`: the kernel itself says which rule of nftables dropped a packet of the flow.
//!
//! The only thing in netdiag that adds to a node's rules, and only where it was asked for: a table of our own marks the
//! flow's packets, no more than some per second, and decides nothing. It is gone when [`RuleTrace`] is.

use super::error::IdentityError;
use super::netns::{NetnsHandle, run_in};
use super::nftables::{Listener, Own, sweep as sweep_here};
use super::scene::now;
use crate::event::{Detail, Event, Netns, Place};

pub use super::nftables::Scope;

/// A running trace in one namespace.
pub struct RuleTrace {
    netns: Netns,
    label: String,
    listener: Listener,
    // Removed when this is dropped.
    _table: Own,
}

impl RuleTrace {
    /// Listens first, then marks.
    pub fn start(namespace: &NetnsHandle, scope: &Scope) -> Result<Self, IdentityError> {
        let started = run_in(namespace, || Ok((Listener::open()?, Own::create(scope)?)))?;
        let (listener, table) = started.map_err(|cause| IdentityError::Netlink {
            act: "make a trace table among the rules",
            namespace: namespace.label(),
            cause,
        })?;
        Ok(Self {
            netns: namespace.netns(),
            label: namespace.label(),
            listener,
            _table: table,
        })
    }

    /// Drops since the last call. A message has no time of its own: it is a moment old.
    pub fn events(&mut self) -> Vec<Event> {
        let dropped = match self.listener.dropped() {
            Ok(dropped) => dropped,
            Err(error) => {
                // ENOBUFS: the kernel had more to say than the socket holds.
                tracing::warn!("rule trace of {}: messages lost: {error}", self.label);
                return Vec::new();
            }
        };
        let at = now();
        dropped
            .into_iter()
            .map(|(packet, ruled)| Event {
                at,
                cpu: 0,
                hook: None,
                place: Place {
                    netns: Some(self.netns),
                    ..Place::default()
                },
                packet: Some(packet),
                conntrack: None,
                detail: Detail::Ruled(ruled),
            })
            .collect()
    }
}

/// Removes what a killed predecessor left in these namespaces, where the kernel did not.
pub fn sweep<'a>(namespaces: impl Iterator<Item = &'a NetnsHandle>) {
    for namespace in namespaces {
        match run_in(namespace, sweep_here) {
            Ok(Ok(_)) | Err(IdentityError::Gone { .. }) => {}
            // EINVAL: no nf_tables in this kernel.
            Ok(Err(error)) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Ok(Err(error)) => {
                tracing::warn!("look for trace tables in {}: {error}", namespace.label());
            }
            Err(error) => tracing::warn!("{error}"),
        }
    }
}
