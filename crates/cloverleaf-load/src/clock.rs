//! The wall clock and the CPU clock of this process.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Now, on a clock that never goes back.
#[expect(
    clippy::disallowed_methods,
    reason = "this file is where the load generator's time comes from"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The CPU time that this process has used, in user and kernel mode, over all threads.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
