//! Native objects that can be awaited: what `await` and tasks ask of a coroutine, answered without a frame of Python.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};

use super::class::{Native, TypeSlot, slot};
use super::guarded;
use super::made::text_from;
use super::memory::{panicked, raise};
use super::method::{Getter, property};
use super::object::Owned;
use super::stop::stop_with;

/// How far an awaitable object has come when it gives control back.
#[derive(Debug)]
pub(crate) enum Step {
    /// It waits for this future.
    Waits(Owned),
    /// It is done; the result.
    Done(Owned),
}

/// An object that can be awaited.
pub(crate) trait Awaitable: Native {
    /// The name of the coroutine that it stands for, with its class.
    ///
    /// # Errors
    /// `TypeError` if the object is another one.
    fn name(slf: &Bound<'_, PyAny>) -> PyResult<&'static str>;

    /// Answers `await`: an exception if somebody else awaits the object already.
    ///
    /// # Errors
    /// `RuntimeError`.
    fn begin(slf: &Bound<'_, PyAny>) -> PyResult<()>;

    /// Goes on from where the object gave control back.
    ///
    /// # Errors
    /// What ends it.
    fn resume(slf: &Bound<'_, PyAny>) -> PyResult<Step>;
}

/// The slots that make a type one of awaitable objects.
pub(crate) fn awaitable_slots<T: Awaitable>() -> Vec<TypeSlot> {
    vec![
        slot(ffi::Py_tp_iter, itself as *mut c_void),
        slot(ffi::Py_tp_iternext, next::<T> as *mut c_void),
        slot(ffi::Py_am_await, begin::<T> as *mut c_void),
        slot(ffi::Py_am_send, send::<T> as *mut c_void),
        slot(ffi::Py_tp_getset, names::<T>().cast()),
    ]
}

/// The properties by which a coroutine tells its name; the type keeps the pointer, so they are never freed.
fn names<T: Awaitable>() -> *mut ffi::PyGetSetDef {
    let short: Getter = |slf| {
        let name = T::name(slf)?;
        let short = name.rsplit('.').next().unwrap_or(name);
        text_from(slf.py(), short).map(Into::into)
    };
    let long: Getter = |slf| text_from(slf.py(), T::name(slf)?).map(Into::into);
    let definitions = [
        property(c"__name__", short),
        property(c"__qualname__", long),
        ffi::PyGetSetDef::default(),
    ];
    Box::leak(Box::new(definitions)).as_mut_ptr()
}

unsafe extern "C" fn itself(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes a live object.
    unsafe { ffi::Py_INCREF(slf) };
    slf
}

/// Runs `body` so that a panic becomes an exception.
///
/// PyO3 is not told that the thread is attached, which would cost as much as the rest. It puts off the drop of a `Py`
/// then, until it is told the next time.
fn fenced<R>(
    slf: *mut ffi::PyObject,
    body: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>,
    answer: impl FnOnce(&Bound<'_, PyAny>, PyResult<R>) -> *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls slots on an attached thread.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the interpreter passes a live object.
    let slf = unsafe { Borrowed::from_ptr(py, slf) };
    let result = catch_unwind(AssertUnwindSafe(|| body(&slf)))
        .unwrap_or_else(|panic| Err(panicked(py, &*panic)));
    answer(&slf, result)
}

unsafe extern "C" fn begin<T: Awaitable>(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    fenced(slf, T::begin, |it, result| match result {
        // SAFETY: the interpreter passes a live object.
        Ok(()) => unsafe { itself(slf) },
        Err(error) => raise(it.py(), error),
    })
}

/// `__next__`: a result ends the iteration as the value of a `StopIteration`.
unsafe extern "C" fn next<T: Awaitable>(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    fenced(slf, T::resume, |it, result| {
        match result {
            Ok(Step::Waits(future)) => return future.into_raw(),
            Ok(Step::Done(result)) => {
                // To make an exception takes memory; where there is none, PyO3 panics.
                if catch_unwind(AssertUnwindSafe(|| stop_with(it, result))).is_err() {
                    // SAFETY: the thread is attached; this exception was made in advance.
                    unsafe { ffi::PyErr_NoMemory() };
                }
            }
            Err(error) => return raise(it.py(), error),
        }
        std::ptr::null_mut()
    })
}

/// The slot behind `PyIter_Send`: a result is handed over without an exception.
unsafe extern "C" fn send<T: Awaitable>(
    slf: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> c_int {
    let mut kind = ffi::PySendResult::PYGEN_ERROR;
    let object = fenced(slf, T::resume, |it, stepped| match stepped {
        Ok(Step::Waits(future)) => {
            kind = ffi::PySendResult::PYGEN_NEXT;
            future.into_raw()
        }
        Ok(Step::Done(result)) => {
            kind = ffi::PySendResult::PYGEN_RETURN;
            result.into_raw()
        }
        Err(error) => raise(it.py(), error),
    });
    // SAFETY: the interpreter passes a place for the answer.
    unsafe { result.write(object) };
    kind as c_int
}

/// Goes on with a coroutine that is not ours.
///
/// # Errors
/// What ends it.
pub(crate) fn resume_other(coroutine: &Bound<'_, PyAny>) -> PyResult<Step> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: the object is live, the place for the answer is ours, and the thread is attached.
    let kind = unsafe { guarded::send_none(coroutine.as_ptr(), &raw mut result) };
    // SAFETY: the call gave a new reference, or null with an exception set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, result) }?;
    match kind {
        ffi::PySendResult::PYGEN_NEXT => Ok(Step::Waits(object.into())),
        _ => Ok(Step::Done(object.into())),
    }
}
