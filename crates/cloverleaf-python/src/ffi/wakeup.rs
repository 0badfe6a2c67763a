//! The callback by which the interpreter's own tasks wait for a future.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

/// What such callbacks are made of, once one has been seen.
static DEFINITION: AtomicPtr<ffi::PyMethodDef> = AtomicPtr::new(ptr::null_mut());

/// Whether this is the callback of a task of the interpreter's own kind: called with any future that is done, it goes
/// on with the task, and looks at nothing but the result.
#[inline]
pub(crate) fn is_wakeup_of_task(callback: &Bound<'_, PyAny>) -> bool {
    let pointer = callback.as_ptr();
    // SAFETY: the object is live.
    if unsafe { ffi::PyCFunction_CheckExact(pointer) } == 0 {
        return false;
    }
    // SAFETY: it is a function of C's, which keeps its definition.
    let definition = unsafe { (*pointer.cast::<ffi::PyCFunctionObject>()).m_ml };
    definition == DEFINITION.load(Ordering::Relaxed) || look(pointer, definition)
}

#[cold]
fn look(function: *mut ffi::PyObject, definition: *mut ffi::PyMethodDef) -> bool {
    // SAFETY: a definition lives as long as its functions.
    let name = unsafe { (*definition).ml_name };
    // SAFETY: the name of a function is a string.
    if unsafe { CStr::from_ptr(name) } != c"task_wakeup" {
        return false;
    }
    // SAFETY: it is a function of C's; the reference is borrowed.
    let task = unsafe { ffi::PyCFunction_GetSelf(function) };
    if task.is_null() {
        return false;
    }
    // SAFETY: the module of tasks lives for ever, and so does what it makes them of.
    let class = unsafe { ffi::Py_TYPE(task) };
    // SAFETY: a class is live.
    let name = unsafe { (*class).tp_name };
    // SAFETY: the name of a class is a string.
    let is_task = unsafe { CStr::from_ptr(name) } == c"_asyncio.Task";
    if is_task {
        DEFINITION.store(definition, Ordering::Relaxed);
    }
    is_task
}
