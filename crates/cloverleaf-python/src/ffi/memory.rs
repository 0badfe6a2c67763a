//! Where there is no memory: what PyO3's panics stand for, and `MemoryError` in their place.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;

/// Raises an exception from a method or slot.
#[cold]
pub(super) fn raise(py: Python<'_>, error: PyErr) -> *mut ffi::PyObject {
    // To make an exception takes memory; where there is none, PyO3 panics.
    if catch_unwind(AssertUnwindSafe(|| error.restore(py))).is_err() {
        // SAFETY: a `Python` proves that the thread is attached; this exception was made in advance.
        unsafe { ffi::PyErr_NoMemory() };
    }
    std::ptr::null_mut()
}

/// How PyO3 panics where the interpreter could not make an object, after it has told of the exception.
const NOT_MADE: &str = "PyObject pointer is null";

/// What a panic stands for: what the interpreter says if it had no memory, where PyO3 panics; else a bug.
#[cold]
pub(super) fn panicked(py: Python<'_>, panic: &(dyn std::any::Any + Send)) -> PyErr {
    if let Some(raised) = PyErr::take(py)
        && raised.is_instance_of::<PyMemoryError>(py)
    {
        return raised;
    }
    let what = message_of(panic);
    if what == NOT_MADE {
        // SAFETY: a `Python` proves that the thread is attached; this exception was made in advance.
        unsafe { ffi::PyErr_NoMemory() };
        return PyErr::fetch(py);
    }
    PyRuntimeError::new_err(format!("cloverleaf has a bug, please report it: {what}"))
}

/// Panics for want of memory, as PyO3 does: for what is made once, and cannot fail from then on.
#[cold]
pub(super) fn no_memory() -> ! {
    std::panic::resume_unwind(Box::new(NOT_MADE))
}

/// What a panic says.
fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Room for so many bytes, which a program may give any number of.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn room_for(len: usize) -> PyResult<Vec<u8>> {
    let mut room = Vec::new();
    match room.try_reserve_exact(len) {
        Ok(()) => Ok(room),
        Err(_) => Err(PyMemoryError::new_err(())),
    }
}

/// A copy of bytes that a program has given.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn copied(bytes: &[u8]) -> PyResult<Vec<u8>> {
    let mut copy = room_for(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Makes room for one more in a queue that a program may make any length.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn make_room<T>(queue: &mut VecDeque<T>) -> PyResult<()> {
    queue.try_reserve(1).map_err(|_| PyMemoryError::new_err(()))
}

/// Has Rust write nothing of a panic that stands for want of memory: whoever catches it raises `MemoryError`.
///
/// This is the hook of our own copy of Rust's library, and no other extension's.
pub(crate) fn write_of_bugs_alone() {
    let write = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if message_of(panic.payload()) != NOT_MADE {
            write(panic);
        }
    }));
}

/// Does something in which PyO3 may panic for want of memory: what a panic stands for is the outer error.
///
/// # Errors
/// `MemoryError`, or `RuntimeError` for a bug.
#[inline]
pub(crate) fn caught<R>(py: Python<'_>, body: impl FnOnce() -> R) -> PyResult<R> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| panicked(py, &*panic))
}

/// Does the work of a method that PyO3 wraps. PyO3 makes an exception of a panic, and one of an error that has not been
/// made yet; where there is no memory for it, it ends the process. So neither reaches it.
///
/// # Errors
/// What `body` says, and `MemoryError`, either of them made already.
#[inline]
pub(crate) fn spared<R>(py: Python<'_>, body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    match caught(py, body) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) | Err(error) => Err(made(py, error)),
    }
}

/// An error whose exception exists: `MemoryError` where it cannot be made.
#[cold]
fn made(py: Python<'_>, error: PyErr) -> PyErr {
    // Its `null` is what a method would answer.
    raise(py, error);
    PyErr::fetch(py)
}

/// The exception of an error: `MemoryError` where it cannot be made.
#[cold]
pub(crate) fn value_of(py: Python<'_>, error: PyErr) -> Bound<'_, PyAny> {
    made(py, error).into_value(py).into_bound(py).into_any()
}
