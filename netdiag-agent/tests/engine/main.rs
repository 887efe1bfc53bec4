//! The core on hand-made event streams: what a node reports of one connection, and the verdict it must give.
//!
//! Recordings of real runs are replayed by the scenarios of the `tests` crate; here stand the cases that need exact
//! times or orders which a real run cannot be made to have.

mod deaths;
mod errors;
mod nat;
mod order;
mod places;
mod refusals;
mod routes;
mod services;
mod story;
