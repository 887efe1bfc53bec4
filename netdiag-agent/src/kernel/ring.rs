//! The event ring and the counters of what did not fit in it.

use std::io;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::KernelError;
use crate::event::HookId;

/// Entries taken in one go, so that a flood does not starve the rest of the agent.
const BATCH: usize = 1024;

pub struct Ring {
    fd: AsyncFd<RingBuf<MapData>>,
}

impl Ring {
    /// Must be called inside a tokio runtime.
    pub fn open(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        const NAME: &str = "EVENTS";
        let map = ebpf.take_map(NAME).ok_or(KernelError::Object(NAME))?;
        let ring =
            RingBuf::try_from(map).map_err(|source| KernelError::Map { map: NAME, source })?;
        // SAFETY: the ring owns its descriptor and keeps it open and the same for as long as it lives.
        let fd = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|error| KernelError::Ring(error.into()))?;
        Ok(Self { fd })
    }

    /// Waits up to `patience` for entries and hands a batch of them to `take`. Nothing is lost when the future is
    /// dropped while it waits.
    pub async fn next(
        &mut self,
        patience: Duration,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let Ok(ready) = tokio::time::timeout(patience, self.fd.readable_mut()).await else {
            return Ok(());
        };
        let mut guard = ready?;
        let ring = guard.get_inner_mut();
        for _ in 0..BATCH {
            let Some(entry) = ring.next() else {
                guard.clear_ready();
                return Ok(());
            };
            take(&entry);
        }
        Ok(())
    }

    /// Takes all there is.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8])) {
        while let Some(entry) = self.fd.get_mut().next() {
            take(&entry);
        }
    }
}

/// The per-hook counters of the programs.
pub struct Counters {
    seen: PerCpuArray<MapData, u64>,
    lost: PerCpuArray<MapData, u64>,
    map_full: PerCpuArray<MapData, u64>,
    /// Lost and not fitted, as last reported, by position in [`HookId::ALL`].
    reported: Vec<u64>,
}

/// Totals of one hook since the trace began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events that passed the filter: those in the ring and those lost.
    pub seen: u64,
    /// Events the ring had no room for.
    pub lost: u64,
    /// Map insertions the kernel refused.
    pub map_full: u64,
}

impl Counters {
    pub fn open(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let mut take = |name: &'static str| {
            let map = ebpf.take_map(name).ok_or(KernelError::Object(name))?;
            PerCpuArray::try_from(map).map_err(|source| KernelError::Map { map: name, source })
        };
        let (seen, lost, map_full) = (take("SEEN")?, take("LOST")?, take("MAP_FULL")?);
        Ok(Self {
            seen,
            lost,
            map_full,
            reported: vec![0; HookId::ALL.len()],
        })
    }

    /// Totals of one hook; a counter that cannot be read counts as 0.
    pub fn totals(&self, hook: HookId) -> Totals {
        let sum = |map: &PerCpuArray<MapData, u64>| {
            map.get(&u32::from(hook as u16), 0)
                .map_or(0, |values| values.iter().sum())
        };
        Totals {
            seen: sum(&self.seen),
            lost: sum(&self.lost),
            map_full: sum(&self.map_full),
        }
    }

    /// What was lost at each hook since the last call.
    pub fn losses(&mut self) -> Vec<(HookId, u64)> {
        let mut new = Vec::new();
        for (slot, hook) in HookId::ALL.iter().enumerate() {
            let totals = self.totals(*hook);
            let now = totals.lost + totals.map_full;
            let before = std::mem::replace(&mut self.reported[slot], now);
            if now > before {
                new.push((*hook, now - before));
            }
        }
        new
    }
}
