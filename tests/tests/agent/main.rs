//! The node mode on a fake node: what it stores, tells and survives, and with how little privilege.
//!
//! Needs root: `cargo test -p netdiag-tests --features lab`. Without it each test says so and passes.

mod config;
mod lab;
mod privilege;
mod serving;
mod surviving;
