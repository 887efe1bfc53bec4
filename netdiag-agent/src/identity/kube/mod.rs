//! The Kubernetes API: who to ask, and how; and the names it knows.

pub mod client;
mod intern;
pub mod lookup;
mod masquerade;
pub mod names;
mod prune;
mod reflect;

pub(super) use masquerade::exempt;
pub use reflect::Pace;
