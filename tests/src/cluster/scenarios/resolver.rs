//! Questions to a resolver pod through its Service.

use crate::cluster::Scenario;
use crate::cluster::judge::{Try, judge};
use crate::cluster::stage::Stage;
use crate::cluster::trace::Trace;
use crate::scenario::{Attempt, Expect};
use crate::step::{Answer, Kind, Step};

/// By convention the tenth address of the Service range.
const RESOLVER: ([u8; 4], u16) = ([10, 96, 0, 10], 53);

pub const SCENARIO: Scenario = Scenario {
    name: "resolver",
    about: "questions to a resolver pod through its Service: an answer, and a name nobody has",
    run,
};

fn run(stage: &Stage) -> anyhow::Result<()> {
    for (name, answer, expect) in [
        (
            "web.shop.svc.cluster.local",
            &[Answer::Ok][..],
            Expect::delivered(),
        ),
        (
            "wbe.shop.svc.cluster.local",
            &[Answer::Rcode(crate::dns::NXDOMAIN)],
            // The network did its part; whether the code in the answer is a cause of its own is left open.
            Expect::delivered_though(&["", "DNS_NXDOMAIN"]),
        ),
    ] {
        let step = Step::new(Kind::Dns, RESOLVER.into()).name(name);
        let question = Try::new(Attempt::new(step, answer, expect)).by_client();
        let question = [question.for_service("kube-system", "kube-dns")];
        let done = Trace::of_client(stage)
            .option("--to svc/kube-dns.kube-system:53")
            .run(&question)?;
        judge(&done, &question)?;
    }
    Ok(())
}
