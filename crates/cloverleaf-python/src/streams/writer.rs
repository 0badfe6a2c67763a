//! `StreamWriter`: `drain()` with nothing to wait for.
//!
//! The writer of a server's connection is made of our class. That of `open_connection` is seen by nobody but its caller,
//! and stays asyncio's.

use pyo3::prelude::*;

use super::feed::{Feed, feed_of};
use super::fields::Fields;
use super::reading::{self, What};
use super::{classes, protocol};
use crate::ffi::{Arguments, Method, Owned, Reach, call_method, raw_attached};
use crate::original::original;

/// Whether `drain()` would have nothing to do and nothing to say.
///
/// # Errors
/// What the transport raises.
pub(super) fn is_drained(writer: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = writer.py();
    if !classes(py).writer.is_intact(py)? {
        return Ok(false);
    }
    let fields = Fields::of(writer)?;
    if !is_unbroken(&fields.get(attribute!("_reader"))?)? {
        return Ok(false);
    }
    let transport = fields.get(attribute!("_transport"))?;
    if call_method(&transport, intern!(py, "is_closing"), [])?.is_truthy()? {
        return Ok(false);
    }
    protocol::may_write(&fields.get(attribute!("_protocol"))?)
}

/// Whether a reader has not been told of an error, as far as we can see.
fn is_unbroken(reader: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = reader.py();
    let classes = classes(py);
    if !reader.get_type().is(&classes.own_reader) || !classes.are_intact(py)? {
        return Ok(false);
    }
    let Some((object, fields)) = feed_of(reader)? else {
        return Ok(false);
    };
    let is_unbroken = Feed::of(&object).is_some_and(|feed| feed.known(py).exception.is_none());
    Ok(is_unbroken && !fields.has_beside(&[intern!(py, "exception")])?)
}

fn drain(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let [] = args.bind("StreamWriter.drain", [], 0)?;
    reading::start(slf, What::Drain)
}

/// asyncio's own coroutine.
///
/// # Errors
/// What calling its method raises.
pub(super) fn drain_by_asyncio<'py>(writer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = writer.py();
    let own = &classes(py).own_writer;
    let name = intern!(py, "drain");
    if !writer.is_instance(own.bind(py))? {
        return writer.reach0(name);
    }
    original(own, writer, name)?.invoke0()
}

pub(super) const METHODS: [Method; 1] = [Method {
    name: c"drain",
    doc: c"drain($self, /)\n--\n\nWait until the transport wants to be written to.",
    kind: raw_attached!(drain),
}];
