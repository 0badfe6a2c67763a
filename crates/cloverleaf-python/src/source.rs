//! What an event reaches: whoever watches a user's descriptor, or an object with the function that serves it.

use std::os::fd::RawFd;

use cloverleaf::Interest;
use pyo3::prelude::*;

use crate::ffi::{Owned, Reach, Visitor};

/// Serves one event of an object, on the loop's thread, with nothing borrowed.
pub(crate) type Serve = fn(&Bound<'_, PyAny>, Interest) -> PyResult<()>;

/// Who hears of a descriptor's readiness.
#[derive(Debug)]
pub(crate) enum Source {
    /// The handles of `add_reader` and `add_writer`, and who waits for a socket; boxed, so that the others are small.
    Watch(Box<Watch>),
    /// A transport or a listener.
    Served(Hold, Serve),
}

/// Those of many connections lie side by side, and each turn looks all over them.
const _: () = assert!(size_of::<Option<Source>>() <= 24, "a source is small");

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

/// Who wants to hear of one direction of a descriptor that stays the user's.
#[derive(Debug)]
pub(crate) enum Party {
    /// The handle of a callback, which runs whenever the descriptor is ready.
    Handle(Owned),
    /// A future that is done once the descriptor is ready, and whether that has been heard.
    Waiter(Owned, bool),
}

/// Who wants to hear of one descriptor, which stays the user's.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The descriptor's number when it was registered.
    pub(crate) fd: RawFd,
    /// The object that a callback's descriptor was given as, if not as a number: it names the registration also when it
    /// is closed.
    pub(crate) file: Option<Owned>,
    /// Who hears when it can be read.
    pub(crate) reader: Option<Party>,
    /// Who hears when it can be written.
    pub(crate) writer: Option<Party>,
    /// What the driver was told.
    pub(crate) told: Interest,
    /// The `weakref.ref` of the socket that was registered, if it was registered for a waiter: a socket has only one
    /// such reference, and no other socket ever gets the same, so it tells a socket from one that took its number over.
    pub(crate) socket: Option<Owned>,
}

impl Watch {
    /// What the driver must be told.
    ///
    /// A callback hears of readiness for as long as it lasts. Waiters alone need to hear of it only when it comes, as
    /// they wait only when they have found that the descriptor would block; so what was registered for them can stay
    /// registered for the next ones, and costs nothing meanwhile.
    pub(crate) fn wanted(&self) -> Interest {
        let mut handles = Interest::NONE;
        let mut waiters = Interest::NONE;
        let parties = [
            (&self.reader, Interest::READ),
            (&self.writer, Interest::WRITE),
        ];
        for (party, direction) in parties {
            match party {
                Some(Party::Handle(_)) => handles = handles.with(direction),
                Some(Party::Waiter(..)) => waiters = waiters.with(direction),
                None => {}
            }
        }
        if !handles.is_none() {
            return handles.with(waiters);
        }
        let kept = if self.told.contains(Interest::EDGES) {
            self.told
        } else {
            Interest::NONE
        };
        let wanted = waiters.with(kept);
        if wanted.is_none() {
            wanted
        } else {
            wanted.with(Interest::EDGES)
        }
    }

    /// Whether a callback hears of the descriptor.
    pub(crate) const fn has_handle(&self) -> bool {
        matches!(self.reader, Some(Party::Handle(_)))
            || matches!(self.writer, Some(Party::Handle(_)))
    }

    /// The place of the party for one direction.
    pub(crate) fn slot(&mut self, direction: Direction) -> &mut Option<Party> {
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
                for party in watch.reader.iter().chain(&watch.writer) {
                    let (Party::Handle(object) | Party::Waiter(object, _)) = party;
                    visitor.object(object);
                }
                for object in watch.socket.iter().chain(&watch.file) {
                    visitor.object(object);
                }
            }
            Self::Served(Hold::Strong(object) | Hold::Weak(object), _) => visitor.object(object),
        }
    }
}
