//! Letting go of Python for a while, whether that is of use to anybody, the number of a thread, the first interpreter, and
//! the end of it.

use std::ffi::c_int;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Whether threads take turns at running Python.
pub(crate) const TAKE_TURNS: bool = cfg!(not(Py_GIL_DISABLED));

/// Attaches again when it goes, whether by return or by a panic.
struct Reattach(*mut ffi::PyThreadState);

impl Drop for Reattach {
    fn drop(&mut self) {
        // SAFETY: this thread state was saved by `detached` on this thread, and nothing has attached since, because
        // `detached` lets no `Python` into its closure and the closure is plain Rust that knows nothing of Python.
        unsafe { ffi::PyEval_RestoreThread(self.0) };
    }
}

/// Runs `blocking` while other threads may run Python.
///
/// Unlike [`Python::detach`] this lets a borrowed loop state in. No Python object may be touched or dropped in the
/// closure: it is for system calls.
pub(crate) fn detached<R>(py: Python<'_>, blocking: impl FnOnce() -> R) -> R {
    // The token is the proof that this thread is attached; it is of no use while it is not.
    let _: Python<'_> = py;
    // SAFETY: the thread is attached, as `py` proves.
    let state = unsafe { ffi::PyEval_SaveThread() };
    let _reattach = Reattach(state);
    blocking()
}

/// Whether this thread is the only one that this interpreter knows, so that none of it can wait until it lets go of
/// Python. A thread of another interpreter that shares the GIL waits for the switch interval.
#[inline]
pub(crate) fn is_alone(py: Python<'_>) -> bool {
    let _: Python<'_> = py;
    // SAFETY: the thread is attached, as `py` proves, so it has a state.
    let own = unsafe { ffi::PyThreadState_Get() };
    // SAFETY: likewise, so there is an interpreter.
    let interpreter = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: the interpreter is the one that we run in. What leads its list is only compared: it may be another
    // thread's, which may end at any time.
    let newest = unsafe { ffi::PyInterpreterState_ThreadHead(interpreter) };
    // SAFETY: our own state lives as long as this thread is attached. What follows it is only compared.
    let older = unsafe { ffi::PyThreadState_Next(own) };
    newest == own && older.is_null()
}

/// The number that `threading.get_ident()` gives on this thread; never zero.
#[cfg_attr(
    target_pointer_width = "64",
    expect(clippy::useless_conversion, reason = "it is narrower elsewhere")
)]
#[inline]
pub(crate) fn thread_ident() -> u64 {
    // SAFETY: `pthread_self(3)` has no precondition and cannot fail. Python's `get_ident` is this number.
    u64::from(unsafe { libc::pthread_self() })
}

/// Whether the interpreter that this thread is attached to is the process's main one.
pub(crate) fn is_main_interpreter(py: Python<'_>) -> bool {
    let _: Python<'_> = py;
    // SAFETY: the thread is attached, as `py` proves, so there is an interpreter.
    let interpreter = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: it lives, as this thread is attached to it.
    unsafe { ffi::PyInterpreterState_GetID(interpreter) == 0 }
}

/// Whether the interpreter that this thread is attached to is the first that has asked.
///
/// Its number does not tell: the main interpreter that follows `Py_Finalize` has that of the last one.
///
/// # Errors
/// What noting it raises.
pub(crate) fn is_first_interpreter(py: Python<'_>) -> PyResult<bool> {
    static HAS_ASKED: AtomicBool = AtomicBool::new(false);
    // SAFETY: the thread is attached, as `py` proves, so there is an interpreter.
    let interpreter = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: it lives, as this thread is attached to it.
    let notes = unsafe { ffi::PyInterpreterState_GetDict(interpreter) };
    // SAFETY: the call gave a borrowed reference that the interpreter keeps for as long as it lives, or null.
    let notes = unsafe { Bound::from_borrowed_ptr_or_opt(py, notes) }
        .ok_or_else(|| PyMemoryError::new_err(()))?;
    if notes.contains(NOTE)? {
        return Ok(true);
    }
    if HAS_ASKED.swap(true, Ordering::AcqRel) {
        return Ok(false);
    }
    notes.set_item(NOTE, true)?;
    Ok(true)
}

/// Where an interpreter notes that it was the first.
const NOTE: &str = "cloverleaf._cloverleaf";

/// Whether the interpreter is being shut down, by this thread (without the GIL, for a moment, by another): no other one gets
/// Python any more, and what another one has begun is never finished.
pub(crate) fn is_ending(_py: Python<'_>) -> bool {
    unsafe extern "C" {
        #[cfg_attr(Py_3_13, link_name = "Py_IsFinalizing")]
        #[cfg_attr(not(Py_3_13), link_name = "_Py_IsFinalizing")]
        fn is_finalizing() -> c_int;
    }
    // SAFETY: the function reads one variable of the runtime's, and has no precondition.
    unsafe { is_finalizing() != 0 }
}

/// A descriptor that belongs to somebody else, by its number.
///
/// What is done with it must be safe even if the number names another file by now, or none: registering it with a
/// driver, asking its name, or using it while its owner is known to keep it open.
pub(crate) fn borrow_fd<'a>(fd: RawFd) -> BorrowedFd<'a> {
    debug_assert!(fd >= 0, "a descriptor is never negative");
    // SAFETY: no memory depends on the descriptor. Every use in this crate is of the kinds that the comment above
    // allows, and -1, the one value that the type forbids, is refused where numbers come in.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
