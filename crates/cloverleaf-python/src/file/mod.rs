//! The native half of files: a descriptor, what can be had of it without a wait, and requests for all else.

mod at_once;
mod base;
mod direct;
mod lines;
mod operation;
mod paths;
mod pread;
mod request;
mod whole;
mod work;

pub(crate) use base::FileBase;
pub(crate) use operation::answer;
pub(crate) use request::{Left, Request};
pub(crate) use work::{Answer, Work};

use pyo3::prelude::*;

/// Adds the classes of files to the module.
///
/// # Errors
/// What making them raises.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<FileBase>()?;
    module.add_class::<Request>()?;
    crate::coroutine::prepare::<pread::Pread>(py)?;
    let base = py.get_type::<FileBase>();
    base::attach(&base)?;
    crate::ffi::freeze(&base)?;
    module.add_function(pyo3::wrap_pyfunction!(base::attach_file_methods, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(request::opening, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(whole::writing_whole, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(paths::stat_at_once, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(paths::removing_file, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(paths::removing_folder, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(paths::making_folder, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(paths::renaming, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(at_once::open_at_once, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(at_once::may_ask, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(at_once::has_position, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(lines::add_lines, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(lines::split_lines, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(at_once::content_at_once, module)?)
}
