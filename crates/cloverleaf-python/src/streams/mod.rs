//! asyncio's streams at native speed: subclasses of its reader and its protocol whose hot methods are ours.
//!
//! A stream's reader and protocol are made by asyncio's own functions. Those of a server are made of our subclasses; else,
//! when a transport gets such a protocol, and both are of asyncio's very classes with nothing about those changed, they
//! become instances of our subclasses. Whatever a
//! program reads or changes on them is there as with asyncio; what a reader has by `__init__` lies in a `Feed`, behind
//! properties. A method that meets anything out of the ordinary hands over to asyncio's own.

mod adopt;
mod attributes;
mod coroutine;
mod feed;
mod fields;
mod gathering;
mod protocol;
mod reader;
mod reading;
mod waiter;
mod writer;

pub(crate) use adopt::adopt;
pub(crate) use protocol::deliver;
pub(crate) use waiter::{is_over, shown, wake, yielded};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};

use crate::event_loop;
use crate::ffi::{Once, attach_methods};
use crate::original::Original;

/// The classes of streams.
#[derive(Debug)]
struct Classes {
    reader: Original,
    protocol: Original,
    own_reader: Py<PyType>,
    own_protocol: Py<PyType>,
    writer: Original,
    own_writer: Py<PyType>,
    /// Our classes as we have made them, and the loop's.
    made_reader: Original,
    made_protocol: Original,
    event_loop: Original,
    /// A future that is done, with no result; of no loop, so that it keeps none.
    done: Py<PyAny>,
    /// Python's `collections.deque`.
    deque: Py<PyType>,
}

impl Classes {
    /// Whether nobody has put another method in the place of one of asyncio's, or of ours.
    ///
    /// # Errors
    /// What looking at the classes raises.
    #[inline]
    fn are_intact(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.protocol.is_intact(py)?
            && self.made_protocol.is_intact(py)?
            && self.reader.is_intact(py)?
            && self.made_reader.is_intact(py)?)
    }
}

static CLASSES: Once<Classes> = Once::new();

/// Makes these the classes of streams on Cloverleaf's transports: each with asyncio's class, which it derives from, and
/// the names of asyncio's methods that ours replace or stand for. `event_loop` names those of the loop's methods that are
/// not called where they are what they were, and `done` is a future that is done, of no loop.
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
    writer: (Bound<'_, PyType>, Bound<'_, PyType>, Bound<'_, PyList>),
    event_loop: Bound<'_, PyList>,
    done: Py<PyAny>,
) -> PyResult<()> {
    let py = reader.0.py();
    attach_methods(&reader.0, &reader::METHODS)?;
    attributes::attach(&reader.0)?;
    attach_methods(&protocol.0, &protocol::METHODS)?;
    attach_methods(&writer.0, &writer::METHODS)?;
    let classes = Classes {
        reader: Original::new(&reader.1, &reader.2)?,
        protocol: Original::new(&protocol.1, &protocol.2)?,
        writer: Original::new(&writer.1, &writer.2)?,
        own_writer: writer.0.clone().unbind(),
        made_reader: Original::new(&reader.0, &reader.2)?,
        made_protocol: Original::new(&protocol.0, &protocol.2)?,
        event_loop: Original::new(&event_loop::final_class(py)?, &event_loop)?,
        own_reader: reader.0.clone().unbind(),
        own_protocol: protocol.0.clone().unbind(),
        done,
        deque: py
            .import("collections")?
            .getattr("deque")?
            .cast_into()?
            .unbind(),
    };
    CLASSES
        .set(py, classes)
        .map_err(|_| PyRuntimeError::new_err("the classes of streams are set already"))
}

/// Whether nobody has changed what our classes replace or stand for; false as long as they are not known.
///
/// # Errors
/// What looking at the classes raises.
#[pyfunction]
fn streams_are_intact(py: Python<'_>) -> PyResult<bool> {
    match CLASSES.get(py) {
        Some(classes) => Ok(classes.are_intact(py)? && classes.writer.is_intact(py)?),
        None => Ok(false),
    }
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
    crate::coroutine::prepare::<reading::Reading>(module.py())?;
    feed::prepare(module.py())?;
    waiter::prepare(module.py())?;
    protocol::prepare(module.py())?;
    module.add_function(pyo3::wrap_pyfunction!(
        attributes::give_back_attributes,
        module
    )?)?;
    module.add_function(pyo3::wrap_pyfunction!(attributes::attributes_of, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(adopt::prepare_reader, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(streams_are_intact, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(set_stream_classes, module)?)
}
