//! From asyncio's reader and protocol to ours, when a transport gets them.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyWeakrefReference};

use super::CLASSES;
use super::fields::Fields;

/// Makes a stream's protocol and reader ours, if they are asyncio's own, untouched, and of this loop.
///
/// # Errors
/// What looking at them raises.
#[inline]
pub(crate) fn adopt(event_loop: &Bound<'_, PyAny>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
    match CLASSES.get(protocol.py()) {
        Some(classes) if classes.protocol.is_class_of(protocol) => change(event_loop, protocol),
        Some(_) | None => Ok(()),
    }
}

fn change(event_loop: &Bound<'_, PyAny>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = protocol.py();
    let Some(classes) = CLASSES.get(py) else {
        return Ok(());
    };
    if !classes.protocol.is_intact(py)? || !classes.reader.is_intact(py)? {
        return Ok(());
    }
    let fields = Fields::of(protocol)?;
    if !fields.get(intern!(py, "_loop"))?.is(event_loop) {
        return Ok(());
    }
    let reference = fields.get(intern!(py, "_stream_reader_wr"))?;
    let reader = match reference.cast::<PyWeakrefReference>() {
        Ok(reference) => reference.upgrade(),
        Err(_) => None,
    };
    let Some(reader) = reader else { return Ok(()) };
    if !classes.reader.is_class_of(&reader) {
        return Ok(());
    }
    let reader_fields = Fields::of(&reader)?;
    let is_plain = reader_fields.get(intern!(py, "_loop"))?.is(event_loop)
        && reader_fields
            .get(intern!(py, "_buffer"))?
            .is_exact_instance_of::<PyByteArray>();
    if is_plain {
        let name = intern!(py, "__class__");
        // Refused if a program has changed the layout of asyncio's classes: then they stay what they are.
        if reader.setattr(name, classes.own_reader.bind(py)).is_ok() {
            cloverleaf::ignore(protocol.setattr(name, classes.own_protocol.bind(py)));
        }
    }
    Ok(())
}
