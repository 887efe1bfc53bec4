//! The node's packet filter as data: which rule, of which of three back ends, drops this packet?
//!
//! Pure. `identity::rulesets` runs the tools and hands their output to [`iptables::parse`] and [`nft::parse`]; both give
//! [`model::Table`]s. [`evaluate`] walks a packet through a hook as the kernel would, with a third answer wherever a
//! match asks for something not known; [`narrow`] weighs what is left against counters; [`owner`] and [`undo`] say whose
//! rule it is and what takes it away.

mod basics;
mod evaluate;
pub mod facts;
pub mod ipset;
pub mod iptables;
mod matching;
pub mod model;
mod narrow;
pub mod nft;
mod order;
pub mod owner;
pub mod proxy;
pub mod reading;
mod state;
mod survey;
mod traced;
mod translate;
pub mod undo;
mod walk;

pub use evaluate::{Candidate, ElementRef, Evaluation, Fate, Via, evaluate};
pub use facts::{AddressType, CtFacts, CtState, Interface, PacketFacts};
pub use model::{Backend, Family, Hook, RuleRef, Ruleset, Tri};
pub use narrow::narrow;
pub use owner::{Owner, ServicePort, owner, policies, service_without_endpoints};
pub use reading::{Listing, Reading, Source};
pub use traced::traced;
pub use translate::{Translation, exempted, translation};
pub use undo::{Undo, command, place, undo};

#[cfg(test)]
mod tests;
