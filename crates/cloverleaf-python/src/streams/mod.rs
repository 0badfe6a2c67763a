//! asyncio's streams at native speed: subclasses of its reader and its protocol whose hot methods are ours.
//!
//! A stream's reader and protocol are made by asyncio's own functions. When a transport gets such a protocol, and both
//! are of asyncio's very classes with nothing about those changed, they become instances of our subclasses, which add
//! no field: everything that a program reads or changes on them stays where asyncio has it. A method that meets
//! anything out of the ordinary hands over to asyncio's own.

mod adopt;
mod coroutine;
mod fields;
mod protocol;
mod reader;
mod reading;

pub(crate) use adopt::adopt;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyType};

use crate::ffi::attach_methods;
use crate::original::Original;

/// The classes of streams.
#[derive(Debug)]
struct Classes {
    reader: Original,
    protocol: Original,
    own_reader: Py<PyType>,
    own_protocol: Py<PyType>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

/// Makes these the classes of streams on Cloverleaf's transports: each with asyncio's class, which it derives from, and
/// the names of asyncio's methods that ours replace or stand for.
///
/// # Errors
/// `AttributeError` if asyncio has no such method; `RuntimeError` if it is called twice.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "what PyO3 extracts from a tuple"
)]
fn set_stream_classes(
    reader: (Bound<'_, PyType>, Bound<'_, PyType>, Bound<'_, PyList>),
    protocol: (Bound<'_, PyType>, Bound<'_, PyType>, Bound<'_, PyList>),
) -> PyResult<()> {
    let py = reader.0.py();
    let classes = Classes {
        reader: Original::new(&reader.1, &reader.2)?,
        protocol: Original::new(&protocol.1, &protocol.2)?,
        own_reader: reader.0.clone().unbind(),
        own_protocol: protocol.0.clone().unbind(),
    };
    CLASSES
        .set(py, classes)
        .map_err(|_| PyRuntimeError::new_err("the classes of streams are set already"))?;
    attach_methods(&reader.0, &reader::METHODS)?;
    attach_methods(&protocol.0, &protocol::METHODS)
}

/// The classes, for the methods of their objects.
fn classes(py: Python<'_>) -> &'static Classes {
    CLASSES
        .get(py)
        .expect("invariant: the methods are put on the classes when these are known")
}

/// Adds the types and functions to the module.
///
/// # Errors
/// What making a type raises.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    coroutine::prepare(module.py())?;
    protocol::prepare(module.py())?;
    module.add_function(pyo3::wrap_pyfunction!(set_stream_classes, module)?)
}
