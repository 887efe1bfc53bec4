//! Recordings: the engine's input stream as lines of JSON.
//!
//! The first line is a header, each further line one [`Input`]. Lines are written whole, so a killed trace leaves a
//! readable prefix. The reader is bounded in line length and number of lines and takes any bytes without panicking.

mod mirror;
mod spell;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::{Config, Input};
use crate::event::Span;

const SCHEMA: &str = "netdiag.recording/v1";

/// How far a reader goes before it gives up on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one line.
    pub line: usize,
    pub lines: u64,
}

impl Default for Limits {
    /// The longest real lines list the sockets of a busy node: 60 bytes each.
    fn default() -> Self {
        Self {
            line: 4 << 20,
            lines: 50_000_000,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{act} recording {file}: {source}")]
    Io {
        act: &'static str,
        file: String,
        source: io::Error,
    },
    #[error("{file} is not a netdiag recording: {why}")]
    Foreign { file: String, why: &'static str },
    #[error("{file} is a recording of another version ({schema}); this netdiag reads {SCHEMA}")]
    Version { file: String, schema: String },
    #[error("{file} line {line}: {fault}")]
    Line {
        file: String,
        line: u64,
        fault: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    schema: String,
    /// Of the netdiag that wrote it.
    version: String,
    config: HeaderConfig,
}

/// The part of a header that says how to read the rest.
#[derive(Deserialize)]
struct Schema {
    schema: String,
}

#[derive(Serialize, Deserialize)]
struct HeaderConfig {
    no_answer_ns: u64,
}

/// Writes a recording.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    output: BufWriter<W>,
    file: String,
    line: Vec<u8>,
}

impl Recorder<File> {
    /// Creates or empties a file only its owner can read: it tells who talked to whom.
    pub fn create(path: &Path, config: Config) -> Result<Self, Error> {
        let file = path.display().to_string();
        let output = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| Error::Io {
                act: "create",
                file: file.clone(),
                source,
            })?;
        Self::new(output, file, config)
    }
}

impl<W: Write> Recorder<W> {
    /// `file` is the name in error messages.
    pub fn new(output: W, file: String, config: Config) -> Result<Self, Error> {
        let mut recorder = Self {
            output: BufWriter::with_capacity(64 << 10, output),
            file,
            line: Vec::new(),
        };
        let header = Header {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: HeaderConfig {
                no_answer_ns: config.no_answer.0,
            },
        };
        recorder.write_line(&header)?;
        recorder.flush()?;
        Ok(recorder)
    }

    /// Writes one input; each tick and the end push all lines out, so that a kill loses one tick at most.
    pub fn write(&mut self, input: &Input) -> Result<(), Error> {
        self.write_line(&mirror::Line::from(input))?;
        if matches!(input, Input::Tick(_) | Input::Stop(_)) {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Pushes out what is buffered; dropping a recorder does the same, but cannot say when it failed.
    pub fn finish(mut self) -> Result<(), Error> {
        self.flush()
    }

    /// The buffer passes a line on either whole or not at all, because each is one write.
    fn write_line(&mut self, line: &impl Serialize) -> Result<(), Error> {
        self.line.clear();
        let written = serde_json::to_writer(&mut self.line, line)
            .map_err(io::Error::from)
            .and_then(|()| {
                self.line.push(b'\n');
                self.output.write_all(&self.line)
            });
        written.map_err(|source| Error::Io {
            act: "write",
            file: self.file.clone(),
            source,
        })
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.output.flush().map_err(|source| Error::Io {
            act: "write",
            file: self.file.clone(),
            source,
        })
    }
}

/// Reads a recording, one input after the other. Ends at the first fault.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    file: String,
    limits: Limits,
    config: Config,
    line: u64,
    buffer: Vec<u8>,
    ended: bool,
}

impl Reader<BufReader<File>> {
    pub fn open(path: &Path, limits: Limits) -> Result<Self, Error> {
        let file = path.display().to_string();
        let source = File::open(path).map_err(|source| Error::Io {
            act: "open",
            file: file.clone(),
            source,
        })?;
        Self::new(BufReader::with_capacity(64 << 10, source), file, limits)
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads the header. `file` is the name in error messages.
    pub fn new(source: R, file: String, limits: Limits) -> Result<Self, Error> {
        let config = Config::default();
        let mut reader = Self {
            source,
            file,
            limits,
            config,
            line: 0,
            buffer: Vec::new(),
            ended: false,
        };
        let foreign = |file: &str, why| Error::Foreign {
            file: file.to_owned(),
            why,
        };
        match reader.read_line() {
            Ok(true) => {}
            Ok(false) => return Err(foreign(&reader.file, "it is empty")),
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(_) => {
                return Err(foreign(
                    &reader.file,
                    "it does not begin with the header line",
                ));
            }
        }
        let schema = serde_json::from_slice::<Schema>(&reader.buffer)
            .ok()
            .map(|header| header.schema)
            .filter(|schema| schema.starts_with("netdiag.recording/"))
            .ok_or_else(|| foreign(&reader.file, "it does not begin with the header line"))?;
        if schema != SCHEMA {
            return Err(Error::Version {
                file: reader.file,
                schema,
            });
        }
        let header: Header = reader.parse()?;
        reader.config.no_answer = Span(header.config.no_answer_ns);
        Ok(reader)
    }

    /// What the engine was told when the recording was made.
    pub fn config(&self) -> Config {
        self.config
    }

    /// The line read last, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    fn next_input(&mut self) -> Result<Option<Input>, Error> {
        loop {
            if !self.read_line()? {
                return Ok(None);
            }
            if !self.buffer.trim_ascii().is_empty() {
                return self.parse::<mirror::Line>().map(|line| Some(line.into()));
            }
        }
    }

    /// Fills the buffer with the next line; `false` at the end of the file.
    fn read_line(&mut self) -> Result<bool, Error> {
        self.buffer.clear();
        let most = self.limits.line as u64 + 1;
        let read = (&mut self.source)
            .take(most)
            .read_until(b'\n', &mut self.buffer);
        if read.map_err(|source| Error::Io {
            act: "read",
            file: self.file.clone(),
            source,
        })? == 0
        {
            return Ok(false);
        }
        self.line += 1;
        if self.buffer.len() as u64 >= most && self.buffer.last() != Some(&b'\n') {
            return Err(self.fault(format!("longer than {} bytes", self.limits.line)));
        }
        if self.line > self.limits.lines {
            return Err(self.fault(format!("more than {} lines", self.limits.lines)));
        }
        Ok(true)
    }

    fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        serde_json::from_slice(&self.buffer).map_err(|error| {
            if error.is_eof() && self.buffer.last() != Some(&b'\n') {
                return self
                    .fault("cut off: the trace that wrote it did not end in order".to_owned());
            }
            // Each line is its own document, so serde_json always says "line 1".
            let text = error.to_string();
            let what = text
                .split_once(" at line ")
                .map_or(text.as_str(), |(what, _)| what);
            self.fault(format!("{what} (column {})", error.column()))
        })
    }

    fn fault(&self, fault: String) -> Error {
        Error::Line {
            file: self.file.clone(),
            line: self.line,
            fault,
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Input, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_input().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod tests;
