//! What the loop is to do next: jobs from any thread, in one order, and timers taken back.

use std::mem;
use std::sync::atomic::Ordering;

use cloverleaf::{Sleeper, TimerKey};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Loop;
use crate::ffi::{Owned, Shown, TAKE_TURNS, detached};
use crate::handle;
use crate::job::{Internal, Job};

#[cold]
fn closed() -> PyErr {
    PyRuntimeError::new_err("Event loop is closed")
}

/// Leaves nothing of a handle but its call, if nobody can tell. No Python code runs, and no object loses its last
/// reference but the handle, which is empty.
#[inline]
fn pack(event_loop: &Bound<'_, PyAny>, job: &mut Job) {
    let Job::Callback(handle) = job else { return };
    let py = event_loop.py();
    if let Some((call, left)) = handle::take_call(handle.bind(py), event_loop)
        && let Job::Callback(handle) = mem::replace(job, Job::Call(call))
    {
        left.discard(handle.into_bound(py));
    }
}

impl Loop {
    /// Nothing, if the loop is open.
    ///
    /// # Errors
    /// `RuntimeError` if it is closed.
    #[inline]
    pub(crate) fn check_open(&self) -> PyResult<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(closed());
        }
        Ok(())
    }

    /// Queues a job from any thread, in one order with all others.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed.
    pub(crate) fn push(&self, job: Job) -> PyResult<()> {
        self.check_open()?;
        self.push_open(job)
    }

    /// The same for who knows that the loop is open.
    #[inline]
    pub(super) fn push_open(&self, job: Job) -> PyResult<()> {
        let given = self.cell.give(job, |state, job| {
            if !self.is_running_now() {
                // What this thread has injected before, while the loop still ran, comes first.
                state.scheduler.collect_injected();
                self.call_host();
            }
            state.scheduler.push(job);
        });
        match given {
            Ok(()) => Ok(()),
            Err(job) => self.inject(job),
        }
    }

    /// The same for the handle of a callback. If many jobs wait, the handle before it, which whoever has made it has let go
    /// of by now, leaves nothing but its call in the queue.
    ///
    /// Gives back a loop that sleeps in another thread, which is then to be woken by [`rouse`](Self::rouse).
    #[inline]
    pub(super) fn push_handle(
        &self,
        slf: &Bound<'_, PyAny>,
        handle: Owned,
    ) -> PyResult<Option<Sleeper>> {
        let pushed = self.cell.give(handle, |state, handle| {
            let job = Job::Callback(handle);
            state.scheduler.push_packing(job, |last| pack(slf, last));
        });
        match pushed {
            Ok(()) => Ok(None),
            Err(handle) => self
                .injector
                .inject_packing(Job::Callback(handle), |last| pack(slf, last))
                .map_err(|_| closed()),
        }
    }

    /// Ends the loop's sleep, in which a job of this thread has found it.
    ///
    /// It needs Python to go on. Who queues one job at a time mostly waits for what comes of it next, so the loop gets
    /// Python at once and runs it before, and neither has to wait for the other. A burst goes on with Python held. Where
    /// threads take no turns, neither needs to let the other go first.
    #[cold]
    pub(super) fn rouse(&self, py: Python<'_>, sleeper: Sleeper) {
        if sleeper.one_by_one && TAKE_TURNS {
            detached(py, || self.injector.rouse_and_attend(sleeper));
        } else {
            self.injector.rouse();
        }
    }

    #[cold]
    fn inject(&self, job: Job) -> PyResult<()> {
        self.injector.inject(job).map_err(|_| closed())
    }

    /// Queues something that the loop does for itself, with these objects.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed.
    pub(crate) fn push_call<H: Shown + Send + 'static>(
        &self,
        held: H,
        call: impl FnOnce(Python<'_>, H) -> PyResult<()> + Send + 'static,
    ) -> PyResult<()> {
        self.push(Job::step(held, call))
    }

    /// Takes a timer back, from any thread.
    pub(crate) fn cancel_timer(&self, key: TimerKey) {
        match self.cell.with(|state| state.scheduler.cancel(key)) {
            // The job goes here, with nothing borrowed.
            Ok(job) => drop(job),
            // A closed loop has no timers.
            Err(_) => cloverleaf::ignore(
                self.injector
                    .inject(Job::internal(Internal::CancelTimer(key))),
            ),
        }
    }
}
