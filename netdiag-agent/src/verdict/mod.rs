//! From a flow's history to its verdict: one rule per cause, tried in the order of [`RULES`].
//!
//! Pure. A rule that does not apply returns `None`; rules never ask anybody for anything.

pub mod build;
mod case;
mod ends;
mod finding;
mod firewall;
mod hops;
mod masquerade;
mod rule_component;
pub mod rules;
pub mod types;
mod words;

pub use case::{Case, Neighbour, Neighbours};
pub use ends::names;
pub use finding::Finding;
pub use rules::{Page, RULES, Rule};
pub use types::*;
