//! `Watchdog`: the native half of who tells of stalls.
//!
//! A thread of Python's waits here, without Python, until there is something to tell. It holds the numbers of a loop, and
//! nothing else of it.

use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use cloverleaf::{Clock, Doing, Seen, Sighting, Watcher};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Loop;
use crate::ffi::spared;

/// Watches one loop, from one thread.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Watchdog {
    watcher: Watcher,
    seen: Mutex<Seen>,
}

#[pymethods]
impl Watchdog {
    /// Of a loop, telling of stalls that last for longer than so many seconds.
    #[new]
    fn new(event_loop: &Bound<'_, PyAny>, seconds: f64) -> PyResult<Self> {
        let limit = Duration::try_from_secs_f64(seconds).ok();
        let limit = limit.filter(|limit| !limit.is_zero()).ok_or_else(|| {
            PyValueError::new_err(format!(
                "a watchdog needs a number of seconds above zero, not {seconds}"
            ))
        })?;
        let stats = Arc::clone(&Loop::of(event_loop)?.stats);
        Ok(Self {
            watcher: Watcher::new(stats, limit),
            seen: Mutex::default(),
        })
    }

    /// Waits until the loop stalls, goes on after a stall that was told of, or is to be watched no more, which is None.
    ///
    /// A tuple: whether it stalls, for how many seconds by now or in all, for how many of them Python could not be had
    /// since this was noticed, whether the loop itself waits for Python, and where it is, for `is_still_at`.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let mut held = match self.seen.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(PyRuntimeError::new_err("another thread watches already"));
            }
        };
        let clock = Clock::monotonic();
        let seen = &mut *held;
        let (sighting, noticed) = py.detach(|| (self.watcher.wait(seen), clock.now()));
        let now = clock.now();
        if let Sighting::Stalled { .. } = sighting {
            seen.tell_at(now);
        }
        let (stalls, took, waits, progress) = match sighting {
            Sighting::Stopped => return Ok(None),
            Sighting::WentOn { took } => (false, took, false, 0),
            Sighting::Stalled {
                doing,
                since,
                progress,
            } => {
                let waits = doing == Doing::Awaking;
                (true, now.saturating_since(since), waits, progress)
            }
        };
        let without = now.saturating_since(noticed);
        spared(py, || {
            let parts = (
                stalls,
                took.as_secs_f64(),
                without.as_secs_f64(),
                waits,
                progress,
            );
            parts.into_pyobject(py).map(Some)
        })
    }

    /// Whether the loop is still where it was.
    fn is_still_at(&self, progress: u64) -> bool {
        self.watcher.is_still_at(progress)
    }

    /// Ends the watch, and the wait of whoever waits.
    fn stop(&self) {
        self.watcher.stop();
    }
}
