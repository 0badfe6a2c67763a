//! From asyncio's reader and protocol to ours, when a transport gets them.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyString, PyType, PyWeakrefReference};

use super::CLASSES;
use super::attributes::{NAMES, buffer_of};
use super::feed::{Buffer, Feed, Known};
use super::fields::Fields;
use crate::ffi::{Owned, has_no_others, replace_instance_dict};

/// Makes a stream's protocol and reader ours, if they are asyncio's own, untouched, and of this loop.
///
/// # Errors
/// What looking at them raises.
#[inline]
pub(crate) fn adopt(event_loop: &Bound<'_, PyAny>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(classes) = CLASSES.get(protocol.py()) else {
        return Ok(());
    };
    if classes.protocol.is_class_of(protocol) {
        change(event_loop, protocol)?;
    }
    if protocol.get_type().is(&classes.own_protocol) {
        spare_waiters(protocol, classes.deque.bind(protocol.py()))?;
    }
    Ok(())
}

/// Takes the empty deque of those that wait in `drain()`, 760 bytes, from a protocol of ours, which makes another when it
/// is asked for.
fn spare_waiters(protocol: &Bound<'_, PyAny>, deque: &Bound<'_, PyType>) -> PyResult<()> {
    let name = intern!(protocol.py(), "_drain_waiters");
    let fields = Fields::of(protocol)?;
    match fields.find(name)? {
        // One reference is the protocol's.
        Some(waiters)
            if has_no_others(&waiters, 1)
                && waiters.get_type().is(deque)
                && waiters.len()? == 0 =>
        {
            fields.dict().del_item(name)
        }
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
    if !fields.get(attribute!("_loop"))?.is(event_loop) {
        return Ok(());
    }
    let reference = fields.get(attribute!("_stream_reader_wr"))?;
    let reader = match reference.cast::<PyWeakrefReference>() {
        Ok(reference) => reference.upgrade(),
        Err(_) => None,
    };
    let Some(reader) = reader else { return Ok(()) };
    if !classes.reader.is_class_of(&reader) {
        return Ok(());
    }
    let Some((known, others)) = known_by(&reader, event_loop)? else {
        return Ok(());
    };
    let name = intern!(py, "__class__");
    // Refused if a program has changed the layout of asyncio's classes: then they stay what they are.
    if reader.setattr(name, classes.own_reader.bind(py)).is_ok() {
        others.set_item(intern!(py, "_cloverleaf"), Feed::instantiate(py, known)?)?;
        replace_instance_dict(&reader, &others)?;
        cloverleaf::ignore(protocol.setattr(name, classes.own_protocol.bind(py)));
    }
    Ok(())
}

/// Gives a reader of ours, which is being made, the place for what its `__init__` will set.
///
/// # Errors
/// `MemoryError`.
#[pyfunction]
pub(super) fn prepare_reader(reader: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = reader.py();
    let none = || Owned::from(py.None().into_bound(py));
    let known = Known {
        limit: None,
        limit_object: none(),
        event_loop: none(),
        buffer: Buffer::Empty,
        eof: false,
        waiter: None,
        exception: None,
        transport: None,
        paused: false,
    };
    let feed = Feed::instantiate(py, known)?;
    Fields::of(reader)?.set(intern!(py, "_cloverleaf"), &feed)
}

/// What a reader knows, and its other attributes; None if a program has changed it in a way that only asyncio's own
/// methods understand.
fn known_by<'py>(
    reader: &Bound<'py, PyAny>,
    event_loop: &Bound<'py, PyAny>,
) -> PyResult<Option<(Known, Bound<'py, PyDict>)>> {
    let py = reader.py();
    let others = Fields::of(reader)?.dict().copy()?;
    let mut values = Vec::with_capacity(NAMES.len());
    for name in NAMES {
        let name = PyString::intern(py, name);
        let Some(value) = others.get_item(&name)? else {
            return Ok(None);
        };
        others.del_item(&name)?;
        values.push(value);
    }
    let Ok(
        [
            limit,
            its_loop,
            buffer,
            eof,
            waiter,
            exception,
            transport,
            paused,
        ],
    ) = <[Bound<'py, PyAny>; 8]>::try_from(values)
    else {
        return Ok(None);
    };
    if !its_loop.is(event_loop) || !buffer.is_exact_instance_of::<PyByteArray>() {
        return Ok(None);
    }
    let given = |object: Bound<'py, PyAny>| (!object.is_none()).then(|| Owned::from(object));
    // One reference is the reader's, until its attributes are replaced.
    let is_new = has_no_others(&buffer, 1) && buffer.len()? == 0;
    let known = Known {
        limit: limit.extract().ok(),
        limit_object: limit.into(),
        event_loop: its_loop.into(),
        buffer: if is_new {
            Buffer::Empty
        } else {
            buffer_of(&buffer)
        },
        eof: eof.is_truthy()?,
        waiter: given(waiter),
        exception: given(exception),
        transport: given(transport),
        paused: paused.is_truthy()?,
    };
    Ok(Some((known, others)))
}
