//! `-o json`: at the end, one array with the last revision of each flow.

use std::io;

use super::latest::Latest;
use super::record::FlowVerdict;
use super::{Context, Exporter, Format, Output};
use crate::verdict::Verdict;

pub(super) const FORMAT: Format = Format {
    name: "json",
    help: "at the end, one JSON array with the last revision of each flow",
    make: |output, _| {
        Box::new(Json {
            output,
            latest: Latest::default(),
        })
    },
};

struct Json {
    output: Output,
    latest: Latest,
}

impl Exporter for Json {
    fn verdict(&mut self, verdict: &Verdict, context: &Context) -> io::Result<()> {
        self.latest.insert(verdict, context);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let (entries, omitted) = self.latest.take();
        if omitted > 0 {
            tracing::warn!(
                "{omitted} flows more than the array can hold were left out; -o jsonl writes them all"
            );
        }
        for (index, entry) in entries.iter().enumerate() {
            self.output
                .write_all(if index == 0 { b"[\n" } else { b",\n" })?;
            serde_json::to_writer(
                &mut self.output,
                &FlowVerdict::from((&entry.verdict, &entry.context)),
            )?;
        }
        self.output.write_all(if entries.is_empty() {
            b"[]\n"
        } else {
            b"\n]\n"
        })?;
        self.output.flush()
    }
}
