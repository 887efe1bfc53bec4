//! Pods of this node: from what the operator calls them to their network namespaces.
//!
//! Asked in this order, and each that does not answer costs names, never the trace:
//! - [`local`]: what lives here. The container runtime ([`cri`]) knows names, UIDs and labels; without it the processes'
//!   cgroups ([`cgroup`], [`procs`]) know UIDs, and what the network plugins left behind ([`cni`]) knows names.
//! - [`api`]: what belongs together (workloads, labels as they are now), and where a pod runs that does not run here.
//!
//! A pod is alive when its runtime says that its sandbox is ready, or when it has a process: dead sandboxes stay listed,
//! with a namespace's path that may have been given to another pod since.

pub mod api;
pub mod cgroup;
mod choose;
mod cluster;
pub mod cni;
pub mod cri;
mod error;
mod find;
mod follow;
mod labels;
pub mod local;
mod names;
mod near;
mod pattern;
mod procs;
mod query;

pub use cgroup::Uid;
pub use error::FindError;
pub use find::{Finder, Found, Pod};
pub use follow::{Follower, Nudge};
pub use local::Roots;
pub use names::names;
pub use query::{Query, Sources, Wanted, WorkloadKind};
