//! What kinds of rules there are at all.

use super::model::{Backend, Family, Field, Match, Rule, Ruleset, Step, Table};

impl Ruleset {
    /// Some rule already makes the kernel track connections.
    pub fn tracks_connections(&self) -> bool {
        self.tables.iter().flat_map(Table::chains).any(|chain| {
            let nat = chain.base.as_ref().is_some_and(|base| base.nat);
            nat || chain.rules.iter().any(asks_conntrack)
        })
    }

    /// Bridged packets meet rules of their own.
    pub fn filters_bridges(&self) -> bool {
        self.tables
            .iter()
            .any(|table| table.family == Family::Bridge)
    }

    /// xtables has rules, or policies that drop.
    pub fn has_legacy(&self) -> bool {
        let legacy = |table: &&Table| table.backend == Backend::Legacy;
        let decides = |table: &Table| {
            let drops = |chain: &super::model::Chain| chain.base.as_ref().is_some_and(|b| b.drops);
            table.rules() > 0 || table.chains().iter().any(drops)
        };
        self.tables.iter().filter(legacy).any(decides)
    }
}

fn asks_conntrack(rule: &Rule) -> bool {
    rule.steps.iter().any(|step| match step {
        Step::Match(Match::Compare(compare)) => compare.key.iter().any(|selector| {
            matches!(
                selector.field,
                Field::CtState | Field::CtStatus | Field::CtMark | Field::CtDirection
            )
        }),
        _ => false,
    })
}
