//! From a flow's history to its verdict: one rule per cause, tried in the order of [`RULES`].
//!
//! Pure. A rule that does not apply returns `None`; rules never ask anybody for anything.

pub mod rules;
mod types;

pub use rules::RULES;
pub use types::*;
