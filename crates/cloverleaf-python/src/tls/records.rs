//! Records to and from `ssl.SSLObject` and its two memory BIOs, by methods that are looked up once per connection.
//!
//! `SSLObject.read` and `write` are Python functions that hand their arguments to methods written in C, and do nothing
//! else. Those are called directly, unless the object is of another class or somebody has replaced the functions.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PyType};

use super::framing::Framing;
use super::turns::{Turns, crossed};
use crate::ffi::{
    AttachedCell, Once, Owned, Reach, Visitor, Window, call_with, instance_dict, int_from,
    new_dict, slice_from, tuple_from,
};
use crate::original::Original;

/// The payload of the largest record that TLS knows: what one read can give at most.
pub(super) const RECORD_BYTES: usize = 16 * 1024;

/// What a record may have beside its payload, as a rule.
pub(super) const OVERHEAD_BYTES: usize = 64;

/// What a record of TLS 1.3 has beside its payload, as a rule: a header, the kind of what it holds, and a seal.
const FIRST_OVERHEAD_BYTES: usize = 5 + 1 + 16;

/// How many bytes of records may wait for the end of an event.
pub(super) const DEFERRED_BYTES: usize = 64 * 1024;

/// What an attempt has come to.
#[derive(Debug)]
pub(super) enum Step<T> {
    /// It is done.
    Done(T),
    /// It needs more of the peer's bytes first.
    Again,
}

/// What has become of bytes that were to become records.
#[derive(Debug)]
pub(super) enum Written {
    /// So many are records.
    Bytes(usize),
    /// More of the peer's bytes are needed first.
    Again,
    /// None: another thread has its turn, which ends only when this one's callback does.
    Crossed,
}

/// One connection's records.
#[derive(Debug)]
pub(super) struct Records {
    /// Who may use what follows.
    pub(super) turns: Turns,
    object: Owned,
    incoming: Owned,
    pub(super) outgoing: Owned,
    do_handshake: Owned,
    pub(super) read: Owned,
    pub(super) write: Owned,
    unwrap: Owned,
    feed: Owned,
    pub(super) take: Owned,
    /// `RECORD_BYTES` as Python has it, as the one argument of a call: `_ssl` takes its arguments in a tuple, and one
    /// would be made for each.
    pub(super) most: Owned,
    /// Lends what one record is read into.
    pub(super) window: Py<Window>,
    /// `RECORD_BYTES` and the window, as the arguments of a call.
    pub(super) most_into: Owned,
    /// What the last record had beside its payload.
    pub(super) overhead: AtomicUsize,
    /// `read` and `write` are those in C, so nobody else sees what they are called with.
    pub(super) is_direct: bool,
    /// Bytes that have come since all that came had been read; never less than there are, but for the beginning of a
    /// record, see `framing`.
    pub(super) fed: AtomicUsize,
    /// The object may have the beginning of a record.
    pub(super) is_partial: AtomicBool,
    /// What has come ends with one whole record, and holds no other.
    pub(super) is_one: AtomicBool,
    /// Where the bytes that come next lie, if all that came before has been read.
    pub(super) framing: AttachedCell<Framing>,
    /// About how many bytes of records have been made since they were taken last.
    pub(super) made: AtomicUsize,
    /// Records that were made and are not in `outgoing` any more: they go before those that are.
    pub(super) aside: AttachedCell<Vec<Owned>>,
}

static ORIGINAL: Once<Original> = Once::new();
static WANT_READ: Once<Py<PyType>> = Once::new();
static SYSCALL: Once<Py<PyType>> = Once::new();

