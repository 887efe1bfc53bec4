//! One conversation: both directions, before and after NAT, under one id.
//!
//! Pure. `table` finds the flow of an event, `place` names the spot it happened at, `record` keeps what was seen,
//! `drops` says what kind of loss a drop is.

pub mod drops;
pub mod nat;
pub mod place;
pub mod record;
pub mod table;
pub mod tcp;
pub mod tunnel;

pub use drops::{Backend, DropKind};
pub use place::{Leg, Spot, Stage};
pub use record::{Direction, DropGroup, Flow, FlowId, IcmpError, Reset, Sighting};
pub use table::FlowTable;
pub use tunnel::Tunnels;
