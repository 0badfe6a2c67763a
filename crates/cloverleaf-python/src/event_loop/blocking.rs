//! Calls that can only block, on threads of the loop's own, after which a source is told that it is ready.
//!
//! A thread knows its source by token, and holds nothing of Python's: a source that is gone by the end of the call is
//! told nothing, and nothing of it lives on in a thread that the kernel does not let go.

use std::sync::Arc;

use cloverleaf::{BlockingPool, Interest, Token, ignore};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Loop;
use crate::job::Job;

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
        self.run_on(&self.pool, source, call)
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
        self.run_on(&self.waiting, source, call)
    }

    fn run_on(
        &self,
        pool: &BlockingPool,
        source: Token,
        call: impl FnOnce() + Send + 'static,
    ) -> PyResult<()> {
        let injector = Arc::clone(&self.injector);
        let submitted = pool.submit(move || {
            call();
            // A loop that was closed meanwhile has no sources left.
            ignore(injector.inject(Job::Io(source, Interest::READ)));
        });
        submitted.map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }
}
