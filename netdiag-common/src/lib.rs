//! The wire between the eBPF programs and the agent.
//!
//! Rules of the wire: `repr(C)`, fixed-width fields, explicit padding, no `bool`, no Rust enum, no `Option`,
//! a size assert per struct. Addresses are 16 bytes (IPv4 as v4-mapped), ports are in host order.
//! Nothing here depends on more than `core`; `aya::Pod` is implemented under the feature `user`.
#![no_std]

pub mod event;
pub mod hook;
pub mod offsets;
pub mod settings;
pub mod tuple;
