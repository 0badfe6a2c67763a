//! Running a callback, and taking it back.

use std::sync::atomic::Ordering;

use cloverleaf::TimerKey;
use pyo3::prelude::*;
use pyo3::types::PySuper;

use super::held::HasParts;
use super::{AnyHandle, Handle, TimerHandle};
use crate::event_loop::Loop;
use crate::ffi::{Private, Reach, Stay, reveal, without_context};

/// Runs the callback of a handle that has left the queue, unless it was cancelled, and lets go of the handle.
///
/// # Errors
/// What the callback raises, with the handle, to be reported.
#[inline]
pub(crate) fn run_queued<'py>(
    object: Bound<'py, PyAny>,
    stay: &mut Stay<'_>,
) -> Result<(), (PyErr, Bound<'py, PyAny>)> {
    match Private::<Handle>::new(object) {
        Ok(handle) => run_private(handle, stay),
        Err(object) => match Private::<TimerHandle>::new(object) {
            Ok(timer) => run_private(timer, stay),
            Err(object) => {
                stay.leave();
                run_shared(object)
            }
        },
    }
}

/// Runs the callback of a handle that nobody can cancel meanwhile, nor look at.
#[inline]
fn run_private<'py, T: HasParts>(
    private: Private<'py, T>,
    stay: &mut Stay<'_>,
) -> Result<(), (PyErr, Bound<'py, PyAny>)> {
    if private.value().parts().is_cancelled() {
        stay.leave();
        return Ok(());
    }
    let result = private.call(stay, |value| value.parts().slots());
    match result {
        Ok(()) => {
            private.discard();
            Ok(())
        }
        Err(error) => {
            let object = private.into_revealed();
            if let Some(handle) = AnyHandle::of(&object) {
                handle.mark_fired();
            }
            Err((error, object))
        }
    }
}

/// Runs the callback of a handle that somebody else may have a hand on.
fn run_shared(object: Bound<'_, PyAny>) -> Result<(), (PyErr, Bound<'_, PyAny>)> {
    // Its other owner may be part of a cycle, and the queue does not keep it alive any more.
    reveal(&object);
    let result = match AnyHandle::of(&object) {
        Some(handle) => {
            handle.mark_fired();
            run(&object, handle)
        }
        None => Ok(()),
    };
    result.map_err(|error| (error, object))
}

/// Runs a handle's callback in its context, unless it was cancelled.
///
/// # Errors
/// What the callback raises.
pub(crate) fn run(object: &Bound<'_, PyAny>, handle: AnyHandle<'_>) -> PyResult<()> {
    let py = object.py();
    let parts = handle.parts();
    let _running = parts.rest.guard.enter();
    let Some(call) = parts.call(object).filter(|_| !parts.is_cancelled()) else {
        return Ok(());
    };
    let context = parts.context(object)?.ok_or_else(without_context)?;
    call.make_in(py, context.bind(py))
}

/// Runs a handle by the `_run` of asyncio's class, which a tool has replaced.
///
/// # Errors
/// What the tool raises.
#[cold]
pub(crate) fn run_by_asyncio(object: &Bound<'_, PyAny>, handle: AnyHandle<'_>) -> PyResult<()> {
    let _running = handle.parts().rest.guard.enter();
    let by_asyncio = PySuper::new(&object.get_type(), object)?;
    by_asyncio.reach0(intern!(object.py(), "_run")).map(drop)
}

/// Cancels a handle, as its `cancel()` does.
///
/// # Errors
/// What its `repr()` raises, which only debug mode asks for.
pub(crate) fn cancel(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let handle = AnyHandle::required(object)?;
    let parts = handle.parts();
    if parts.rest.cancelled.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    parts.rest.guard.wait_for_end(py);
    let event_loop = parts
        .held
        .event_loop
        .get(object)
        .map(|event_loop| event_loop.into_bound(py));
    let native = event_loop.as_ref().map(Loop::of).transpose()?;
    if native.is_some_and(Loop::debug) {
        let text = object.repr()?.into_any();
        drop(parts.held.repr.replace(object, Some(text.into())));
    }
    // Whoever cancels it has a reference, and may be part of a cycle, and a timer leaves its queue at once.
    reveal(object);
    parts.release(object);
    if let (AnyHandle::Timer(timer), Some(native)) = (handle, native)
        && timer.scheduled.swap(false, Ordering::Relaxed)
    {
        let key = TimerKey::from_parts(
            timer.age.load(Ordering::Relaxed),
            timer.slot.load(Ordering::Relaxed),
        );
        native.cancel_timer(key);
    }
    Ok(())
}
