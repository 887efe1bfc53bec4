//! The one writer of a store.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::segment::{self, Segment};
use super::{Error, io_error};

/// Segments a store consists of, so that making room costs an eighth of what is kept and not all of it.
const SEGMENTS: u64 = 8;

/// Verdicts tell who speaks with whom: for their owner only.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Bytes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub total: u64,
    pub segment: u64,
}

impl Limits {
    /// A store of this many bytes in all.
    pub const fn of_total(total: u64) -> Self {
        Self {
            total,
            segment: total / SEGMENTS,
        }
    }
}

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Lines a killed writer never finished; they were cut off.
    pub torn: u64,
    /// Bytes that were there and are kept.
    pub bytes: u64,
}

/// Holds the folder's lock while it lives.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    limits: Limits,
    /// Oldest first; the last is written to. Never empty.
    segments: Vec<Segment>,
    file: File,
    _lock: File,
}

impl Writer {
    /// Makes the folder where there is none, cuts off a torn line and goes on behind the last whole one.
    pub fn open(folder: &Path, limits: Limits) -> Result<(Self, Recovered), Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder)
            .map_err(io_error("create the verdict store", folder))?;
        let lock = lock(folder)?;
        let mut segments = segment::list(folder)?;
        let mut torn = 0;
        if let Some(last) = segments.last_mut() {
            torn = cut(&last.path(folder), &mut last.len)?;
        } else {
            segments.push(Segment { number: 1, len: 0 });
        }
        let last = segments[segments.len() - 1];
        let mut writer = Self {
            file: append_to(&last.path(folder))?,
            folder: folder.to_owned(),
            limits,
            segments,
            _lock: lock,
        };
        // The limit may be lower than last time.
        writer.make_room()?;
        let bytes = writer.bytes();
        Ok((writer, Recovered { torn, bytes }))
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// From now on; what is too much already goes at once.
    pub fn set_limits(&mut self, limits: Limits) -> Result<(), Error> {
        self.limits = limits;
        self.make_room()
    }

    /// Writes one line, given without its newline, and makes room for it by giving up the oldest segment.
    pub fn append(&mut self, line: &str) -> Result<(), Error> {
        debug_assert!(!line.contains('\n'), "a line is one line");
        let more = line.len() as u64 + 1;
        if more > self.limits.segment {
            return Err(Error::TooLong {
                bytes: line.len(),
                limit: self.limits.segment,
            });
        }
        let len = self.last().len;
        if len > 0 && len + more > self.limits.segment {
            self.next_segment()?;
        }
        // One buffer and so one system call: the fewer, the rarer a torn line.
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        if let Err(source) = self.file.write_all(&bytes) {
            let path = self.last().path(&self.folder);
            // A full disk took a part of the line; without it the next one starts where a line should.
            let _ = self.file.set_len(self.last().len);
            return Err(io_error("write", path)(source));
        }
        self.last_mut().len += more;
        self.make_room()
    }

    /// Makes sure that what was written survives a power cut.
    pub fn sync(&self) -> Result<(), Error> {
        let path = self.last().path(&self.folder);
        self.file.sync_data().map_err(io_error("write", path))
    }

    fn last(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    fn last_mut(&mut self) -> &mut Segment {
        let at = self.segments.len() - 1;
        &mut self.segments[at]
    }

    fn next_segment(&mut self) -> Result<(), Error> {
        self.sync()?;
        let next = Segment {
            number: self.last().number + 1,
            len: 0,
        };
        self.file = append_to(&next.path(&self.folder))?;
        self.segments.push(next);
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), Error> {
        while self.segments.len() > 1 && self.bytes() > self.limits.total {
            let path = self.segments[0].path(&self.folder);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error("remove", path)(error));
                }
                _ => self.segments.remove(0),
            };
        }
        Ok(())
    }
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(FILE_MODE)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            path: folder.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", path)(source)),
    }
}

/// Cuts off what is behind the last newline. Returns how many lines that were: none or one.
fn cut(path: &Path, len: &mut u64) -> Result<u64, Error> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(io_error("open", path))?;
    let whole = segment::whole_len(&mut file).map_err(io_error("read", path))?;
    let torn = u64::from(whole < *len);
    if torn > 0 {
        file.set_len(whole).map_err(io_error("shorten", path))?;
        *len = whole;
    }
    Ok(torn)
}

fn append_to(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(io_error("open", path))
}
