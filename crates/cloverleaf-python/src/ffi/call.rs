//! Calling Python with arguments that lie ready, and entering a `contextvars.Context`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{Borrowed, ffi};

use super::guarded;
use super::made::tuple_from;
use super::object::Owned;

/// Arguments that a handle keeps without a tuple.
pub(crate) const INLINE_ARGS: usize = 3;

/// A call that is ready to be made: the callable and its arguments, each held.
#[derive(Debug)]
pub(crate) struct Call {
    /// What is called.
    pub(crate) callable: Owned,
    /// Its arguments, from the front; or the tuple of all of them in the first place, if `in_tuple`.
    pub(crate) args: [Option<Owned>; INLINE_ARGS],
    /// Whether the first argument is a tuple of all arguments.
    pub(crate) in_tuple: bool,
}

impl Call {
    /// Makes the call in this context.
    ///
    /// # Errors
    /// What it raises, and those of [`call_in_context`].
    #[inline]
    pub(crate) fn make_in(&self, py: Python<'_>, context: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
        let args = self
            .args
            .each_ref()
            .map(|arg| arg.as_ref().map_or(std::ptr::null_mut(), Owned::as_ptr));
        // SAFETY: the callable and the arguments are held by `self`.
        unsafe { call_in_context(py, context, self.callable.as_ptr(), args, self.in_tuple) }
    }
}

/// Calls with arguments that others hold, as [`call_borrowed`] does, in this context.
///
/// asyncio asks whatever it was given as a context to `run` the call, so something else than a `Context` may do it.
///
/// # Errors
/// What the call raises; `RuntimeError` if the context is entered already; and what asking for its `run` raises if it is
/// no `Context`.
///
/// # Safety
/// The callable and the arguments are live objects, and stay so through the call.
#[inline]
pub(super) unsafe fn call_in_context(
    py: Python<'_>,
    context: Borrowed<'_, '_, PyAny>,
    callable: *mut ffi::PyObject,
    args: [*mut ffi::PyObject; INLINE_ARGS],
    in_tuple: bool,
) -> PyResult<()> {
    // SAFETY: the argument is a live object of any type, which the call checks; the thread is attached.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        let error = PyErr::fetch(py);
        // SAFETY: as the caller promises.
        return unsafe { call_by_run(context, error, callable, args, in_tuple) };
    }
    inside_entered(py, context, || {
        // SAFETY: as the caller promises.
        unsafe { call_borrowed(py, callable, args, in_tuple) }.map(drop)
    })
}

/// The same without arguments: mostly the step of one of asyncio's own tasks, which is called by its type's slot.
///
/// # Errors
/// Those of [`call_in_context`].
///
/// # Safety
/// The callable is a live object, and stays so through the call.
#[inline]
pub(super) unsafe fn call_step_in_context(
    py: Python<'_>,
    context: Borrowed<'_, '_, PyAny>,
    callable: *mut ffi::PyObject,
) -> PyResult<()> {
    let none = [std::ptr::null_mut(); INLINE_ARGS];
    // SAFETY: the argument is a live object of any type, which the call checks; the thread is attached.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        let error = PyErr::fetch(py);
        // SAFETY: as the caller promises.
        return unsafe { call_by_run(context, error, callable, none, false) };
    }
    inside_entered(py, context, || {
        let empty = PyTuple::empty(py);
        // SAFETY: as the caller promises; the tuple is empty, and the thread is attached, as `py` proves.
        match unsafe { guarded::call_by_slot(callable, empty.as_ptr()) } {
            // SAFETY: a call gives a new reference, or null with an exception set.
            Some(result) => unsafe { Bound::from_owned_ptr_or_err(py, result) }.map(drop),
            // SAFETY: as the caller promises.
            None => unsafe { call_borrowed(py, callable, none, false) }.map(drop),
        }
    })
}

/// Has what could not be entered run the call, if it is no `Context`.
///
/// # Safety
/// As for [`call_in_context`].
#[cold]
unsafe fn call_by_run(
    context: Borrowed<'_, '_, PyAny>,
    error: PyErr,
    callable: *mut ffi::PyObject,
    args: [*mut ffi::PyObject; INLINE_ARGS],
    in_tuple: bool,
) -> PyResult<()> {
    let py = context.py();
    // SAFETY: a live object of any type.
    if unsafe { ffi::PyContext_CheckExact(context.as_ptr()) } != 0 {
        return Err(error);
    }
    drop(error);
    let run = context.getattr(intern!(py, "run"))?;
    // SAFETY: they are live objects or null, as the caller promises.
    let hold = |object| unsafe { Bound::from_borrowed_ptr_or_opt(py, object) };
    let args: Vec<_> = args.into_iter().map_while(hold).collect();
    let args: Vec<_> = match args.first() {
        Some(tuple) if in_tuple => tuple.cast::<PyTuple>()?.iter().collect(),
        _ => args,
    };
    let all = hold(callable).into_iter().chain(args);
    let all = tuple_from(py, all.collect::<Vec<_>>())?;
    call_tuple(&run, &all).map(drop)
}

/// Calls with arguments that others hold: those up to the first null, or with the tuple in the first place.
///
/// # Safety
/// The callable and the arguments are live objects, and stay so through the call.
#[inline]
pub(super) unsafe fn call_borrowed(
    py: Python<'_>,
    callable: *mut ffi::PyObject,
    args: [*mut ffi::PyObject; INLINE_ARGS],
    in_tuple: bool,
) -> PyResult<Bound<'_, PyAny>> {
    let result = if in_tuple {
        // SAFETY: as the caller promises; the thread is attached, as `py` proves.
        unsafe { guarded::call_tuple(callable, args[0], std::ptr::null_mut()) }
    } else {
        // The first place is scratch room that the callee may use for `self`.
        let [first, second, third] = args;
        let array = [std::ptr::null_mut(), first, second, third];
        let count = args.iter().take_while(|arg| !arg.is_null()).count();
        // SAFETY: `array` has one place before the arguments, as the offset flag promises.
        let first = unsafe { array.as_ptr().add(1) };
        // SAFETY: as the caller promises; the thread is attached, as `py` proves.
        unsafe {
            guarded::vectorcall(
                callable,
                first,
                count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                std::ptr::null_mut(),
            )
        }
    };
    // SAFETY: a call gives a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, result) }
}

