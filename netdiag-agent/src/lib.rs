//! netdiag: follows a pod's flows through a node and says where, and why, they die.
//!
//! ```text
//! kernel hooks ─ring→ decode ─→ Engine::step(Input) ─→ Verdict ─→ exporters
//!                                  ▲
//!     identity sources ─ deltas ───┘        recordings replay the same Input
//! ```

pub mod engine;
pub mod event;
pub mod identity;
pub mod inventory;
pub mod ruleset;
pub mod verdict;
