//! What an event reaches: a user's callbacks for a descriptor, or an object with the function that serves it.

use std::os::fd::RawFd;

use cloverleaf::Interest;
use pyo3::prelude::*;

use crate::ffi::{Owned, Reach, Visitor};

/// Serves one event of an object, on the loop's thread, with nothing borrowed.
pub(crate) type Serve = fn(&Bound<'_, PyAny>, Interest) -> PyResult<()>;

/// Who hears of a descriptor's readiness.
#[derive(Debug)]
pub(crate) enum Source {
    /// The handles of `add_reader` and `add_writer`.
    Watch(Watch),
    /// A transport or a listener.
    Served(Hold, Serve),
}

/// How an object is held.
#[derive(Debug)]
pub(crate) enum Hold {
    /// It hears of something, and lives at least until it no longer does.
    Strong(Owned),
    /// It hears of nothing at present, and lives for as long as somebody else wants it: a `weakref.ref`.
    Weak(Owned),
}

impl Hold {
    /// The object, as long as it lives.
    ///
    /// # Errors
    /// What calling a weak reference raises.
    pub(crate) fn object(self, py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
        match self {
            Self::Strong(object) => Ok(Some(object.into_bound(py))),
            Self::Weak(reference) => {
                Ok(Some(reference.bind(py).invoke0()?).filter(|object| !object.is_none()))
            }
        }
    }

    /// One more hold of the same kind.
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Strong(object) => Self::Strong(object.clone_ref(py)),
            Self::Weak(reference) => Self::Weak(reference.clone_ref(py)),
        }
    }
}

/// A user's callbacks for one descriptor, which stays the user's.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The descriptor's number when it was registered.
    pub(crate) fd: RawFd,
    /// The object that it was given as, if not as a number: it names the registration also when it is closed.
    pub(crate) file: Option<Owned>,
    /// What runs when it can be read.
    pub(crate) reader: Option<Owned>,
    /// What runs when it can be written.
    pub(crate) writer: Option<Owned>,
}

impl Watch {
    /// What the callbacks want to hear of.
    pub(crate) const fn interest(&self) -> Interest {
        let read = if self.reader.is_some() {
            Interest::READ
        } else {
            Interest::NONE
        };
        let write = if self.writer.is_some() {
            Interest::WRITE
        } else {
            Interest::NONE
        };
        read.with(write)
    }

    /// The place of the callback for one direction.
    pub(crate) fn slot(&mut self, direction: Direction) -> &mut Option<Owned> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }
}

/// Reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Reading.
    Read,
    /// Writing.
    Write,
}

impl Direction {
    /// The interest in this direction alone.
    pub(crate) const fn interest(self) -> Interest {
        match self {
            Self::Read => Interest::READ,
            Self::Write => Interest::WRITE,
        }
    }
}

impl Source {
    /// Shows the collector every object that is held.
    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        match self {
            Self::Watch(watch) => {
                for object in watch.reader.iter().chain(&watch.writer).chain(&watch.file) {
                    visitor.object(object);
                }
            }
            Self::Served(Hold::Strong(object) | Hold::Weak(object), _) => visitor.object(object),
        }
    }
}
