//! `StreamReader`: what comes goes into its buffer and wakes who waits for it; its reads begin here.

use pyo3::Borrowed;
use pyo3::exceptions::PyNotImplementedError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString};

use super::classes;
use super::feed::{Feed, feed_of};
use super::reading::{self, What};
use super::waiter;
use crate::ffi::{
    Arguments, Method, Owned, Reach, bytes_from, raw_attached, raw_noargs, raw_onename,
    value_of_int,
};
use crate::original::original;

/// asyncio's own method of this name, bound to the reader.
///
/// # Errors
/// `AttributeError` if a program has deleted it.
pub(super) fn asyncios<'py>(
    slf: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let own = &classes(slf.py()).own_reader;
    if !slf.is_instance(own.bind(slf.py()))? {
        // A program has made it one of another class meanwhile.
        return slf.getattr(name);
    }
    original(own, slf, name)
}

/// `feed_data`.
fn feed_data(slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    if let Ok(bytes) = data.cast_exact::<PyBytes>()
        && feed(slf, bytes, &[])?
    {
        return Ok(py.None().into_bound(py).into());
    }
    let feed = asyncios(slf, intern!(py, "feed_data"))?;
    Ok(feed.invoke((data,))?.into())
}

/// Feeds a reader, unless a program has given it a `feed_data` of its own: then nothing is changed, and the answer is
/// `false`.
///
/// # Errors
/// What `feed_data` raises.
#[inline]
pub(super) fn feed_unless_replaced(
    slf: &Bound<'_, PyAny>,
    bytes: &Bound<'_, PyBytes>,
) -> PyResult<bool> {
    feed(slf, bytes, &[intern!(slf.py(), "feed_data")])
}

/// `feed_data`; `false`, with nothing changed, if only asyncio's method knows what to do, or the reader has a method
/// among `by` of its own.
///
/// # Errors
/// `BufferError` while somebody has a view of the buffer; what waking who waits raises, and pausing the transport.
#[inline]
fn feed(
    slf: &Bound<'_, PyAny>,
    bytes: &Bound<'_, PyBytes>,
    by: &[&Bound<'_, PyString>],
) -> PyResult<bool> {
    let py = slf.py();
    if bytes.as_bytes().is_empty() || !classes(py).reader.is_intact(py)? {
        return Ok(false);
    }
    let Some((object, fields)) = feed_of(slf)? else {
        return Ok(false);
    };
    let Some(feed) = Feed::of(&object) else {
        return Ok(false);
    };
    if fields.has_beside(&[intern!(py, "_wakeup_waiter")])? || fields.has_beside(by)? {
        return Ok(false);
    }
    let Some(added) = feed.add(bytes)? else {
        return Ok(false);
    };
    if let Some(waiter) = added.waiter {
        waiter::wake(&waiter.into_bound(py))?;
    }
    if added.is_full {
        pause(py, feed)?;
    }
    Ok(true)
}

/// Asks the transport to wait, now that more has come than the reader wants to hold.
#[cold]
fn pause(py: Python<'_>, feed: &Feed) -> PyResult<()> {
    let transport = {
        let known = feed.known(py);
        match &known.transport {
            Some(transport) if !known.paused => transport.clone_ref(py),
            Some(_) | None => return Ok(()),
        }
    };
    match transport
        .into_bound(py)
        .reach0(intern!(py, "pause_reading"))
    {
        Ok(_) => {
            feed.known(py).paused = true;
            Ok(())
        }
        // It cannot, so it is not asked again.
        Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
            let old = feed.known(py).transport.take();
            drop(old);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn readline(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let [] = args.bind("StreamReader.readline", [], 0)?;
    reading::start(slf, What::Line)
}

fn readuntil(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let [separator] = args.bind("StreamReader.readuntil", ["separator"], 0)?;
    let Some(separator) = separator else {
        return reading::start(slf, What::Until(bytes_from(py, b"\n")?.into_any().into()));
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
    let number = value_of_int(number.cast_exact::<PyInt>().ok()?)?;
    usize::try_from(number).ok().filter(|count| *count > 0)
}

fn is_negative(number: Borrowed<'_, '_, PyAny>) -> bool {
    let number = number.cast_exact::<PyInt>().ok();
    number
        .and_then(value_of_int)
        .is_some_and(|number| number < 0)
}

fn read(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let [number] = args.bind("StreamReader.read", ["n"], 0)?;
    let Some(number) = number else {
        return reading::start(slf, What::All);
    };
    match count_of(number) {
        Some(count) => reading::start(slf, What::UpTo(count)),
        None if is_negative(number) => reading::start(slf, What::All),
        None => by_asyncio(slf, intern!(py, "read"), number),
    }
}

fn readexactly(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let number = args.only("StreamReader.readexactly", "n")?;
    match count_of(number) {
        Some(count) => reading::start(slf, What::Exactly(count)),
        None => by_asyncio(slf, intern!(slf.py(), "readexactly"), number),
    }
}

/// `exception`: what has broken the connection.
fn exception(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    if classes(py).reader.is_intact(py)?
        && let Some((object, _)) = feed_of(slf)?
        && let Some(feed) = Feed::of(&object)
    {
        let exception = feed.known(py).exception.as_ref().map(|e| e.clone_ref(py));
        return Ok(exception.unwrap_or_else(|| py.None().into_bound(py).into()));
    }
    Ok(asyncios(slf, intern!(py, "exception"))?.invoke0()?.into())
}

/// asyncio's own coroutine.
fn by_asyncio<'py>(
    slf: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    argument: Borrowed<'_, 'py, PyAny>,
) -> PyResult<Owned> {
    Ok(asyncios(slf, name)?.invoke((argument,))?.into())
}

pub(super) const METHODS: [Method; 6] = [
    Method {
        name: c"feed_data",
        doc: c"feed_data($self, data)\n--\n\nAdd what came, and wake who waits for it.",
        kind: raw_onename!(feed_data, "StreamReader.feed_data", "data"),
    },
    Method {
        name: c"exception",
        doc: c"exception($self, /)\n--\n\nThe error that has ended the stream, or None.",
        kind: raw_noargs!(exception),
    },
    Method {
        name: c"readline",
        doc: c"readline($self, /)\n--\n\nRead up to the end of a line, or of the stream.",
        kind: raw_attached!(readline),
    },
    Method {
        name: c"readuntil",
        doc: c"readuntil($self, separator=b'\\n')\n--\n\nRead up to a separator, which is part of what is read.",
        kind: raw_attached!(readuntil),
    },
    Method {
        name: c"read",
        doc: c"read($self, n=-1)\n--\n\nRead what there is, up to n bytes; or up to the end of the stream.",
        kind: raw_attached!(read),
    },
    Method {
        name: c"readexactly",
        doc: c"readexactly($self, n)\n--\n\nRead n bytes, no more and no less.",
        kind: raw_attached!(readexactly),
    },
];
