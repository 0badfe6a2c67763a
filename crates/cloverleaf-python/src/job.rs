//! One entry of the ready queue.

use std::os::fd::RawFd;

use cloverleaf::{Completion, Interest, TimerKey, Token};
use pyo3::prelude::*;

use crate::ffi::{BareCall, Owned, Posted};

/// What the loop does next.
#[derive(Debug)]
pub(crate) enum Job {
    /// Run the callback of a handle.
    Callback(Owned),
    /// Make a call that has no handle any more, or never had one.
    Call(BareCall),
    /// Tell a source that it is ready.
    Io(Token, Interest),
    /// Do what another extension asks for.
    Posted(Posted),
    /// Do something that is not a user's callback; boxed, so that every other job is small.
    Internal(Box<Internal>),
}

/// A queue may have a hundred thousand.
const _: () = assert!(size_of::<Job>() <= 32, "a job is small");

impl Job {
    /// Something that the loop does for itself.
    pub(crate) fn internal(what: Internal) -> Self {
        Self::Internal(Box::new(what))
    }
}

/// What the loop does for itself.
pub(crate) enum Internal {
    /// Cancel a timer, for a thread that is not the loop's.
    CancelTimer(TimerKey),
    /// End the run after this turn, for a thread that is not the loop's.
    Stop,
    /// Take a source from the registry, for a thread that is not the loop's.
    RemoveSource(RawFd, Token),
    /// Tell who waits for an operation that it has ended.
    Ended(Owned, Completion),
    /// Whatever else must happen on the loop's thread: the end of a blocking call, a transport's next step.
    Call(Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>),
}

impl std::fmt::Debug for Internal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CancelTimer(key) => f.debug_tuple("CancelTimer").field(key).finish(),
            Self::Stop => f.write_str("Stop"),
            Self::RemoveSource(fd, token) => f
                .debug_tuple("RemoveSource")
                .field(fd)
                .field(token)
                .finish(),
            Self::Ended(..) => f.write_str("Ended(..)"),
            Self::Call(_) => f.write_str("Call(..)"),
        }
    }
}
