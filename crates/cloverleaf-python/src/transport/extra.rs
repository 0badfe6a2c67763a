//! What a program has put in the place of asyncio's `BaseTransport.get_extra_info`.
//!
//! asyncio's transports have that method from their base, so tests of protocols replace it there to pretend whatever
//! they like about a connection. Ours have one of their own, and ask here first; it costs a comparison.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};

use crate::ffi::{Once, Reach};
use crate::original::Original;

static BASE: Once<Original> = Once::new();

/// Remembers asyncio's method.
///
/// # Errors
/// What importing asyncio raises.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    BASE.get_or_try_init(py, || {
        let base = py.import("asyncio.transports")?.getattr("BaseTransport")?;
        let names = PyList::new(py, ["get_extra_info"])?;
        Original::new(base.cast::<PyType>()?, &names)
    })
    .map(drop)
}

/// What the method in asyncio's place says; None if asyncio's own is there.
///
/// # Errors
/// What it raises.
#[inline]
pub(crate) fn pretended<'py>(
    transport: &Bound<'py, PyAny>,
    name: &Bound<'py, PyAny>,
    default: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match BASE.get(transport.py()) {
        Some(base) if !base.is_intact(transport.py())? => {
            ask(base, transport, name, default).map(Some)
        }
        Some(_) | None => Ok(None),
    }
}

#[cold]
fn ask<'py>(
    base: &Original,
    transport: &Bound<'py, PyAny>,
    name: &Bound<'py, PyAny>,
    default: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = transport.py();
    let replacement = base.class(py).getattr(intern!(py, "get_extra_info"))?;
    let class = replacement.get_type();
    let method = match class.getattr_opt(intern!(py, "__get__"))? {
        // A function becomes a method; a mock, as tests use it, stays what it is.
        Some(get) => get.invoke((replacement, transport, transport.get_type()))?,
        None => replacement,
    };
    match default {
        Some(default) => method.invoke((name, default)),
        None => method.invoke((name,)),
    }
}
