//! The node mode without the traces themselves: settings, the service, metrics, and the budget that keeps it small.
//!
//! Nothing here attaches anything. `app::agent` runs the traces, feeds what they find to [`metrics`] and to the store,
//! and carries out what [`watchdog`] decides.

pub mod api;
pub mod choice;
pub mod client;
pub mod config;
pub mod metrics;
pub mod traces;
pub mod watchdog;
