//! What tracing costs: time per packet of each program beside an empty one on the same interface, throughput with
//! tracing off and on in turn, and how long a user waits.
//!
//! Everything happens in a fake node's own namespaces. Prints a table, then the same as one JSON line.

mod bpf;
mod figures;
mod flood;
mod samples;
mod tracer;

use anyhow::{Context, Result, bail, ensure};
use netdiag_tests::node::Node;
use netdiag_tests::plan::Topology;

use figures::{Figures, TRIALS};
use flood::Sink;

/// Off and on in turn, so that a change of the machine's speed hits both alike.
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let rounds = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => ROUNDS,
        [flag, number] if flag == "--rounds" => {
            number.parse().context("--rounds wants a number")?
        }
        _ => bail!("usage: netdiag-bench [--rounds N]"),
    };
    ensure!(rounds > 0, "--rounds wants at least one");
    let node = Node::with(Topology::PointToPoint)?;
    let sink = Sink::start(&node)?;
    let mut figures = Figures::default();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        figures.round(&node, &sink)?;
    }
    eprintln!("{TRIALS} drops and {TRIALS} refusals");
    // What was measured so far is worth showing even when a verdict never comes.
    let answered = figures.latency(&node);
    figures.binary()?;
    figures.print();
    println!("{}", figures.json(rounds));
    answered
}
