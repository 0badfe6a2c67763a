//! The queue, one a thread, and the three functions on it, against the C API: PyO3's own functions cost 30 ns a call.
//!
//! A call is queued with its references and run once. What a callback queues is run in the next turn, so that a turn
//! ends; `stop` ends the run after the turn, as asyncio's does.

#![expect(unsafe_code, reason = "it is written against the C API")]

use std::cell::{Cell, RefCell};
use std::ptr;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

/// One call that is queued.
struct Call {
    callback: Py<PyAny>,
    argument: Option<Py<PyAny>>,
    context: Option<Py<PyAny>>,
}

thread_local! {
    static QUEUE: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
    static RUNS: Cell<bool> = const { Cell::new(false) };
}

/// Puts `call_soon`, `run_forever` and `stop` into the module.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    add(
        module,
        c"call_soon",
        ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: call_soon,
        },
        ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
    )?;
    let run_forever = ffi::PyMethodDefPointer {
        PyCFunction: run_forever,
    };
    add(module, c"run_forever", run_forever, ffi::METH_NOARGS)?;
    let stop = ffi::PyMethodDefPointer { PyCFunction: stop };
    add(module, c"stop", stop, ffi::METH_NOARGS)
}

fn add(
    module: &Bound<'_, PyModule>,
    name: &'static std::ffi::CStr,
    function: ffi::PyMethodDefPointer,
    flags: std::ffi::c_int,
) -> PyResult<()> {
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: function,
        ml_flags: flags,
        ml_doc: ptr::null(),
    }));
    // SAFETY: the definition is never freed, and the thread is attached, as `module` proves.
    let made = unsafe { ffi::PyCFunction_NewEx(definition, ptr::null_mut(), ptr::null_mut()) };
    // SAFETY: the call gave a new reference, or null with an exception set.
    let made = unsafe { Bound::from_owned_ptr_or_err(module.py(), made) }?;
    let name = name
        .to_str()
        .map_err(|_| PyTypeError::new_err("a name is not UTF-8"))?;
    module.add(name, made)
}

/// `call_soon(callback, [argument], *, [context])`.
unsafe extern "C" fn call_soon(
    _module: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this on a thread that is attached.
    let py = unsafe { Python::assume_attached() };
    let at = |place: ffi::Py_ssize_t| {
        // SAFETY: every caller asks for a place below the number of arguments.
        let argument = unsafe { arguments.offset(place) };
        // SAFETY: as above.
        let argument = unsafe { argument.read() };
        // SAFETY: the caller holds the arguments for the time of the call.
        unsafe { Bound::from_borrowed_ptr(py, argument) }.unbind()
    };
    if !(1..=2).contains(&count) {
        PyTypeError::new_err("a callback and at most one argument, please").restore(py);
        return ptr::null_mut();
    }
    let call = Call {
        callback: at(0),
        argument: (count == 2).then(|| at(1)),
        context: (!names.is_null()).then(|| at(count)),
    };
    QUEUE.with_borrow_mut(|queue| queue.push(call));
    py.None().into_ptr()
}

unsafe extern "C" fn run_forever(
    _module: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this on a thread that is attached.
    let py = unsafe { Python::assume_attached() };
    let mut turn = Vec::new();
    RUNS.set(true);
    while RUNS.get() {
        QUEUE.with_borrow_mut(|queue| std::mem::swap(queue, &mut turn));
        if turn.is_empty() {
            break;
        }
        for call in turn.drain(..) {
            if let Err(error) = run(py, &call) {
                error.restore(py);
                return ptr::null_mut();
            }
        }
    }
    py.None().into_ptr()
}

unsafe extern "C" fn stop(
    _module: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    RUNS.set(false);
    // SAFETY: the interpreter calls this on a thread that is attached.
    unsafe { Python::assume_attached() }.None().into_ptr()
}

/// Calls, in the call's context if it was given one.
fn run(py: Python<'_>, call: &Call) -> PyResult<()> {
    let Some(context) = &call.context else {
        return invoke(py, call);
    };
    // SAFETY: the thread is attached, and the call holds the object; what is no context is refused.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let result = invoke(py, call);
    // SAFETY: it was entered above.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    result
}

fn invoke(py: Python<'_>, call: &Call) -> PyResult<()> {
    let argument = call.argument.as_ref().map_or(ptr::null_mut(), Py::as_ptr);
    let arguments = [argument];
    let count = usize::from(!argument.is_null());
    // SAFETY: `count` arguments are there, and the call holds all objects.
    let result = unsafe {
        ffi::PyObject_Vectorcall(
            call.callback.as_ptr(),
            arguments.as_ptr(),
            count,
            ptr::null_mut(),
        )
    };
    // SAFETY: the call gave a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, result) }.map(drop)
}
