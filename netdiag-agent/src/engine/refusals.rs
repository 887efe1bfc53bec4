//! A drop and the netfilter hook that made it are two events: the packet is freed first, the hook returns a moment later.

use std::collections::BTreeMap;

use super::Span;
use crate::event::{Detail, Event, Ktime, Refusal};

/// Between the two lie microseconds; the address of a freed packet is soon another's.
const SOON: Span = Span::millis(5);

/// Refusals by the address of the packet, then by time.
#[derive(Debug, Default)]
pub(super) struct Refusals<'a>(BTreeMap<(u64, Ktime), &'a Refusal>);

impl<'a> Refusals<'a> {
    pub fn of(events: impl Iterator<Item = &'a Event>) -> Self {
        let refusals = events.filter_map(|event| match &event.detail {
            Detail::Refused(refusal) => Some(((address(event)?, event.at), refusal)),
            _ => None,
        });
        Self(refusals.collect())
    }

    /// What the hook said that gave up the packet of this drop.
    pub fn behind(&self, drop: &Event) -> Option<Refusal> {
        let address = address(drop)?;
        let window = (address, drop.at)..=(address, drop.at.plus(SOON));
        self.0
            .range(window)
            .next()
            .map(|(_, refusal)| (*refusal).clone())
    }
}

fn address(event: &Event) -> Option<u64> {
    event.packet.as_ref()?.skb
}
