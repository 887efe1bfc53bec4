//! What is broken, what is tried, and what must be said about it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Result;
use serde_json::Value;

use crate::faults::{Case, Place};
use crate::kernel::{Kernel, Lack};
use crate::needs::Need;
use crate::plan::{Family, Plan, Topology};
use crate::step::{Answer, Kind, Step};
use crate::table::SCENARIOS;

/// One fault, and the conversations that meet it or must not.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// What is broken, for a human.
    pub about: &'static str,
    pub topologies: &'static [Topology],
    pub families: &'static [Family],
    pub sender: Sender,
    pub select: Select,
    /// The external host is one hop further away.
    pub router: bool,
    /// With `--explain-rule`.
    pub explain: bool,
    /// What not every machine has.
    pub needs: &'static [Need],
    /// Breaks a healthy node.
    pub build: fn(&Case) -> Result<()>,
    pub attempts: fn(&Place) -> Vec<Attempt>,
    /// What an API server says of the node's pods and Services; without any, there is none.
    pub objects: fn(&Place) -> Vec<Value>,
}

/// Where the conversations start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// In the first pod, which is traced.
    Pod,
    /// At the external host; the second pod is traced.
    External,
}

/// How the trace is told what to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    Netns,
    /// A process inside the pod.
    Pid,
    /// The pod's interface on the node.
    Interface,
    /// The node itself, by its uplink.
    Uplink,
}

impl Scenario {
    /// The usual shape: both topologies, both families, from the traced pod.
    pub const fn new(
        name: &'static str,
        about: &'static str,
        build: fn(&Case) -> Result<()>,
        attempts: fn(&Place) -> Vec<Attempt>,
    ) -> Self {
        Self {
            name,
            about,
            topologies: &Topology::ALL,
            families: &Family::ALL,
            sender: Sender::Pod,
            select: Select::Netns,
            router: false,
            explain: false,
            needs: &[],
            build,
            attempts,
            objects: |_| Vec::new(),
        }
    }

    /// In a cluster of which the API server says this.
    #[must_use]
    pub const fn within(mut self, objects: fn(&Place) -> Vec<Value>) -> Self {
        self.objects = objects;
        self
    }

    #[must_use]
    pub const fn only_v4(mut self) -> Self {
        self.families = &[Family::V4];
        self
    }

    #[must_use]
    pub const fn only_bridge(mut self) -> Self {
        self.topologies = &[Topology::Bridge];
        self
    }

    #[must_use]
    pub const fn only_ptp(mut self) -> Self {
        self.topologies = &[Topology::PointToPoint];
        self
    }

    #[must_use]
    pub const fn from_outside(mut self) -> Self {
        self.sender = Sender::External;
        self
    }

    #[must_use]
    pub const fn select(mut self, select: Select) -> Self {
        self.select = select;
        self
    }

    #[must_use]
    pub const fn explained(mut self) -> Self {
        self.explain = true;
        self
    }

    #[must_use]
    pub const fn behind_router(mut self) -> Self {
        self.router = true;
        self
    }

    /// The plan of a variant.
    pub fn plan(&self, topology: Topology) -> Plan {
        let plan = Plan::of(topology);
        if self.router {
            plan.with_router()
        } else {
            plan
        }
    }

    #[must_use]
    pub const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// Every (topology, family) it is made for.
    pub fn variants(&self) -> impl Iterator<Item = (Topology, Family)> + '_ {
        let families = self.families;
        self.topologies
            .iter()
            .flat_map(move |&topology| families.iter().map(move |&family| (topology, family)))
    }
}

/// Every cause some scenario expects.
pub fn causes() -> BTreeSet<&'static str> {
    let expected = |scenario: &'static Scenario| {
        scenario.variants().flat_map(|(topology, family)| {
            let plan = scenario.plan(topology);
            (scenario.attempts)(&Place {
                plan: &plan,
                family,
            })
        })
    };
    all()
        .flat_map(expected)
        .flat_map(|attempt| attempt.expect.causes)
        .copied()
        .collect()
}

/// One conversation and what is expected of it.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub step: Step,
    /// What the sender may get to see: proof that the fault does what it says.
    pub answers: &'static [Answer],
    pub expect: Expect,
}

/// What a verdict must say.
#[derive(Clone, Debug)]
pub struct Expect {
    pub outcomes: &'static [&'static str],
    /// Empty: no cause may be named.
    pub causes: &'static [&'static str],
    /// Empty: unchecked.
    pub confidences: &'static [&'static str],
    /// One of these hops must be there with `action`; empty: unchecked.
    pub hops: &'static [&'static str],
    pub action: &'static str,
    /// That hop is one of the answer's.
    pub reply: bool,
    /// Values of that hop's component.
    pub component: &'static [(&'static str, &'static str)],
    /// Members of the verdict that must not be missing or empty.
    pub present: &'static [&'static str],
    /// Values by JSON pointer.
    pub says: &'static [(&'static str, &'static str)],
    /// What is due instead where the kernel cannot tell more, and what it then lacks.
    pub weaker: &'static [Weaker],
}

