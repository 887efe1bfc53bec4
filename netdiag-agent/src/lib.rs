//! netdiag: follows a pod's flows through a node and says where, and why, they die.
//!
//! ```text
//! kernel hooks ─ring→ decode ─→ Engine::step(Input) ─→ Verdict ─→ exporters
//!                                  ▲
//!     identity sources ─ deltas ───┘        recordings replay the same Input
//! ```

pub mod cli;
pub mod engine;
pub mod event;
pub mod explain;
pub mod export;
pub mod flow;
pub mod identity;
pub mod inventory;
pub mod recording;
pub mod replay;
pub mod verdict;
