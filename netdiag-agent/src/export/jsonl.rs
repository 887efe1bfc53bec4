//! `-o jsonl`: each revision on a line of its own, as soon as it is decided.

use std::io;

use super::record::FlowVerdict;
use super::{Context, Exporter, Format, Output, write_line};
use crate::verdict::Verdict;

pub(super) const FORMAT: Format = Format {
    name: "jsonl",
    help: "one JSON object per line, each as soon as it is decided",
    make: |output, _| Box::new(Jsonl { output }),
};

struct Jsonl {
    output: Output,
}

impl Exporter for Jsonl {
    fn verdict(&mut self, verdict: &Verdict, context: &Context) -> io::Result<()> {
        write_line(&mut self.output, &FlowVerdict::from((verdict, context)))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
