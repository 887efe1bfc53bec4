//! The Kubernetes API: who to ask, and how.

pub mod client;
