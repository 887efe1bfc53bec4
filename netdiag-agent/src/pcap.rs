//! Packets as a pcapng file: what `--pcap` writes.
//!
//! One section per trace; in it one interface per hop, so that a packet on its way appears once for each hop that saw it,
//! as it looked there. The verdict is a comment on the packet that decided it; all verdicts are in the section's comment.
//!
//! Written in one go when all is decided: only then is it known which packets decide, and failing flows go first where
//! there are more packets than a file should hold. `shots` takes the packets from the flows, `comment` words them.

mod comment;
mod shots;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};

use self::shots::{Seen, Shot};
use crate::engine::Engine;
use crate::event::Pass;
use crate::inventory::Inventory;
use crate::verdict::Verdict;

/// A file larger than this is no help to anybody; what is left out is said.
const MAX_BYTES: usize = 64 << 20;

/// What a packet takes in the file beside its bytes.
const OVERHEAD: usize = 48;

/// Last words remembered; a flow whose verdict is forgotten keeps its packets.
const MAX_VERDICTS: usize = 16_384;

/// `if_tsresol`: 10⁻⁹ s.
const NANOSECONDS: u8 = 9;

#[derive(Debug, thiserror::Error)]
#[error("{act} packet file {file}: {source}")]
pub struct Error {
    act: &'static str,
    file: String,
    source: io::Error,
}

/// What a section holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub packets: usize,
    pub flows: usize,
    /// Packets beyond the size a file may have.
    pub left_out: usize,
}

/// A pcapng file being written.
#[derive(Debug)]
pub struct Capture<W: Write> {
    output: W,
    /// Its name in error messages.
    file: String,
    limit: usize,
    /// Last word on each flow of this section.
    verdicts: HashMap<String, Verdict>,
}

impl Capture<BufWriter<File>> {
    /// Creates or empties a file only its owner can read: it holds the packets of others.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let output = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path);
        match output {
            Ok(output) => Ok(Self::new(BufWriter::new(output), file)),
            Err(source) => Err(Error {
                act: "create",
                file,
                source,
            }),
        }
    }
}

impl<W: Write> Capture<W> {
    pub fn new(output: W, file: String) -> Self {
        Self {
            output,
            file,
            limit: MAX_BYTES,
            verdicts: HashMap::new(),
        }
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// Remembers what is said of a flow.
    pub fn verdict(&mut self, verdict: &Verdict) {
        if self.verdicts.len() >= MAX_VERDICTS {
            self.verdicts
                .retain(|_, verdict| verdict.outcome.is_failing());
        }
        if self.verdicts.len() < MAX_VERDICTS || self.verdicts.contains_key(&verdict.uuid) {
            let verdict = Verdict {
                history: Vec::new(),
                ..verdict.clone()
            };
            self.verdicts.insert(verdict.uuid.clone(), verdict);
        }
    }

    /// Writes all packets of a trace that has ended, and forgets its verdicts.
    pub fn section(&mut self, engine: &Engine) -> Result<Written, Error> {
        let seen = shots::of(engine, &self.verdicts, self.limit, OVERHEAD);
        let comment = comment::section(&seen, self.verdicts.values());
        let written = write(&mut self.output, &seen, comment, engine.inventory());
        self.verdicts.clear();
        match written {
            Ok(()) => Ok(Written {
                packets: seen.shots.len(),
                flows: seen.flows,
                left_out: seen.left_out,
            }),
            Err(source) => Err(Error {
                act: "write",
                file: self.file.clone(),
                source,
            }),
        }
    }
}

fn write(
    output: &mut impl Write,
    seen: &Seen<'_>,
    comment: String,
    inventory: &Inventory,
) -> io::Result<()> {
    let mut writer = PcapNgWriter::with_section_header(&mut *output, header(inventory, comment))
        .map_err(to_io)?;
    let mut interfaces: HashMap<&shots::Interface, u32> = HashMap::new();
    let offset = inventory.node.as_ref().map_or(0, |node| node.wall_offset);
    for shot in &seen.shots {
        let next = interfaces.len() as u32;
        let id = *interfaces.entry(&shot.interface).or_insert(next);
        if id == next {
            writer
                .write_pcapng_block(description(&shot.interface, inventory))
                .map_err(to_io)?;
        }
        writer
            .write_pcapng_block(packet(shot, id, offset))
            .map_err(to_io)?;
    }
    output.flush()
}

fn to_io(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

fn header(inventory: &Inventory, comment: String) -> SectionHeaderBlock<'static> {
    let program = concat!("netdiag ", env!("CARGO_PKG_VERSION"));
    let mut options = vec![
        SectionHeaderOption::Comment(Cow::Owned(comment)),
        SectionHeaderOption::UserApplication(Cow::Borrowed(program)),
    ];
    if let Some(node) = &inventory.node {
        let kernel = format!("Linux {} on {}", node.kernel, node.name);
        options.push(SectionHeaderOption::OS(Cow::Owned(kernel)));
    }
    SectionHeaderBlock {
        endianness: Endianness::native(),
        options,
        ..SectionHeaderBlock::default()
    }
}

fn description<'a>(
    interface: &'a shots::Interface,
    inventory: &Inventory,
) -> InterfaceDescriptionBlock<'a> {
    let mut block =
        InterfaceDescriptionBlock::new(DataLink::RAW, netdiag_common::event::SNAP_BYTES as u32);
    block.options = vec![
        InterfaceDescriptionOption::IfName(Cow::Borrowed(&interface.name)),
        InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
    ];
    if let Some(netns) = interface.netns {
        let name = inventory
            .namespace(netns)
            .and_then(|namespace| namespace.name.as_deref())
            .unwrap_or("unnamed");
        let text = format!("network namespace {name} ({netns})");
        block
            .options
            .push(InterfaceDescriptionOption::IfDescription(Cow::Owned(text)));
    }
    block
}

fn packet<'a>(shot: &'a Shot<'_>, interface_id: u32, wall_offset: i64) -> EnhancedPacketBlock<'a> {
    // `epb_flags`, the two lowest bits.
    let direction = shot.pass.map(|pass| match pass {
        Pass::Received => 1,
        Pass::Sent => 2,
    });
    let comments = shot.comments.iter();
    EnhancedPacketBlock {
        interface_id,
        timestamp: Duration::from_nanos(shot.at.0.saturating_add_signed(wall_offset)),
        original_len: shot.len.max(shot.bytes.len() as u32),
        data: Cow::Borrowed(shot.bytes),
        options: comments
            .map(|text| EnhancedPacketOption::Comment(Cow::Borrowed(text.as_str())))
            .chain(direction.map(EnhancedPacketOption::Flags))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
