//! What a loop has done so far, for Python: read from any thread, in any state of the loop.

use cloverleaf::{Clock, Metrics};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::Loop;
use crate::ffi::{float_from, int_from, new_dict};
use crate::state::LoopState;

/// The numbers by the names that `cloverleaf.metrics.Metrics` has for them.
///
/// # Errors
/// `MemoryError`.
pub(super) fn by_name<'py>(this: &Loop, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    // Another thread is told what the loop had before it a moment ago.
    cloverleaf::ignore(this.cell.with(|state: &mut LoopState| state.note_waiting()));
    let metrics = this.stats.metrics(|| Clock::monotonic().now());
    let names = new_dict(py)?;
    for (name, number) in counts(&metrics) {
        names.set_item(name, int_from(py, number)?)?;
    }
    let lag = &metrics.timer_lag;
    let seconds = [
        ("busy_seconds", metrics.busy),
        ("asleep_seconds", metrics.asleep),
        ("longest_stall_seconds", metrics.longest_stall),
        ("timer_lag_sum", lag.total()),
        ("timer_lag_max", lag.longest()),
    ];
    for (name, duration) in seconds {
        names.set_item(name, float_from(py, duration.as_secs_f64())?)?;
    }
    let counts: Vec<_> = lag.counts().collect();
    let limits = counts[..counts.len() - 1]
        .iter()
        .map(|(limit, _)| limit.as_secs_f64());
    names.set_item(
        "timer_lag_limits",
        PyTuple::new(py, limits.collect::<Vec<_>>())?,
    )?;
    let counts: Vec<_> = counts.iter().map(|(_, count)| *count).collect();
    names.set_item("timer_lag_counts", PyTuple::new(py, counts)?)?;
    Ok(names)
}

fn counts(metrics: &Metrics) -> [(&'static str, u64); 19] {
    let traffic = &metrics.traffic;
    [
        ("turns", metrics.turns),
        ("jobs", metrics.jobs),
        ("ready", metrics.ready),
        ("most_ready", metrics.most_ready),
        ("timers_fired", metrics.timers_fired),
        ("timers_pending", metrics.timers_pending),
        ("sources", metrics.sources),
        ("transports", metrics.transports),
        ("events", metrics.events),
        ("polls", metrics.polls),
        ("sleeps", metrics.sleeps),
        ("wakeups", metrics.wakeups),
        ("jobs_from_threads", metrics.injected),
        ("connections_accepted", traffic.accepted),
        ("receives", traffic.receives),
        ("bytes_received", traffic.received_bytes),
        ("sends", traffic.sends),
        ("bytes_sent", traffic.sent_bytes),
        ("stalls", metrics.stalls),
    ]
}
