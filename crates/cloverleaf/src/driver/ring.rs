//! Operations through a ring of `io_uring(7)`, which is made when the first of them comes.
//!
//! What is submitted in one turn goes to the kernel in one call, at the wait that ends the turn; what the page cache
//! has is answered within that call. A refusal is kept, and never asked for again; one that comes later, with operations
//! under way, gives back those that the kernel has not taken.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;

use super::backend::{Backend, InUse, Refusal};
use super::{Completion, Event, Op, Token};
use crate::error::ignore;
use crate::limits::RING_GRACE_MS;
use crate::sys::{self, Ask, Request};

/// An operation, and who is told of its end.
#[derive(Debug)]
pub(super) struct InFlight {
    op: Op,
    token: Token,
}

impl Ask for InFlight {
    fn request(&mut self) -> Request<'_> {
        match &mut self.op {
            Op::Read {
                fd,
                buffer,
                start,
                offset,
            } => Request::Read {
                fd: (**fd).as_fd(),
                buffer: buffer.get_mut(*start..).unwrap_or_default(),
                offset: *offset,
            },
            Op::Write {
                fd,
                buffer,
                start,
                offset,
                ..
            } => Request::Write {
                fd: (**fd).as_fd(),
                buffer: buffer.get(*start..).unwrap_or_default(),
                offset: *offset,
            },
            Op::Sync { fd } => Request::Sync { fd: (**fd).as_fd() },
        }
    }

    fn note(&self, result: &Result<usize, Errno>) {
        if let (
            Op::Write {
                note: Some(note), ..
            },
            Ok(count),
        ) = (&self.op, result)
        {
            note.set(*count);
        }
    }
}

/// A ring that there may be.
#[derive(Debug)]
pub(super) enum Ring {
    /// Nobody wants one.
    Unwanted,
    /// Nobody has needed one yet.
    Untried,
    /// The kernel does not allow one.
    Refused(Refusal),
    /// There is one.
    Made(Box<sys::Ring<InFlight>>),
    /// The driver is closed; what it used is known still.
    Closed(InUse),
}

impl Ring {
    /// Whether there is to be one. What has been tried stays as it is.
    pub(super) fn choose(&mut self, backend: Backend) {
        if matches!(self, Self::Unwanted | Self::Untried) {
            *self = match backend {
                Backend::Epoll => Self::Unwanted,
                Backend::Auto | Backend::IoUring => Self::Untried,
            };
        }
    }

    /// Makes the ring unless that has been tried before, and lets `watch` watch its descriptor.
    pub(super) fn make(&mut self, watch: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>) {
        if !matches!(self, Self::Untried) {
            return;
        }
        let made = sys::Ring::new().and_then(|ring| watch(ring.fd()).map(|()| ring));
        *self = match made {
            Ok(ring) => Self::Made(Box::new(ring)),
            Err(error) => Self::Refused(Refusal::new(error)),
        };
    }

    /// What this comes to, once it has been tried.
    pub(super) fn in_use(&self) -> InUse {
        match self {
            Self::Unwanted | Self::Untried => InUse::Epoll,
            Self::Refused(refusal) => InUse::RingRefused(*refusal),
            Self::Made(ring) => ring.refused().map_or(InUse::EpollAndRing, |why| {
                InUse::RingRefused(Refusal::new(why))
            }),
            Self::Closed(in_use) => *in_use,
        }
    }

    /// Whether there is one.
    pub(super) const fn is_made(&self) -> bool {
        matches!(self, Self::Made(_))
    }

    /// How many operations have not ended.
    pub(super) fn in_flight(&self) -> usize {
        match self {
            Self::Made(ring) => ring.in_flight(),
            _ => 0,
        }
    }

    pub(super) fn submit(&mut self, op: Op, token: Token) -> Result<(), Op> {
        let Self::Made(ring) = self else {
            return Err(op);
        };
        if let Op::Read { offset, .. } | Op::Write { offset, .. } = &op
            && i64::try_from(*offset).is_err()
        {
            // A ring would take -1 for "where the file stands".
            return Err(op);
        }
        ring.start(InFlight { op, token }, token.to_bits())
            .map_err(|refused| refused.op)
    }

    pub(super) fn cancel(&mut self, token: Token) {
        if let Self::Made(ring) = self {
            ring.cancel(token.to_bits());
        }
    }

    /// Hands what was submitted to the kernel; `false` if that must be tried again, or there are ends to be reaped.
    pub(super) fn flush(&mut self) -> bool {
        match self {
            Self::Made(ring) => ring.flush(),
            _ => true,
        }
    }

    /// Appends the end of every operation that has ended.
    pub(super) fn reap(&mut self, events: &mut Vec<Event>) {
        if let Self::Made(ring) = self {
            ring.reap(|InFlight { op, token }, result| {
                let result = result.map_err(Into::into);
                events.push(Event::Done(token, Completion { op, result }));
            });
        }
    }

    /// Gives the ring back. What is in flight is cancelled and waited for, a moment here and as long as it takes in a
    /// thread: its memory stays until the kernel has let go of it.
    pub(super) fn close(&mut self) {
        let closed = Self::Closed(self.in_use());
        let Self::Made(mut ring) = std::mem::replace(self, closed) else {
            return;
        };
        if !matches!(
            ring.finish(Some(Duration::from_millis(RING_GRACE_MS))),
            Ok(true)
        ) {
            let last = std::thread::Builder::new()
                .name("cloverleaf-ring".into())
                .spawn(move || drop(ring));
            // Without a thread the closure is dropped here, and the ring with it, which waits.
            ignore(last);
        }
    }
}
