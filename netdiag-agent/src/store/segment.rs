//! The files of a store: `verdicts-NUMBER.ndjson`, written in the order of their numbers.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Error, io_error};

const PREFIX: &str = "verdicts-";
const SUFFIX: &str = ".ndjson";

/// One file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub number: u64,
    /// Bytes.
    pub len: u64,
}

impl Segment {
    pub fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{PREFIX}{:010}{SUFFIX}", self.number))
    }
}

/// All segments of a folder, oldest first. Other files are not ours.
pub(super) fn list(folder: &Path) -> Result<Vec<Segment>, Error> {
    let entries = fs::read_dir(folder).map_err(io_error("list the verdict store", folder))?;
    let mut found: Vec<Segment> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
            Some(Segment {
                number: number.parse().ok()?,
                len: entry.metadata().ok()?.len(),
            })
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Bytes up to and with the last newline.
pub(super) fn whole_len(file: &mut File) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let mut end = file.metadata()?.len();
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
