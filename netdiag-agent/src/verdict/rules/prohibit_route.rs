//! `PROHIBIT_ROUTE`: a prohibit route refuses the packet.

use super::{Page, Rule, death, ip, route_get, towards};
use crate::flow::drops::DropKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct ProhibitRoute;

impl Rule for ProhibitRoute {
    fn cause(&self) -> Cause {
        Cause("PROHIBIT_ROUTE")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The route to the destination is of type prohibit: the kernel discards the packet and answers 'administratively prohibited'.",
            how_we_know: "The freed packet carried an error route with EACCES, or the route's handler is ip6_pkt_prohibit; the ICMP error confirms it.",
            what_else: "A firewall's REJECT can send the same ICMP code, but then the packet is freed in a netfilter hook.",
            what_to_do: "Find the route (`ip route show type prohibit`) or rule (`ip rule`) and remove it if it is not meant for this traffic.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::Prohibit)?;
        let to = towards(case, found);
        let component = Component {
            kind: "route".to_owned(),
            name: Some("prohibit".to_owned()),
            ..Component::default()
        };
        let ip = ip(to);
        let commands = [
            route_get(case, found, to),
            format!("{ip} rule"),
            format!("{ip} route show type prohibit table all"),
        ];
        let summary =
            format!("a prohibit route or rule covers {to}: delete it or add a more specific route");
        Some(
            death(self.cause(), found)
                .component(component)
                .remedy(summary, commands),
        )
    }
}
