//! What the module offers of the loop: its class, and its methods in C, which are put where they are found at once.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::{
    FINAL, Loop, accept, connect, endpoints, guest, link, meet, nested, pending, resolve, schedule,
    sockets, steer, tasks, watch, watchdog,
};

/// The class whose methods are called without a detour.
///
/// # Errors
/// `RuntimeError` if there is none yet.
pub(crate) fn final_class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    FINAL
        .class(py)
        .ok_or_else(|| PyRuntimeError::new_err("the class of loops is not known yet"))
}

/// Puts the methods that run for every callback on the final class, where they are found at once.
///
/// # Errors
/// `TypeError` if the class does not derive from `Loop`.
#[pyfunction]
fn attach_hot_methods(cls: &Bound<'_, PyType>) -> PyResult<()> {
    if !cls.is_subclass_of::<Loop>()? {
        return Err(PyTypeError::new_err(
            "the class does not derive from cloverleaf's native loop",
        ));
    }
    FINAL.set(cls)?;
    tasks::attach(cls)?;
    attach_all(cls)
}

fn attach_all(class: &Bound<'_, PyType>) -> PyResult<()> {
    crate::ffi::attach_methods(class, &schedule::METHODS)?;
    crate::ffi::attach_methods(class, &sockets::METHODS)?;
    crate::ffi::attach_methods(class, &accept::METHODS)?;
    crate::ffi::attach_methods(class, &meet::METHODS)?;
    crate::ffi::attach_methods(class, &resolve::METHODS)
}

/// The methods of `Loop` itself, for whoever derives from it alone.
///
/// # Errors
/// What setting an attribute of a type raises.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<Loop>()?;
    module.add_class::<connect::Connecting>()?;
    module.add_class::<watchdog::Watchdog>()?;
    let native = py.get_type::<Loop>();
    attach_all(&native)?;
    crate::ffi::freeze(&native)?;
    meet::prepare(py)?;
    endpoints::add_to(module)?;
    link::add_to(module)?;
    nested::add_to(module)?;
    guest::add_to(module)?;
    pending::add_to(module)?;
    watch::add_to(module)?;
    steer::add_to(module)?;
    module.add_function(pyo3::wrap_pyfunction!(attach_hot_methods, module)?)
}
