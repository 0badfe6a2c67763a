//! The `StopIteration` that carries a result out of an iterator.
//!
//! Each result has one of its own, as a generator's has, as far as anybody sees: whoever catches one may keep it, change
//! it, and have his frame held by its traceback for as long as he keeps it.

use pyo3::exceptions::{PyBaseException, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

#[cfg(Py_3_12)]
use super::carrier;
#[cfg(Py_3_12)]
use super::made::new_dict;
use super::object::Owned;
#[cfg(Py_3_12)]
use super::once::Once;
#[cfg(Py_3_12)]
use super::reach::Reach;

/// Raises the `StopIteration` that carries the result of an object; for None, the bare end says as much.
pub(super) fn stop_with(of: &Bound<'_, PyAny>, result: Owned) {
    let py = of.py();
    let result = result.into_bound(py);
    if result.is_none() {
        return;
    }
    // These mean something else to those who raise.
    if result.is_instance_of::<PyTuple>() || result.is_instance_of::<PyBaseException>() {
        PyStopIteration::new_err((result.unbind(),)).restore(py);
        return;
    }
    #[cfg(Py_3_12)]
    if let Some(stop) = raised_by_hand(of, &result) {
        // SAFETY: the exception is ours to give, and the thread is attached.
        unsafe { ffi::PyErr_SetRaisedException(stop.into_ptr()) };
        return;
    }
    // SAFETY: the interpreter's own class, which lives for ever.
    let class = unsafe { ffi::PyExc_StopIteration };
    // SAFETY: both are live, and the thread is attached.
    unsafe { ffi::PyErr_SetObject(class, result.as_ptr()) };
}

/// An exception without a call of its class: the one that was used last, or another.
///
/// None where the interpreter must do it: while an exception is being handled, if that becomes the context of this one.
#[cfg(Py_3_12)]
#[inline]
fn raised_by_hand<'py>(
    of: &Bound<'_, PyAny>,
    result: &Bound<'py, PyAny>,
) -> Option<Bound<'py, PyAny>> {
    let py = result.py();
    // SAFETY: the thread is attached.
    let handled = unsafe { ffi::PyErr_GetHandledException() };
    // SAFETY: the call gave a new reference, or null.
    if unsafe { Bound::from_owned_ptr_or_opt(py, handled) }.is_some() && ends_have_contexts(py) {
        return None;
    }
    if !carrier::is_only_awaited(of.as_ptr()) {
        return made_by_hand(result);
    }
    let stop = match carrier::load(result) {
        Some(stop) => stop,
        None => made_by_hand(result)?,
    };
    carrier::note(of.as_ptr(), &stop);
    Some(stop)
}

/// What calling the class makes, without the call.
#[cfg(Py_3_12)]
fn made_by_hand<'py>(result: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = result.py();
    // PyO3 would panic for want of memory, and nothing would catch that here.
    // SAFETY: the result is live, and the thread is attached.
    let arguments = unsafe { ffi::PyTuple_Pack(1, result.as_ptr()) };
    // SAFETY: the call gave a new reference, or null.
    let Some(arguments) = (unsafe { Bound::from_owned_ptr_or_opt(py, arguments) }) else {
        // SAFETY: the thread is attached.
        unsafe { ffi::PyErr_Clear() };
        return None;
    };
    // SAFETY: the interpreter's own class, which lives for ever.
    let class: *mut ffi::PyTypeObject = unsafe { ffi::PyExc_StopIteration }.cast();
    // SAFETY: a class of the interpreter's own is complete, and does not change.
    let new = unsafe { (*class).tp_new }?;
    // SAFETY: the class and the arguments are live; no names is what null means.
    let stop = unsafe { new(class, arguments.as_ptr(), std::ptr::null_mut()) };
    if stop.is_null() {
        // SAFETY: the thread is attached.
        unsafe { ffi::PyErr_Clear() };
        return None;
    }
    // SAFETY: `new` gave a new reference.
    let stop = unsafe { Bound::from_owned_ptr(py, stop) };
    let fields: *mut ffi::PyStopIterationObject = stop.as_ptr().cast();
    // SAFETY: an object of this class has such fields.
    let value = unsafe { &raw mut (*fields).value };
    // SAFETY: what `__init__` would set is null before, and nobody else has seen the object, which owns this reference
    // from now on.
    unsafe { value.write(result.clone().into_ptr()) };
    Some(stop)
}

/// Whether the end of a coroutine of Python's has what is being handled for its context: patch releases of 3.13 differ.
///
/// Something must be handled meanwhile.
#[cfg(Py_3_12)]
#[cold]
fn ends_have_contexts(py: Python<'_>) -> bool {
    static KNOWN: Once<bool> = Once::new();
    let learnt = KNOWN.get_or_try_init(py, || {
        let names = new_dict(py)?;
        py.run(c"async def end():\n    return 0", None, Some(&names))?;
        let end = names.as_any().get_item(intern!(py, "end"))?.invoke0()?;
        match end.reach(intern!(py, "send"), (py.None(),)) {
            Ok(_) => Ok(true),
            Err(stop) => PyResult::Ok(!stop.value(py).getattr("__context__")?.is_none()),
        }
    });
    // Where there is no memory the interpreter says so itself.
    learnt.copied().unwrap_or(true)
}
