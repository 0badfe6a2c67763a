//! What a reader of ours knows, where its methods find it at once: it stands for the attributes that asyncio's
//! `__init__` gives a reader.
//!
//! What has come is kept as it came, and a line that came alone is that very object. It becomes the `bytearray` that
//! asyncio has as soon as a second piece comes, or somebody asks for the buffer.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use super::fields::Fields;
use crate::ffi::{
    Access, AttachedCell, Native, NativeClass, Owned, Visitor, append, bytes_from, drop_front,
    has_no_others, look_at,
};

/// What has come and has not been read.
#[derive(Debug)]
pub(super) enum Buffer {
    /// Nothing.
    Empty,
    /// One `bytes`, from this place on, which is before its end.
    Piece(Owned, usize),
    /// A `bytearray`.
    Array(Owned),
    /// What a program has put there.
    Other(Owned),
}

/// A reader's attributes.
#[derive(Debug)]
pub(super) struct Known {
    /// How much the buffer may hold, twice; None if it is no number that we understand.
    pub(super) limit: Option<usize>,
    pub(super) limit_object: Owned,
    pub(super) event_loop: Owned,
    pub(super) buffer: Buffer,
    /// Whether the end of the stream has come.
    pub(super) eof: bool,
    /// What a read waits for.
    pub(super) waiter: Option<Owned>,
    /// What has broken the connection.
    pub(super) exception: Option<Owned>,
    pub(super) transport: Option<Owned>,
    /// Whether the reader has asked the transport to wait.
    pub(super) paused: bool,
}

/// Those of one reader.
#[derive(Debug)]
pub(super) struct Feed(AttachedCell<Known>);

static CLASS: NativeClass = NativeClass::new();

impl Native for Feed {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.Feed";
    const SUBCLASSABLE: bool = false;
    const KEPT: usize = 0;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = None;

    fn class() -> &'static NativeClass {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        let Some(known) = self.0.seen_by(visitor) else {
            // In use, so not garbage; what is not shown is kept.
            return;
        };
        visitor.object(&known.limit_object);
        visitor.object(&known.event_loop);
        match &known.buffer {
            Buffer::Piece(object, _) | Buffer::Array(object) | Buffer::Other(object) => {
                visitor.object(object);
            }
            Buffer::Empty => {}
        }
        let others = [&known.waiter, &known.exception, &known.transport];
        for object in others.into_iter().flatten() {
            visitor.object(object);
        }
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        let old = {
            let mut known = self.known(holder.py());
            (
                known.waiter.take(),
                known.exception.take(),
                known.transport.take(),
                known.set_buffer(Buffer::Empty),
            )
        };
        drop(old);
    }
}

impl Feed {
    /// An object with these attributes.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn instantiate(py: Python<'_>, known: Known) -> PyResult<Bound<'_, PyAny>> {
        CLASS.instantiate(py, Self(AttachedCell::new(known)))
    }

    /// The attributes in an object.
    #[inline]
    pub(super) fn of<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a Self> {
        CLASS.get(object)
    }

    /// No Python code may run, and no object be dropped, while this is held.
    #[inline]
    pub(super) fn known<'a>(&'a self, py: Python<'a>) -> Access<'a, Known> {
        self.0.get(py)
    }

    /// Adds what has come; None, with nothing changed, if only asyncio's method knows what to do.
    ///
    /// # Errors
    /// `BufferError` while somebody has a view of the buffer, `MemoryError`.
    #[inline]
    pub(super) fn add(&self, bytes: &Bound<'_, PyBytes>) -> PyResult<Option<Added>> {
        let py = bytes.py();
        let (array, most) = {
            let mut known = self.known(py);
            let Some(limit) = known.limit.filter(|_| !known.eof) else {
                return Ok(None);
            };
            let most = limit.saturating_mul(2);
            let array = match &known.buffer {
                Buffer::Empty => {
                    known.buffer = Buffer::Piece(bytes.clone().into(), 0);
                    return Ok(Some(Added {
                        waiter: known.waiter.take(),
                        is_full: bytes.as_bytes().len() > most,
                    }));
                }
                Buffer::Other(_) => return Ok(None),
                Buffer::Array(array) => Some(array.clone_ref(py)),
                Buffer::Piece(..) => None,
            };
            (array, most)
        };
        let array = match array {
            Some(array) => array.into_bound(py).cast_into::<PyByteArray>()?,
            None => self.as_array(py)?,
        };
        append(&array, bytes.as_bytes())?;
        Ok(Some(Added {
            waiter: self.known(py).waiter.take(),
            is_full: array.len() > most,
        }))
    }

    /// The buffer as asyncio has it, which it is from now on.
    ///
    /// # Errors
    /// `MemoryError`, with nothing changed.
    fn as_array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let piece = match &self.known(py).buffer {
            Buffer::Array(array) | Buffer::Other(array) => Ok(array.clone_ref(py)),
            Buffer::Piece(bytes, from) => Err(Some((bytes.clone_ref(py), *from))),
            Buffer::Empty => Err(None),
        };
        let piece = match piece {
            Ok(array) => return Ok(array.into_bound(py).cast_into()?),
            Err(piece) => piece,
        };
        let array = match &piece {
            Some((bytes, from)) => {
                let bytes = bytes.bind(py);
                let bytes = bytes.cast::<PyBytes>()?;
                let rest = &bytes.as_bytes()[*from..];
                PyByteArray::new_with(py, rest.len(), |room| {
                    room.copy_from_slice(rest);
                    Ok(())
                })?
            }
            None => PyByteArray::new_with(py, 0, |_| Ok(()))?,
        };
        let new = Buffer::Array(array.clone().into());
        let old = self.known(py).set_buffer(new);
        drop((old, piece));
        Ok(array)
    }

    /// What the program sees of the buffer: it may be kept and changed.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn buffer_shown(&self, py: Python<'_>) -> PyResult<Owned> {
        if let Buffer::Other(object) = &self.known(py).buffer {
            return Ok(object.clone_ref(py));
        }
        Ok(self.as_array(py)?.into())
    }

    /// Looks at what is there and how much may be there, and takes the part that `look` wants.
    ///
    /// # Errors
    /// `BufferError` while somebody has a view of the buffer, `MemoryError`; nothing is taken then.
    #[inline]
    pub(super) fn take<'py>(
        &self,
        py: Python<'py>,
        look: impl FnOnce(&[u8], usize) -> Part,
    ) -> PyResult<Taken<'py>> {
        let (array, limit) = {
            let mut known = self.known(py);
            let Some(limit) = known.limit else {
                return Ok(Taken::Unusual);
            };
            match &mut known.buffer {
                Buffer::Empty => return Ok(look(b"", limit).not_taken(&known)),
                Buffer::Other(_) => return Ok(Taken::Unusual),
                Buffer::Array(array) => (array.clone_ref(py), limit),
                Buffer::Piece(object, from) => {
                    let piece = object.bind(py).to_owned();
                    let Ok(bytes) = piece.cast_into::<PyBytes>() else {
                        return Ok(Taken::Unusual);
                    };
                    let all = bytes.as_bytes();
                    let part = look(&all[*from..], limit);
                    let Part::First(count) = part else {
                        return Ok(part.not_taken(&known));
                    };
                    let end = *from + count;
                    let taken = if count < all.len() {
                        Some(bytes_from(py, &all[*from..end])?)
                    } else {
                        None
                    };
                    *from = end;
                    let old = (end == all.len()).then(|| known.set_buffer(Buffer::Empty));
                    drop(known);
                    drop(old);
                    return Ok(Taken::Bytes(taken.unwrap_or(bytes)));
                }
            }
        };
        let array = array.into_bound(py).cast_into::<PyByteArray>()?;
        let (part, bytes) = look_at(&array, |all| match look(all, limit) {
            Part::First(count) => (Part::First(count), Some(bytes_from(py, &all[..count]))),
            part => (part, None),
        });
        let Some(bytes) = bytes.transpose()? else {
            return Ok(part.not_taken(&self.known(py)));
        };
        drop_front(&array, bytes.as_bytes().len())?;
        if array.is_empty() && has_no_others(&array, 1) {
            let old = self.known(py).set_buffer(Buffer::Empty);
            drop(old);
        }
        Ok(Taken::Bytes(bytes))
    }
}

