//! Verdicts on disk: a ring of NDJSON segment files, bounded in size, sound whenever its writer dies.
//!
//! A line is whole when its newline is there. What a killed writer left behind the last newline is cut off and counted
//! when the store is next opened; readers never see it. Lines are in the page cache once [`Writer::append`] returns, so
//! they survive the process but not a power cut before the segment is full.

mod reader;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::PathBuf;

pub use reader::{Query, Read, select};
pub use writer::{Limits, Recovered, Writer};

/// What can go wrong with the files. Each message names the act and the path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{act} {path}: {source}")]
    Io {
        act: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "the verdict store {path} is in use by another netdiag agent; give each its own folder"
    )]
    InUse { path: PathBuf },
    #[error("a verdict of {bytes} bytes is larger than a whole segment of {limit}")]
    TooLong { bytes: usize, limit: u64 },
}

fn io_error(act: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { act, path, source }
}