/// What a kernel lacks, and how the expectation changes by it.
pub type Weaker = (Lack, fn(&mut Expect));

impl Expect {
    const fn new(outcomes: &'static [&'static str], causes: &'static [&'static str]) -> Self {
        Self {
            outcomes,
            causes,
            confidences: &[],
            hops: &[],
            action: "DROPPED",
            reply: false,
            component: &[],
            present: &[],
            says: &[],
            weaker: &[],
        }
    }

    /// The cause is named, but not proven.
    pub fn infer(&mut self) {
        self.confidences = &["INFERRED"];
    }

    #[must_use]
    pub const fn weaker(mut self, weaker: &'static [Weaker]) -> Self {
        self.weaker = weaker;
        self
    }

    /// What is due from a trace of at most this tier on this kernel.
    #[must_use]
    pub fn on(mut self, kernel: &Kernel, tier: Option<u8>) -> Self {
        for (lack, weaken) in self.weaker {
            if kernel.lacks(*lack, tier) {
                weaken(&mut self);
            }
        }
        self
    }

    pub const fn delivered() -> Self {
        Self::new(&["DELIVERED"], &[])
    }

    /// Nothing is known for sure, and nothing wrong is.
    pub const fn not_failing() -> Self {
        Self::new(&["DELIVERED", "UNDETERMINED"], &[])
    }

    pub const fn delivered_though(causes: &'static [&'static str]) -> Self {
        Self::new(&["DELIVERED"], causes)
    }

    pub const fn dropped(causes: &'static [&'static str], hops: &'static [&'static str]) -> Self {
        let mut expect = Self::new(&["DROPPED_HERE"], causes);
        expect.confidences = &["PROVEN"];
        expect.hops = hops;
        expect.present = &["evidence", "remediation"];
        expect
    }

    /// The filter dropped or rejected it at this hop.
    pub const fn firewall(hop: &'static [&'static str]) -> Self {
        Self::dropped(&["HOST_FIREWALL_DROP"], hop)
    }

    pub const fn reply_lost(
        causes: &'static [&'static str],
        hops: &'static [&'static str],
    ) -> Self {
        let mut expect = Self::dropped(causes, hops);
        expect.outcomes = &["REPLY_LOST"];
        expect.reply = true;
        expect
    }

    pub const fn refused(causes: &'static [&'static str], hops: &'static [&'static str]) -> Self {
        let mut expect = Self::dropped(causes, hops);
        expect.outcomes = &["REFUSED"];
        expect.action = "";
        expect
    }

    pub const fn no_answer(causes: &'static [&'static str]) -> Self {
        let mut expect = Self::new(&["LEFT_NODE_NO_ANSWER"], causes);
        expect.confidences = &["INFERRED"];
        expect.hops = &["NIC_EGRESS"];
        expect.action = "SEEN";
        expect.present = &["evidence", "suspects", "remediation"];
        expect
    }

    #[must_use]
    pub const fn component(mut self, fields: &'static [(&'static str, &'static str)]) -> Self {
        self.component = fields;
        self
    }

    /// So sure that it may be.
    #[must_use]
    pub const fn confidence(mut self, confidences: &'static [&'static str]) -> Self {
        self.confidences = confidences;
        self
    }

    #[must_use]
    pub const fn present(mut self, members: &'static [&'static str]) -> Self {
        self.present = members;
        self
    }

    #[must_use]
    pub const fn says(mut self, values: &'static [(&'static str, &'static str)]) -> Self {
        self.says = values;
        self
    }

    /// By DESIGN §5: these make the exit code 1.
    pub fn is_failing(&self) -> bool {
        !self
            .outcomes
            .iter()
            .any(|outcome| matches!(*outcome, "DELIVERED" | "UNDETERMINED"))
    }
}

impl Attempt {
    pub const fn new(step: Step, answers: &'static [Answer], expect: Expect) -> Self {
        Self {
            step,
            answers,
            expect,
        }
    }

    /// One that must succeed and be called healthy.
    pub const fn healthy(kind: Kind, to: SocketAddr) -> Self {
        Self::new(Step::new(kind, to), &[Answer::Ok], Expect::delivered())
    }
}

/// What a scenario tries on a node of this plan.
pub fn attempts(scenario: &Scenario, plan: &Plan, family: Family) -> Vec<Attempt> {
    (scenario.attempts)(&Place { plan, family })
}

/// Every scenario, in the order of the table.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().copied().flatten()
}

/// The one of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_in_a_file_name() {
        let names: BTreeSet<_> = super::all().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), super::all().count());
        for name in names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
        }
    }
}
