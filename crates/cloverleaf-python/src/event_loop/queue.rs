//! What the loop is to do next: jobs from any thread, in one order, and timers taken back.

use cloverleaf::TimerKey;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Loop;
use crate::job::{Internal, Job};

impl Loop {
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
            }
            state.scheduler.push(job);
        });
        match given {
            Ok(()) => Ok(()),
            Err(job) => self.inject(job),
        }
    }

    #[cold]
    fn inject(&self, job: Job) -> PyResult<()> {
        self.injector
            .inject(job)
            .map_err(|_| PyRuntimeError::new_err("Event loop is closed"))
    }

    /// Queues something that the loop does for itself.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed.
    pub(crate) fn push_call(
        &self,
        call: impl FnOnce(Python<'_>) -> PyResult<()> + Send + 'static,
    ) -> PyResult<()> {
        self.push(Job::internal(Internal::Call(Box::new(call))))
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
