//! Records to and from `ssl.SSLObject` and its two memory BIOs, by methods that are looked up once per connection.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PySlice, PyType};

use crate::ffi::{Owned, Reach, Visitor};

/// The payload of the largest record that TLS knows: what one read can give at most.
const RECORD_BYTES: usize = 16 * 1024;

/// What an attempt has come to.
#[derive(Debug)]
pub(super) enum Step<T> {
    /// It is done.
    Done(T),
    /// It needs more of the peer's bytes first.
    Again,
}

/// One connection's records.
#[derive(Debug)]
pub(super) struct Records {
    object: Owned,
    incoming: Owned,
    outgoing: Owned,
    do_handshake: Owned,
    read: Owned,
    write: Owned,
    unwrap: Owned,
    feed: Owned,
    take: Owned,
}

static WANT_READ: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static SYSCALL: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Tells "not yet" from an error.
fn step(py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> PyResult<Step<Owned>> {
    let error = match result {
        Ok(value) => return Ok(Step::Done(value.into())),
        Err(error) => error,
    };
    let again = [
        WANT_READ.import(py, "ssl", "SSLWantReadError")?,
        SYSCALL.import(py, "ssl", "SSLSyscallError")?,
    ];
    if again.iter().any(|class| error.is_instance(py, class)) {
        return Ok(Step::Again);
    }
    Err(error)
}

/// Makes a call of which only the success counts.
fn attempt(py: Python<'_>, method: &Owned) -> PyResult<Step<()>> {
    match step(py, method.bind(py).invoke0())? {
        Step::Done(_) => Ok(Step::Done(())),
        Step::Again => Ok(Step::Again),
    }
}

impl Records {
    /// The records of a new connection under this context.
    ///
    /// # Errors
    /// What `SSLContext.wrap_bio` raises.
    pub(super) fn new<'py>(
        context: &Bound<'py, PyAny>,
        server_side: bool,
        server_hostname: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let py = context.py();
        let bio = py
            .import(intern!(py, "ssl"))?
            .getattr(intern!(py, "MemoryBIO"))?;
        let (incoming, outgoing) = (bio.invoke0()?, bio.invoke0()?);
        let names = PyDict::new(py);
        names.set_item(intern!(py, "server_side"), server_side)?;
        names.set_item(intern!(py, "server_hostname"), server_hostname)?;
        let object = context.call_method(
            intern!(py, "wrap_bio"),
            (&incoming, &outgoing),
            Some(&names),
        )?;
        Ok(Self {
            do_handshake: object.getattr(intern!(py, "do_handshake"))?.into(),
            read: object.getattr(intern!(py, "read"))?.into(),
            write: object.getattr(intern!(py, "write"))?.into(),
            unwrap: object.getattr(intern!(py, "unwrap"))?.into(),
            feed: incoming.getattr(intern!(py, "write"))?.into(),
            take: outgoing.getattr(intern!(py, "read"))?.into(),
            object: object.into(),
            incoming: incoming.into(),
            outgoing: outgoing.into(),
        })
    }

    /// The `ssl.SSLObject`.
    pub(super) fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.object.bind(py).to_owned()
    }

    /// Takes what the peer has sent in.
    ///
    /// # Errors
    /// `TypeError` if it is not bytes-like, `MemoryError`.
    pub(super) fn feed(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.feed.bind(data.py()).invoke((data,)).map(drop)
    }

    /// How many of the peer's bytes have not been looked at.
    ///
    /// # Errors
    /// None in practice.
    pub(super) fn unread(&self, py: Python<'_>) -> PyResult<usize> {
        pending(&self.incoming, py)
    }

    /// How many bytes there are for the peer.
    ///
    /// # Errors
    /// None in practice.
    pub(super) fn unsent(&self, py: Python<'_>) -> PyResult<usize> {
        pending(&self.outgoing, py)
    }

    /// Takes all bytes that there are for the peer.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(self.take.bind(py).invoke0()?.cast_into::<PyBytes>()?)
    }

    /// Goes on with the handshake.
    ///
    /// # Errors
    /// `ssl.SSLError` if the peers do not come to terms.
    pub(super) fn do_handshake(&self, py: Python<'_>) -> PyResult<Step<()>> {
        attempt(py, &self.do_handshake)
    }

    /// Says goodbye, and waits for the peer's.
    ///
    /// # Errors
    /// `ssl.SSLError`, for one if the peer still sends data.
    pub(super) fn unwrap(&self, py: Python<'_>) -> PyResult<Step<()>> {
        attempt(py, &self.unwrap)
    }

    /// Makes records of bytes; answers how many bytes have become records.
    ///
    /// # Errors
    /// `ssl.SSLError`.
    pub(super) fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<Step<usize>> {
        let py = data.py();
        match step(py, self.write.bind(py).invoke((data,)))? {
            Step::Done(count) => Ok(Step::Done(count.bind(py).extract()?)),
            Step::Again => Ok(Step::Again),
        }
    }

    /// Reads what there is, record by record.
    ///
    /// # Errors
    /// `ssl.SSLError` of the first record; that of a later one comes with what was read before it.
    pub(super) fn read_all<'py>(&self, py: Python<'py>) -> PyResult<Plain<'py>> {
        let read = self.read.bind(py);
        let mut pieces: Vec<Bound<'py, PyBytes>> = Vec::new();
        let mut is_end = false;
        let mut failure = None;
        loop {
            let piece = match step(py, read.invoke((RECORD_BYTES,))) {
                Ok(Step::Done(piece)) => piece,
                Ok(Step::Again) => break,
                Err(error) if pieces.is_empty() => return Err(error),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            let piece = piece.into_bound(py).cast_into::<PyBytes>()?;
            if piece.as_bytes().is_empty() {
                is_end = true;
                break;
            }
            pieces.push(piece);
            // A record is never longer than one read. So nothing is left, and nobody has to raise to say so.
            if self.unread(py)? == 0 {
                break;
            }
        }
        let data = match pieces.len() {
            0 => None,
            1 => pieces.pop(),
            _ => Some(joined(py, &pieces)?),
        };
        Ok(Plain {
            data,
            is_end,
            failure,
        })
    }

    /// Fills a buffer with what there is.
    ///
    /// # Errors
    /// `TypeError` or `BufferError` if it is no writable buffer, `RuntimeError` if it is empty, `ssl.SSLError`.
    pub(super) fn read_into(&self, buffer: &Bound<'_, PyAny>) -> PyResult<Filled> {
        let py = buffer.py();
        let view = bytes_view(buffer)?;
        let room = view.len()?;
        if room == 0 {
            return Err(PyRuntimeError::new_err(
                "get_buffer() returned an empty buffer",
            ));
        }
        let read = self.read.bind(py);
        let mut filled = Filled {
            count: 0,
            is_end: false,
            is_full: false,
        };
        while filled.count < room {
            let wanted = room - filled.count;
            let rest = part(&view, filled.count, room)?;
            let attempt = match step(py, read.invoke((wanted, rest))) {
                Ok(attempt) => attempt,
                // What came before a broken record is the protocol's; the next read fails in the same way.
                Err(_) if filled.count > 0 => {
                    filled.is_full = true;
                    return Ok(filled);
                }
                Err(error) => return Err(error),
            };
            let Step::Done(count) = attempt else {
                return Ok(filled);
            };
            let count: usize = count.bind(py).extract()?;
            if count == 0 {
                filled.is_end = true;
                return Ok(filled);
            }
            filled.count += count;
            if count < wanted && self.unread(py)? == 0 {
                return Ok(filled);
            }
        }
        filled.is_full = true;
        Ok(filled)
    }

    /// Shows the collector every object that is held.
    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        for object in [
            &self.object,
            &self.incoming,
            &self.outgoing,
            &self.do_handshake,
            &self.read,
            &self.write,
            &self.unwrap,
            &self.feed,
            &self.take,
        ] {
            visitor.object(object);
        }
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct Plain<'py> {
    /// The bytes, if there are any.
    pub(super) data: Option<Bound<'py, PyBytes>>,
    /// The peer has said goodbye behind them.
    pub(super) is_end: bool,
    /// What is wrong with the record behind them.
    pub(super) failure: Option<PyErr>,
}

