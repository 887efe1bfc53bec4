//! netdiag: follows a pod's flows through a node and says where, and why, they die.
//!
//! ```text
//! kernel hooks ─ring→ decode ─→ Engine::step(Input) ─→ Verdict ─→ exporters
//!                                  ▲
//!     identity sources ─ deltas ───┘        recordings replay the same Input
//! ```
//!
//! # Map, in the direction data flows
//! - [`kernel`]: the only place with aya. Probes capabilities, plans what to attach, loads, attaches, reads the ring and
//!   decodes bytes to [`event::Event`]s whose reasons and addresses are already names.
//! - [`identity`]: what the user typed becomes a pod, its node and the interfaces between; netlink and /proc.
//!   It sends [`inventory::Delta`]s and never sees a flow.
//! - [`engine`]: the one door into the core. Sorts events of all CPUs by time, finds each one's [`flow`], and asks the
//!   rules of [`verdict`] once a flow's evidence has settled.
//! - [`export`], [`recording`]: the only places where core types meet serde, in mirror types.
//! - [`pcap`]: the packets behind the verdicts as a pcapng file, from the flows' histories when all is decided.
//! - [`store`]: verdicts on disk, a bounded ring that survives its writer.
//! - [`agent`]: the node mode without its traces: settings, service, metrics, and the budget that keeps it small.
//! - [`privilege`]: gives up the capabilities nobody needs, before there is a second thread.
//! - [`app`]: the only module that knows all the others.
//!
//! # Invariants (`cargo xtask lint` checks the first two)
//! - `event`, `inventory`, `flow`, `verdict` and `engine` do no I/O, read no clock, know no serde, aya or tokio, and
//!   cannot fail: unknown bytes are [`event::Detail::Unknown`], a rule that does not apply returns `None`.
//! - Nobody below `app` knows `app`; `identity` never sees flows; exporters never see packets.
//! - A drop is a death only when the flow then fails to advance (`verdict::Case::death`).
//! - A verdict is a function of the events in order of kernel time; the order in which CPUs deliver them is immaterial.
//! - What could not be seen is data (`BlindSpot`, `Input::Lost`) and ends in the verdict, never in an `if` elsewhere.
//!
//! # Where this differs from the first design
//! - `netdiag trace -- COMMAND` runs the command in the pod's network namespace (its files are the node's): a pod without
//!   a shell can be made to speak, and `ip netns exec POD …` works there just as well.
//! - `inventory` is its own pure module, so that rules need nothing of `identity`.
//! - A verdict gets a last revision at the end of the trace when its packet counts have grown since it was decided.

pub mod agent;
pub mod app;
pub mod cli;
pub mod engine;
pub mod event;
pub mod explain;
pub mod export;
pub mod flow;
pub mod identity;
pub mod inventory;
pub mod kernel;
pub mod pcap;
pub mod privilege;
pub mod recording;
pub mod replay;
pub mod ruleset;
pub mod store;
pub mod verdict;
