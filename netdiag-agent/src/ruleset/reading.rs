//! The rules of a namespace at one time, with the listings they were read from, so that a recording can carry them.

use std::collections::HashSet;

use super::model::{Backend, Family, Ruleset, Table};
use super::{ipset, iptables, nft};
use crate::event::{Ktime, Netns};

/// All rules of a namespace, as they were after `at`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub netns: Netns,
    /// When the reading began: counters include at least what happened before.
    pub at: Ktime,
    pub ruleset: Ruleset,
    pub listings: Vec<Listing>,
}

/// What one program printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub source: Source,
    pub text: String,
}

/// Which program, asked for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `iptables-save -c` or `ip6tables-save -c` of one back end.
    Iptables(Backend, Family),
    /// `nft -j list …`
    Nft,
    /// `ipset save`
    Ipset,
}

impl Reading {
    /// Reads the listings again; what cannot be understood is left out, as it was the first time.
    pub fn of(netns: Netns, at: Ktime, listings: Vec<Listing>) -> Self {
        let mut ruleset = Ruleset::default();
        for Listing { source, text } in &listings {
            match *source {
                Source::Iptables(backend, family) => {
                    ruleset
                        .tables
                        .extend(iptables::parse(text, backend, family).tables);
                }
                Source::Nft => ruleset
                    .tables
                    .extend(nft::parse(text).unwrap_or_default().tables),
                Source::Ipset => ruleset.ipsets = ipset::parse(text),
            }
        }
        without_doubles(&mut ruleset.tables);
        Self {
            netns,
            at,
            ruleset,
            listings,
        }
    }
}

/// A listing of everything by nft shows the tables of iptables too, with their matches missing.
pub fn without_doubles(tables: &mut Vec<Table>) {
    let made_by_iptables: HashSet<(Family, String)> = tables
        .iter()
        .filter(|table| table.backend == Backend::IptablesNft)
        .map(|table| (table.family, table.name.clone()))
        .collect();
    tables.retain(|table| {
        table.backend != Backend::Nft
            || !made_by_iptables.contains(&(table.family, table.name.clone()))
    });
}