/// How a buffer was filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    /// How many bytes it holds.
    pub(super) count: usize,
    /// The peer has said goodbye behind them.
    pub(super) is_end: bool,
    /// There may be more than has found room.
    pub(super) is_full: bool,
}

fn pending(bio: &Owned, py: Python<'_>) -> PyResult<usize> {
    bio.bind(py).getattr(intern!(py, "pending"))?.extract()
}

fn joined<'py>(py: Python<'py>, pieces: &[Bound<'py, PyBytes>]) -> PyResult<Bound<'py, PyBytes>> {
    let whole = PyBytes::new(py, b"").reach(intern!(py, "join"), (pieces,))?;
    Ok(whole.cast_into::<PyBytes>()?)
}

/// A view of an object's bytes, of which parts can be taken without a copy.
///
/// # Errors
/// `TypeError` if it lends none or they are not contiguous.
pub(super) fn bytes_view<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let view = PyMemoryView::from(object)?.into_any();
    let format = view.getattr(intern!(py, "format"))?;
    let dimensions: usize = view.getattr(intern!(py, "ndim"))?.extract()?;
    if dimensions == 1 && format.eq("B")? {
        return Ok(view);
    }
    view.reach(intern!(py, "cast"), (intern!(py, "B"),))
}

/// A part of a view.
///
/// # Errors
/// `MemoryError`.
pub(super) fn part<'py>(
    view: &Bound<'py, PyAny>,
    start: usize,
    end: usize,
) -> PyResult<Bound<'py, PyAny>> {
    if start == 0 && end == view.len()? {
        return Ok(view.clone());
    }
    let slice = PySlice::new(view.py(), isize::try_from(start)?, isize::try_from(end)?, 1);
    view.get_item(slice)
}