/// Calls with these arguments, without a tuple.
///
/// # Errors
/// What it raises.
#[inline]
pub(crate) fn call_with<'py, const N: usize>(
    callable: Borrowed<'_, 'py, PyAny>,
    args: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    let args = args.map(Bound::as_ptr);
    // SAFETY: the callable and the arguments are held by the caller, and a `Bound` proves that the thread is attached.
    let result =
        unsafe { guarded::vectorcall(callable.as_ptr(), args.as_ptr(), N, std::ptr::null_mut()) };
    // SAFETY: a call gives a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// Runs `inside` with this context entered, as `Context.run` does.
///
/// # Errors
/// `RuntimeError` if the context is entered already, and what asking for its `run` raises if it is none; else what
/// `inside` gives.
#[inline]
pub(crate) fn with_context<R>(
    py: Python<'_>,
    context: Borrowed<'_, '_, PyAny>,
    inside: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    // SAFETY: the argument is a live object of any type, which the call checks; the thread is attached.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        return Err(not_entered(context, PyErr::fetch(py)));
    }
    inside_entered(py, context, inside)
}

/// Runs `inside`, and leaves the context, which has been entered.
#[inline]
fn inside_entered<R>(
    py: Python<'_>,
    context: Borrowed<'_, '_, PyAny>,
    inside: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    let entered = Entered(py, context);
    let result = inside();
    std::mem::forget(entered);
    // SAFETY: this context was entered by the caller, and whoever entered another one inside has left it.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    result
}

/// A context that is left if a panic passes by.
struct Entered<'a, 'py>(Python<'py>, Borrowed<'a, 'py, PyAny>);

impl Drop for Entered<'_, '_> {
    #[cold]
    fn drop(&mut self) {
        let raised = PyErr::take(self.0);
        // SAFETY: this context was entered before, and whoever entered another one inside has left it.
        if unsafe { ffi::PyContext_Exit(self.1.as_ptr()) } != 0 {
            // SAFETY: the thread is attached. The panic is what is told of.
            unsafe { ffi::PyErr_Clear() };
        }
        if let Some(raised) = raised {
            raised.restore(self.0);
        }
    }
}

/// Why a context could not be entered: asyncio would have asked what is none for its `run`.
#[cold]
fn not_entered(context: Borrowed<'_, '_, PyAny>, error: PyErr) -> PyErr {
    let asked = context.getattr(intern!(context.py(), "run"));
    asked.err().unwrap_or(error)
}

/// Calls with these arguments, of which the last ones are given by name: one for each of `names`.
///
/// # Errors
/// What it raises.
#[inline]
pub(crate) fn call_with_names<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    values: [&Bound<'py, PyAny>; N],
    names: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let positional = N.checked_sub(names.len());
    let positional = positional.expect("invariant: there is a value for each name");
    let values = values.map(Bound::as_ptr);
    // SAFETY: there are as many values behind the positional ones as there are names; all are held by the caller.
    let result = unsafe {
        guarded::vectorcall(
            callable.as_ptr(),
            values.as_ptr(),
            positional,
            names.as_ptr(),
        )
    };
    // SAFETY: a call gives a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// Calls with a tuple of arguments.
///
/// # Errors
/// What it raises.
pub(super) fn call_tuple<'py>(
    callable: &Bound<'py, PyAny>,
    values: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the callable and the tuple are held, and a `Bound` proves that the thread is attached.
    let result =
        unsafe { guarded::call_tuple(callable.as_ptr(), values.as_ptr(), std::ptr::null_mut()) };
    // SAFETY: a call gives a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// Calls with a tuple of arguments and a `dict` of named ones.
///
/// # Errors
/// What it raises.
pub(crate) fn call_in_full<'py>(
    callable: &Bound<'py, PyAny>,
    values: &Bound<'py, PyTuple>,
    names: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: all three are live objects of these types, and a `Bound` proves that the thread is attached.
    let result = unsafe { guarded::call_tuple(callable.as_ptr(), values.as_ptr(), names.as_ptr()) };
    // SAFETY: a call gives a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// Calls a method with these arguments.
///
/// The method is looked up at each call, as asyncio does: programs replace methods of protocols that are in use.
///
/// # Errors
/// What it raises, and `AttributeError` if there is none.
#[inline]
pub(crate) fn call_method<'py, const N: usize>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    args: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    let mut array = [std::ptr::null_mut(); MOST_METHOD_ARGS + 1];
    array[0] = object.as_ptr();
    for (place, arg) in array[1..].iter_mut().zip(args) {
        *place = arg.as_ptr();
    }
    const { assert!(N <= MOST_METHOD_ARGS, "no method of ours takes more") };
    // SAFETY: the object and `N` arguments, held by the caller, who has a `Bound` to prove that the thread is attached.
    let result = unsafe {
        guarded::vectorcall_method(name.as_ptr(), array.as_ptr(), N + 1, std::ptr::null_mut())
    };
    // SAFETY: a call gives a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(object.py(), result) }
}

/// Arguments that [`call_method`] can take.
const MOST_METHOD_ARGS: usize = 4;