/// Tells "not yet" from an error.
pub(super) fn step(py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> PyResult<Step<Owned>> {
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
fn attempt(py: Python<'_>, turns: &Turns, method: &Owned) -> PyResult<Step<()>> {
    match step(py, turns.take(py, || method.bind(py).invoke0()))? {
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
        let names = new_dict(py)?;
        names.set_item(intern!(py, "server_side"), server_side)?;
        names.set_item(intern!(py, "server_hostname"), server_hostname)?;
        let object = context.call_method(
            intern!(py, "wrap_bio"),
            (&incoming, &outgoing),
            Some(&names),
        )?;
        let inside = inside(&object)?;
        let engine = inside.as_ref().unwrap_or(&object);
        let most = int_from(py, RECORD_BYTES as u64)?.into_any();
        let window = Window::new(py)?;
        let most_into = tuple_from(py, [most.clone(), window.clone().into_any()])?;
        Ok(Self {
            turns: Turns::new(),
            do_handshake: object.getattr(intern!(py, "do_handshake"))?.into(),
            read: engine.getattr(intern!(py, "read"))?.into(),
            write: engine.getattr(intern!(py, "write"))?.into(),
            is_direct: inside.is_some(),
            most: tuple_from(py, [most])?.into(),
            most_into: most_into.into(),
            window: window.unbind(),
            overhead: AtomicUsize::new(FIRST_OVERHEAD_BYTES),
            fed: AtomicUsize::new(0),
            is_partial: AtomicBool::new(true),
            is_one: AtomicBool::new(false),
            framing: AttachedCell::new(Framing::Unknown),
            made: AtomicUsize::new(0),
            aside: AttachedCell::new(Vec::new()),
            unwrap: object.getattr(intern!(py, "unwrap"))?.into(),
            feed: incoming.getattr(intern!(py, "write"))?.into(),
            take: outgoing.getattr(intern!(py, "read"))?.into(),
            object: object.into(),
            incoming: incoming.into(),
            outgoing: outgoing.into(),
        })
    }

    /// What a program is told when nothing of its bytes was written because threads have [crossed](Written::Crossed).
    #[cold]
    pub(super) fn refusal() -> PyErr {
        crossed()
    }

    /// The `ssl.SSLObject`.
    pub(super) fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.object.bind(py).to_owned()
    }

    /// Takes what the peer has sent in, to be read later.
    ///
    /// # Errors
    /// `TypeError` if it is not bytes-like, `MemoryError`.
    pub(super) fn feed(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        self.pass_in(data)?;
        let len = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes().len(),
            Err(_) => self.pending(&self.incoming, py)?,
        };
        self.note_fed(len, false);
        Ok(())
    }

    /// Gives bytes of the peer's to OpenSSL.
    pub(super) fn pass_in(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        self.turns
            .take(py, || call_with(self.feed.bind(py), [data]))
            .map(drop)
    }

    /// Notes that so many bytes have come and are to be read: the end of one record, or who knows what.
    pub(super) fn note_fed(&self, len: usize, is_one: bool) {
        self.fed.fetch_add(len, Ordering::Relaxed);
        self.is_one.store(is_one, Ordering::Relaxed);
    }

    /// The object has shaken hands, and has looked at nothing behind that: a record begins there.
    ///
    /// # Errors
    /// `RuntimeError` if threads have [crossed](Written::Crossed).
    pub(super) fn note_shaken(&self, py: Python<'_>) -> PyResult<()> {
        let behind = self.pending(&self.incoming, py)?;
        self.note_drained(py, Framing::BOUNDARY);
        self.fed.store(behind, Ordering::Relaxed);
        Ok(())
    }

    /// Notes that all that came has been read, and where what comes next lies.
    pub(super) fn note_drained(&self, py: Python<'_>, framing: Framing) {
        self.fed.store(0, Ordering::Relaxed);
        let is_partial = framing != Framing::BOUNDARY;
        self.is_partial.store(is_partial, Ordering::Relaxed);
        self.is_one.store(false, Ordering::Relaxed);
        *self.framing.get(py) = framing;
    }

    /// Whether all that came has been read, after a record was.
    pub(super) fn is_drained(&self, py: Python<'_>) -> PyResult<bool> {
        let is_drained = self.is_one.load(Ordering::Relaxed) || self.unread(py)? == 0;
        if is_drained {
            self.note_drained(py, Framing::BOUNDARY);
        }
        Ok(is_drained)
    }

    /// Whether it is known that all that came has been read.
    pub(super) fn has_drained(&self) -> bool {
        self.fed.load(Ordering::Relaxed) == 0
    }

    /// How many of the peer's bytes have not been looked at.
    ///
    /// # Errors
    /// None in practice.
    pub(super) fn unread(&self, py: Python<'_>) -> PyResult<usize> {
        if self.has_drained() {
            return Ok(0);
        }
        self.pending(&self.incoming, py)
    }

    /// Goes on with the handshake.
    ///
    /// # Errors
    /// `ssl.SSLError` if the peers do not come to terms.
    pub(super) fn do_handshake(&self, py: Python<'_>) -> PyResult<Step<()>> {
        attempt(py, &self.turns, &self.do_handshake)
    }

    /// Says goodbye, and waits for the peer's.
    ///
    /// # Errors
    /// `ssl.SSLError`, for one if the peer still sends data.
    pub(super) fn unwrap(&self, py: Python<'_>) -> PyResult<Step<()>> {
        attempt(py, &self.turns, &self.unwrap)
    }

    fn pending(&self, bio: &Owned, py: Python<'_>) -> PyResult<usize> {
        self.look_at(bio, py)?.ok_or_else(crossed)?.extract()
    }

    pub(super) fn look_at<'py>(
        &self,
        bio: &Owned,
        py: Python<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.turns
            .try_take(py, || bio.bind(py).getattr(intern!(py, "pending")))
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
            &self.most,
            &self.most_into,
        ] {
            visitor.object(object);
        }
    }
}

/// What does the work in an `ssl.SSLObject`, if its `read` and `write` do nothing but call it.
fn inside<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = object.py();
    let original = ORIGINAL.get_or_try_init(py, || {
        let class = py.import(intern!(py, "ssl"))?.getattr("SSLObject")?;
        let names = PyList::new(py, ["read", "write"])?;
        Original::new(&class.cast_into::<PyType>()?, &names)
    })?;
    if !original.is_class_of(object) || !original.is_intact(py)? {
        return Ok(None);
    }
    let own = instance_dict(object)?;
    if own.contains(intern!(py, "read"))? || own.contains(intern!(py, "write"))? {
        return Ok(None);
    }
    object.getattr_opt(intern!(py, "_sslobj"))
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
    view.get_item(slice_from(view.py(), start, end)?)
}
