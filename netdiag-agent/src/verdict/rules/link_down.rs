//! `LINK_DOWN`: the interface the packet should leave by is down.

use super::{Page, Rule, death};
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Finding};
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct LinkDown;

impl Rule for LinkDown {
    fn cause(&self) -> Cause {
        Cause("LINK_DOWN")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The interface the packet was to leave by is down or has no carrier.",
            how_we_know: "The kernel freed it with reason DEV_READY, or the interface on its way is not up.",
            what_else: "A veth loses its carrier when its other end is down or its pod is gone.",
            what_to_do: "`ip link show` the interface; set it up, or find out where its other end is.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::LinkDown)?;
        let device = found.group.ifname.as_deref().unwrap_or("DEVICE");
        let component =
            Component { kind: "interface".to_owned(), name: Some(device.to_owned()), ..Component::default() };
        let commands = [format!("ip -d link show {device}"), format!("ip link set {device} up")];
        Some(death(self.cause(), found).component(component).remedy(format!("{device} is down"), commands))
    }
}
