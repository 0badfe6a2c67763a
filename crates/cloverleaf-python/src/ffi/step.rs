//! The callbacks by which tasks go on: told by what asyncio's C code makes them of.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;

/// How a callback has a task go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskStep {
    /// By itself: it begins, or has given way.
    Alone,
    /// Because the future that it is called with is done.
    Waited,
}

/// Whether a callback is a step of a task that C code makes, of asyncio's own class or one that derives from it.
pub(crate) fn task_step(callback: &Bound<'_, PyAny>) -> Option<TaskStep> {
    let pointer = callback.as_ptr();
    // SAFETY: the object is live, and so is its class.
    let class = unsafe { ffi::Py_TYPE(pointer) };
    // SAFETY: a class is live as long as its instance.
    let name = unsafe { (*class).tp_name };
    // SAFETY: the name of a class is a string.
    let name = unsafe { CStr::from_ptr(name) };
    // Python 3.11 has it without the module's name.
    if name == c"_asyncio.TaskStepMethWrapper" || name == c"TaskStepMethWrapper" {
        return Some(TaskStep::Alone);
    }
    // SAFETY: the object is live.
    if unsafe { ffi::PyCFunction_CheckExact(pointer) } == 0 {
        return None;
    }
    // SAFETY: it is a function of C's, which keeps its definition.
    let definition = unsafe { (*pointer.cast::<ffi::PyCFunctionObject>()).m_ml };
    // SAFETY: a definition lives as long as its functions.
    let name = unsafe { (*definition).ml_name };
    // SAFETY: the name of a function is a string.
    let name = unsafe { CStr::from_ptr(name) };
    (name == c"task_wakeup").then_some(TaskStep::Waited)
}
