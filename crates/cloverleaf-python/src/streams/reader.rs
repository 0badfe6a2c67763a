//! `StreamReader`: what comes goes into its buffer and wakes who waits for it; its reads begin here.

use pyo3::exceptions::PyNotImplementedError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString};
use pyo3::{Borrowed, intern};

use super::classes;
use super::fields::{Fields, ReaderFields};
use super::reading::{self, What};
use crate::ffi::{Arguments, Method, Owned, Reach, append, raw_fastcall, raw_noargs, raw_onename};
use crate::future;
use crate::original::original;

/// asyncio's own method of this name, bound to the reader.
///
/// # Errors
/// `AttributeError` if a program has deleted it.
pub(super) fn asyncios<'py>(
    slf: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    original(&classes(slf.py()).own_reader, slf, name)
}

/// `feed_data`.
fn feed_data(slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    if let Ok(bytes) = data.cast_exact::<PyBytes>()
        && classes(py).reader.is_intact(py)?
        && feed(slf, bytes)?
    {
        return Ok(py.None().into_bound(py).into());
    }
    let feed = asyncios(slf, intern!(py, "feed_data"))?;
    Ok(feed.invoke((data,))?.into())
}

/// `false`, with nothing changed, if only asyncio's method knows what to do.
fn feed(slf: &Bound<'_, PyAny>, bytes: &Bound<'_, PyBytes>) -> PyResult<bool> {
    let py = slf.py();
    let Some(fields) = ReaderFields::of(slf)? else {
        return Ok(false);
    };
    let bytes = bytes.as_bytes();
    if bytes.is_empty()
        || fields.eof.is_truthy()?
        || fields.has_own(&[intern!(py, "_wakeup_waiter")])?
    {
        return Ok(false);
    }
    append(&fields.buffer, bytes)?;
    if !fields.waiter.is_none() {
        fields.own.clear(intern!(py, "_waiter"))?;
        future::set_result(&fields.waiter, py.None().bind(py))?;
    }
    if fields.buffer.len() > fields.limit.saturating_mul(2) {
        pause(slf)?;
    }
    Ok(true)
}

/// Asks the transport to wait, now that more has come than the reader wants to hold.
#[cold]
fn pause(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let fields = Fields::of(slf)?;
    let transport = fields.get(intern!(py, "_transport"))?;
    if transport.is_none() || fields.is_true(intern!(py, "_paused"))? {
        return Ok(());
    }
    match transport.reach0(intern!(py, "pause_reading")) {
        Ok(_) => fields.set_bool(intern!(py, "_paused"), true),
        // It cannot, so it is not asked again.
        Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
            fields.clear(intern!(py, "_transport"))
        }
        Err(error) => Err(error),
    }
}

fn readline(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    reading::start(slf, What::Line)
}

fn readuntil(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let [separator] = args.bind("StreamReader.readuntil", ["separator"], 0)?;
    let Some(separator) = separator else {
        return reading::start(slf, What::Until(PyBytes::new(py, b"\n").into_any().into()));
    };
    match separator.cast_exact::<PyBytes>() {
        Ok(bytes) if !bytes.as_bytes().is_empty() => {
            reading::start(slf, What::Until(separator.into()))
        }
        _ => by_asyncio(slf, intern!(py, "readuntil"), separator),
    }
}

/// A number of bytes; None if it is none that we understand.
fn count_of(number: Borrowed<'_, '_, PyAny>) -> Option<usize> {
    let number = number.cast_exact::<PyInt>().ok()?;
    number.extract::<usize>().ok().filter(|count| *count > 0)
}

fn read(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let [number] = args.bind("StreamReader.read", ["n"], 0)?;
    let Some(number) = number else {
        return Ok(asyncios(slf, intern!(py, "read"))?.invoke0()?.into());
    };
    match count_of(number) {
        Some(count) => reading::start(slf, What::UpTo(count)),
        None => by_asyncio(slf, intern!(py, "read"), number),
    }
}

fn readexactly(slf: &Bound<'_, PyAny>, number: &Bound<'_, PyAny>) -> PyResult<Owned> {
    match count_of(number.as_borrowed()) {
        Some(count) => reading::start(slf, What::Exactly(count)),
        None => by_asyncio(slf, intern!(slf.py(), "readexactly"), number.as_borrowed()),
    }
}

/// asyncio's own coroutine.
fn by_asyncio<'py>(
    slf: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    argument: Borrowed<'_, 'py, PyAny>,
) -> PyResult<Owned> {
    Ok(asyncios(slf, name)?.invoke((argument,))?.into())
}

pub(super) const METHODS: [Method; 5] = [
    Method {
        name: c"feed_data",
        doc: c"feed_data($self, data)\n--\n\nAdd what came, and wake who waits for it.",
        kind: raw_onename!(feed_data, "StreamReader.feed_data", "data"),
    },
    Method {
        name: c"readline",
        doc: c"readline($self, /)\n--\n\nRead up to the end of a line, or of the stream.",
        kind: raw_noargs!(readline),
    },
    Method {
        name: c"readuntil",
        doc: c"readuntil($self, separator=b'\\n')\n--\n\nRead up to a separator, which is part of what is read.",
        kind: raw_fastcall!(readuntil),
    },
    Method {
        name: c"read",
        doc: c"read($self, n=-1)\n--\n\nRead what there is, up to n bytes; or up to the end of the stream.",
        kind: raw_fastcall!(read),
    },
    Method {
        name: c"readexactly",
        doc: c"readexactly($self, n)\n--\n\nRead n bytes, no more and no less.",
        kind: raw_onename!(readexactly, "StreamReader.readexactly", "n"),
    },
];
