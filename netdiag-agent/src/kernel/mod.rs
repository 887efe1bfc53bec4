//! The only place with aya: what the kernel can do, our programs in it, and the events they report.
//!
//! | file | holds |
//! |---|---|
//! | `btf`, `symbols` | parsers of what the kernel says about itself (pure) |
//! | `facts` | BTF → load-time settings and names (pure) |
//! | `capability` | what is possible here, probed bit by bit |
//! | `hooks` | the registry of programs |
//! | `plan` | capabilities → what to attach, what stays unseen (pure) |
//! | `attach`, `clsact`, `netns` | putting programs in place and taking them away |
//! | `ring`, `decode` | bytes → events |
//! | `load` | the object and what is read from the kernel for it |
//! | `session` | one trace |
//! | `doctor` | all of it for a human |

mod attach;
mod btf;
mod capability;
mod clsact;
mod decode;
mod doctor;
mod error;
mod facts;
mod fexit;
mod filter;
#[cfg(test)]
mod header_tests;
mod hooks;
#[cfg(test)]
mod lab;
mod load;
mod log;
mod netns;
mod plan;
mod ring;
mod session;
mod symbols;
#[cfg(test)]
mod traffic_tests;

pub use attach::{WatchInterface, sweep_leftovers};
pub use doctor::{CapabilityReport, Probed, ensure_observable, probe};
pub use error::KernelError;
pub use plan::Unobservable;
pub use ring::Totals;
pub use session::{LoadedProgram, Session, Watch};
