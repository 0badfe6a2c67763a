//! The native half of files: a descriptor, what can be had of it without a wait, and requests for all else.

mod at_once;
mod base;
mod completed;
mod operation;
mod request;
mod work;

pub(crate) use base::FileBase;
pub(crate) use operation::answer;
pub(crate) use request::Request;
pub(crate) use work::{Answer, Work};

use pyo3::intern;
use pyo3::prelude::*;

use crate::ffi::Reach;

/// Adds the classes of files to the module.
///
/// # Errors
/// What making them raises.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<FileBase>()?;
    module.add_class::<Request>()?;
    module.add_class::<completed::Completed>()?;
    base::attach(&py.get_type::<FileBase>())?;
    module.add_function(pyo3::wrap_pyfunction!(request::opening, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(at_once::open_at_once, module)?)?;
    // Whoever makes a task of it asks for a coroutine.
    let coroutine = py
        .import(intern!(py, "collections.abc"))?
        .getattr(intern!(py, "Coroutine"))?;
    coroutine.reach(
        intern!(py, "register"),
        (py.get_type::<completed::Completed>(),),
    )?;
    Ok(())
}
