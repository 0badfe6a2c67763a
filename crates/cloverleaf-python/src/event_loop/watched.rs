//! Callbacks under the eyes of tools, of debug mode, or of both.

use cloverleaf::Time;
use pyo3::prelude::*;
use pyo3::types::PyFloat;

use super::Loop;
use crate::ffi::{Reach, float_from, reveal};
use crate::handle::{self, AnyHandle};
use crate::report;

/// Runs a callback under the eyes of tools, of debug mode, or of both.
#[cold]
pub(super) fn run_watched(
    slf: &Bound<'_, Loop>,
    this: &Loop,
    object: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let Some(handle) = AnyHandle::of(object).filter(|handle| !handle.is_cancelled()) else {
        return Ok(());
    };
    // Whoever looks on is another owner.
    reveal(object);
    handle.mark_fired();
    if !this.debug() {
        return run_by_tools(slf, this, object, handle);
    }
    // Its handle is known meanwhile, and it is reported if it takes long.
    let before = this
        .current
        .replace(slf.as_any(), Some(object.clone().into()));
    let began = this.nested.own_time();
    let result = run_by_tools(slf, this, object, handle);
    drop(this.current.replace(slf.as_any(), before));
    result?;
    report_if_slow(slf, object, began)
}

/// Runs a callback by what tools have put in place of asyncio's method, if they have.
#[cold]
fn run_by_tools(
    slf: &Bound<'_, Loop>,
    this: &Loop,
    object: &Bound<'_, PyAny>,
    handle: AnyHandle<'_>,
) -> PyResult<()> {
    if this.onlookers.have_tools() {
        // asyncio's method reports what the callback raises; the rest is the tool's, and nobody else's.
        return handle::run_by_asyncio(object, handle);
    }
    match handle::run(object, handle) {
        Ok(()) => Ok(()),
        Err(error) => report::callback_failed(slf.as_any(), object, error),
    }
}

impl Loop {
    /// Does something of the loop's own that calls a program, and reports the object that it is done for if it takes long. Tools
    /// are shown all of the loop's steps as callbacks, which are reported by themselves.
    ///
    /// # Errors
    /// What it raises, and then what reporting raises.
    pub(crate) fn timed(
        event_loop: &Bound<'_, PyAny>,
        object: &Bound<'_, PyAny>,
        run: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        let event_loop = event_loop.cast::<Self>()?;
        let this = event_loop.get();
        if !this.debug() || this.onlookers.have_tools() {
            return run();
        }
        let began = this.nested.own_time();
        let ran = run();
        ran.and(report_if_slow(event_loop, object, began))
    }
}

/// Reports a handle, or an object that was served, that has held the loop up.
#[cold]
pub(super) fn report_if_slow(
    slf: &Bound<'_, Loop>,
    object: &Bound<'_, PyAny>,
    began: Time,
) -> PyResult<()> {
    let py = slf.py();
    // Not counted is the time in which the loop got on, in runs that it has begun.
    let now = slf.get().nested.own_time();
    let took = now.saturating_since(began).as_secs_f64();
    let limit = slf.getattr(intern!(py, "slow_callback_duration"))?;
    let is_slow = match limit.cast_exact::<PyFloat>() {
        Ok(limit) => took >= limit.value(),
        // Whatever a float can be compared with, and asyncio's own message for what it cannot.
        Err(_) => float_from(py, took)?.ge(&limit)?,
    };
    if is_slow {
        slf.reach(intern!(py, "_report_slow_callback"), (object, took))?;
    }
    Ok(())
}
