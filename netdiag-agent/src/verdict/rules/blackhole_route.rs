//! `BLACKHOLE_ROUTE`: a blackhole route swallows the packet.

use super::{Page, Rule, death, ip, route_get, towards};
use crate::flow::drops::DropKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct BlackholeRoute;

impl Rule for BlackholeRoute {
    fn cause(&self) -> Cause {
        Cause("BLACKHOLE_ROUTE")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The route to the destination is of type blackhole: the kernel discards the packet without a word.",
            how_we_know: "The freed packet carried an error route with EINVAL, or the route's handler is dst_discard; no ICMP error was sent.",
            what_else: "Calico and other CNIs install a blackhole for their whole address block: a missing more-specific pod route then ends here.",
            what_to_do: "Find the route with `ip route show type blackhole table all`, or the rule with `ip rule`; delete it, or add the more specific route that should win.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::Blackhole)?;
        let to = towards(case, found);
        let component = Component {
            kind: "route".to_owned(),
            name: Some("blackhole".to_owned()),
            ..Component::default()
        };
        let ip = ip(to);
        let commands = [
            route_get(case, found, to),
            format!("{ip} rule"),
            format!("{ip} route show type blackhole table all"),
        ];
        let summary = format!(
            "a blackhole route or rule covers {to}: delete it or add a more specific route"
        );
        Some(
            death(self.cause(), found)
                .component(component)
                .remedy(summary, commands),
        )
    }
}