/// What is to be done when something was added.
#[derive(Debug)]
pub(super) struct Added {
    /// Who waited for it, and is to be woken.
    pub(super) waiter: Option<Owned>,
    /// There is more now than the reader wants to hold.
    pub(super) is_full: bool,
}

/// The part of the buffer that a read wants.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// So many bytes from the front.
    First(usize),
    /// More than there is.
    More,
    /// More than there is, or nothing at the end of the stream.
    Rest,
    /// What asyncio's own coroutine must deal with.
    Unusual,
}

/// What a read gets.
#[derive(Debug)]
pub(super) enum Taken<'py> {
    /// What it wants.
    Bytes(Bound<'py, PyBytes>),
    /// Nothing yet.
    TooLittle,
    /// Nothing, and nothing will come.
    End,
    /// What asyncio's own coroutine must deal with.
    Unusual,
}

impl Part {
    /// What comes of a part that is not there: at the end of the stream, or there may come more.
    fn not_taken<'py>(self, known: &Known) -> Taken<'py> {
        match self {
            Self::More | Self::Rest if !known.eof => Taken::TooLittle,
            Self::Rest => Taken::End,
            Self::First(_) | Self::More | Self::Unusual => Taken::Unusual,
        }
    }
}

impl Known {
    /// Replaces the buffer; what it was must be dropped when this is not borrowed.
    #[must_use = "it must be dropped when nothing is borrowed"]
    pub(super) fn set_buffer(&mut self, buffer: Buffer) -> Buffer {
        std::mem::replace(&mut self.buffer, buffer)
    }
}

/// Has nobody wait any more, as asyncio's `_wait_for_data` does in the end.
///
/// # Errors
/// What setting the attribute of a reader raises that has got its attributes back.
pub(super) fn stop_waiting(reader: &Bound<'_, PyAny>, object: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(feed) = Feed::of(object) else {
        return Ok(());
    };
    let (old, has_given_back) = {
        let mut known = feed.known(reader.py());
        (known.waiter.take(), known.limit.is_none())
    };
    drop(old);
    if has_given_back {
        let py = reader.py();
        reader.setattr(intern!(py, "_waiter"), py.None())?;
    }
    Ok(())
}

/// What a reader of ours knows, and whether it has attributes beside, which may stand before a method.
///
/// None if it is a reader that no transport has been given.
///
/// # Errors
/// `AttributeError` if it can have no attributes.
#[inline]
pub(super) fn feed_of<'py>(
    reader: &Bound<'py, PyAny>,
) -> PyResult<Option<(Bound<'py, PyAny>, Fields<'py>)>> {
    let fields = Fields::of(reader)?;
    let found = fields.find_at(attribute!("_cloverleaf"))?;
    Ok(found
        .filter(|feed| Feed::of(feed).is_some())
        .map(|feed| (feed, fields)))
}

/// Makes the type.
///
/// # Errors
/// What making a type raises.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    CLASS.create::<Feed>(&py.get_type::<PyAny>()).map(drop)
}
