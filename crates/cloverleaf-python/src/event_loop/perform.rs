//! Requests to the kernel that may have to wait for a disk, on threads of the loop's own.
//!
//! A request owns its descriptor and its memory until it has ended, whoever has given up waiting for it.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Loop;
use super::schedule::create_future;
use crate::file::Request;
use crate::future;
use crate::job::{Internal, Job};

/// A future of what a request brings.
///
/// # Errors
/// `RuntimeError` if the loop is closed, no thread can be started, or the request was made already.
pub(super) fn perform<'py>(
    slf: &Bound<'py, Loop>,
    request: &Bound<'py, Request>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let this = slf.get();
    this.check_open()?;
    let work = request.get().take()?;
    let waiter = create_future(slf.as_any())?.into_bound(py);
    let injector = Arc::clone(&this.injector);
    let target = waiter.clone().unbind();
    let submitted = this.pool.submit(move || {
        let result = work.perform();
        let job = Job::internal(Internal::Call(Box::new(move |py| {
            let waiter = target.into_bound(py);
            match result {
                Ok(answer) => future::set_result(&waiter, &answer.into_object(py)?),
                Err(error) => future::set_exception(&waiter, &crate::error::os_error(py, &error)),
            }
        })));
        // A loop that was closed meanwhile has nobody left who waits.
        cloverleaf::ignore(injector.inject(job));
    });
    submitted.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    Ok(waiter)
}
