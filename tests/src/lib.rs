//! The lab: a fake node made of network namespaces, its faults, and the scenarios run on it.
//!
//! - `plan` names and addresses · `node`, `topology` build from them · `server` answers · `netns`, `cleanup` own and
//!   remove the namespaces
//! - `step`, `send` are the traffic, run inside the traced pod · `packet` the kinds no socket makes, `dns` the messages
//! - `faults` break a node, one function each, by the tools an operator would use · `bpf` the programs that drop
//! - `scenario`, `table` what is broken and what must be said about it · `runner`, `check`, `snapshot` run and judge
//! - `cluster` the same on a real Kubernetes node
//! - `conntrack`, `process`, `programs` what they compare with and run · `replay` the same scenarios from their recordings

pub mod bpf;
pub mod check;
pub mod cleanup;
pub mod cluster;
pub mod conntrack;
pub mod dns;
pub mod faults;
pub mod kernel;
pub mod needs;
mod netlink;
pub mod netns;
pub mod node;
mod objects;
pub mod outcome;
pub mod packet;
pub mod plan;
pub mod process;
pub mod programs;
pub mod replay;
pub mod runner;
pub mod scenario;
pub mod send;
pub mod server;
pub mod snapshot;
pub mod step;
pub mod sys;
mod table;
pub mod topology;
