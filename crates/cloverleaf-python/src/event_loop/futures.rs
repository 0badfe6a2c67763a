//! `create_future`: asyncio's own futures, made for a loop.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::ffi::{Once, Owned, call_with_names};

/// asyncio's Future class and the name of its one argument, looked up once.
static FUTURE: Once<(Py<PyAny>, Py<PyTuple>)> = Once::new();

/// A new `asyncio.Future` of this loop.
///
/// # Errors
/// What making one raises.
pub(crate) fn create_future(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let (class, names) = FUTURE.get_or_try_init(py, || {
        let class = py
            .import(intern!(py, "asyncio"))?
            .getattr(intern!(py, "Future"))?;
        PyResult::Ok((
            class.unbind(),
            PyTuple::new(py, [intern!(py, "loop")])?.unbind(),
        ))
    })?;
    call_with_names(class.bind(py), [slf], names.bind(py)).map(Into::into)
}
