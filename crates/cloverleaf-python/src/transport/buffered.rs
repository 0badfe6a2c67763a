//! Whether a protocol lends a buffer, which is asked for each connection and mostly of few classes.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::ffi::{Once, class_version, has_plain_attributes};

/// asyncio's class of protocols that lend a buffer.
static BUFFERED_PROTOCOL: Once<Py<PyType>> = Once::new();

/// What was found of classes, each at the place of its version: the version, and in the last bit the answer.
static FOUND: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// Whether a protocol lends a buffer.
///
/// # Errors
/// What importing asyncio or an `__instancecheck__` raises.
#[inline]
pub(crate) fn is_buffered(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    let class = BUFFERED_PROTOCOL.import(protocol.py(), "asyncio", "BufferedProtocol")?;
    let version = class_version(&protocol.get_type());
    let found = place_of(version).load(Ordering::Relaxed);
    if version != 0 && found >> 1 == u64::from(version) {
        return Ok(found & 1 != 0);
    }
    look(protocol, class, version)
}

#[inline]
fn place_of(version: u32) -> &'static AtomicU64 {
    &FOUND[version as usize % FOUND.len()]
}

#[cold]
fn look(protocol: &Bound<'_, PyAny>, class: &Bound<'_, PyType>, version: u32) -> PyResult<bool> {
    let is_buffered = protocol.is_instance(class)?;
    let its_class = protocol.get_type();
    // What stands for asyncio's class may be of a class with a word in it; an ordinary class stays one.
    let is_told_by_class = class.is_exact_instance_of::<PyType>() && has_its_own_class(&its_class)?;
    // Nobody has changed the class meanwhile.
    if is_told_by_class && version != 0 && class_version(&its_class) == version {
        let found = u64::from(version) << 1 | u64::from(is_buffered);
        place_of(version).store(found, Ordering::Relaxed);
    }
    Ok(is_buffered)
}

/// Whether the objects of a class say of themselves that they are of that class, whatever their attributes.
fn has_its_own_class(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    if !class.is_exact_instance_of::<PyType>() || !has_plain_attributes(class) {
        return Ok(false);
    }
    let name = intern!(py, "__class__");
    let object = py.get_type::<PyAny>();
    for base in class.mro() {
        let is_said = base.getattr(intern!(py, "__dict__"))?.contains(name)?;
        if is_said && !base.is(&object) {
            return Ok(false);
        }
    }
    Ok(true)
}
