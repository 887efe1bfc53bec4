//! The programs' own debug lines, brought into our log.

use aya::Ebpf;
use aya_log::EbpfLogger;

/// Forwards to `tracing`; aya speaks `log`.
pub struct Bridge;

impl log::Log for Bridge {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::debug!(target: "netdiag::ebpf", "{}", record.args());
    }

    fn flush(&self) {}
}

/// Lines are taken when [`EbpfLogger::flush`] is called.
pub fn open(ebpf: &mut Ebpf) -> Option<EbpfLogger<Bridge>> {
    EbpfLogger::init_with_logger(ebpf, Bridge)
        .inspect_err(|error| tracing::warn!("read the log of the eBPF programs: {error}"))
        .ok()
}
