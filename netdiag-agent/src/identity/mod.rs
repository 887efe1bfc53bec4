//! Who is who on this node: resolves what the user typed and tells the core about it.
//!
//! Everything here ends in [`Delta`](crate::inventory::Delta)s; nothing here sees a flow. Beside `kernel` this is the
//! only place that speaks netlink and reads /proc. All calls block for a few milliseconds and run their work on an own
//! thread inside the namespace asked for, so async callers want `spawn_blocking`; [`links::Watch`] alone is async.

#![expect(
    clippy::missing_errors_doc,
    reason = "IdentityError says all there is to say"
)]

pub mod conntrack;
pub mod counters;
mod error;
pub mod kube;
pub mod links;
pub mod masquerade;
mod netlink;
pub mod netns;
mod nftables;
pub mod pods;
pub mod programs;
mod roles;
pub mod rule_trace;
pub mod rulesets;
mod scene;
pub mod sockets;
pub mod target;
#[cfg(test)]
mod testing;
mod view;

pub use error::IdentityError;
pub use netns::{NetnsHandle, run_in};
pub use scene::machine;
pub use target::{LinkRef, Selector, Target, resolve};
