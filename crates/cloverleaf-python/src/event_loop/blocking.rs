//! Calls that can only block, on threads of the loop's own, after which a source is told that it is ready, or whoever
//! waits for the answer gets it.
//!
//! A thread knows its source by token, and holds nothing of Python's: a source that is gone by the end of the call is
//! told nothing, and nothing of it lives on in a thread that the kernel does not let go.

use std::sync::Arc;

use cloverleaf::{BlockingPool, Interest, Token, ignore};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Loop;
use crate::job::Job;

/// What a call may wait for, and so which other calls it may keep waiting.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// A disk.
    Disk,
    /// Whoever knows a name.
    NameServer,
    /// Somebody who may never come.
    ForEver,
}

impl Loop {
    /// Makes a call on a thread, and tells the source after it.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed or no thread can be started.
    pub(crate) fn run_blocking(
        &self,
        source: Token,
        call: impl FnOnce() + Send + 'static,
    ) -> PyResult<()> {
        self.run_on(Wait::Disk, source, call)
    }

    /// Makes a call that may take for ever, and keeps no other call from its thread.
    ///
    /// # Errors
    /// As for [`run_blocking`](Self::run_blocking).
    pub(crate) fn run_waiting(
        &self,
        source: Token,
        call: impl FnOnce() + Send + 'static,
    ) -> PyResult<()> {
        self.run_on(Wait::ForEver, source, call)
    }

    /// Makes a call on a thread of this kind, and has `settle` give its answer to whoever waits, on the loop's own.
    ///
    /// # Errors
    /// As for [`run_blocking`](Self::run_blocking).
    pub(super) fn answer_from_thread<R: Send + 'static>(
        &self,
        wait: Wait,
        waiter: &Bound<'_, PyAny>,
        call: impl FnOnce() -> R + Send + 'static,
        settle: fn(&Bound<'_, PyAny>, R) -> PyResult<()>,
    ) -> PyResult<()> {
        let injector = Arc::clone(&self.injector);
        let target = waiter.clone().unbind();
        let submitted = self.threads_for(wait).submit(move || {
            let answer = call();
            let step = Job::step(target, move |py, target| {
                settle(&target.into_bound(py), answer)
            });
            // A loop that was closed meanwhile has nobody left who waits.
            ignore(injector.inject(step));
        });
        submitted.map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    /// The pool that is likely to answer before the loop could be woken for it, if one is.
    #[inline]
    pub(super) fn soonest_pool(&self) -> Option<&BlockingPool> {
        [&self.pool, &self.lookups]
            .into_iter()
            .find(|pool| !pool.patience().is_zero())
    }

    /// Whether a thread of one of the pools is at work. It may say so for a moment after the last one has answered.
    pub(super) fn has_busy_threads(&self) -> bool {
        [&self.pool, &self.lookups, &self.waiting]
            .into_iter()
            .any(BlockingPool::is_busy)
    }

    const fn threads_for(&self, wait: Wait) -> &BlockingPool {
        match wait {
            Wait::Disk => &self.pool,
            Wait::NameServer => &self.lookups,
            Wait::ForEver => &self.waiting,
        }
    }

    fn run_on(
        &self,
        wait: Wait,
        source: Token,
        call: impl FnOnce() + Send + 'static,
    ) -> PyResult<()> {
        let injector = Arc::clone(&self.injector);
        let submitted = self.threads_for(wait).submit(move || {
            call();
            // A loop that was closed meanwhile has no sources left.
            ignore(injector.inject(Job::Io(source, Interest::READ)));
        });
        submitted.map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }
}
