//! One entry of the ready queue.

use std::os::fd::RawFd;

use cloverleaf::{Completion, Interest, TimerKey, Token};
use pyo3::prelude::*;

use crate::ffi::{BareCall, Owned, Posted, Shown, Visitor};

/// What the loop does next.
pub(crate) enum Job {
    /// Run the callback of a handle.
    Callback(Owned),
    /// Make a call that has no handle any more, or never had one.
    Call(BareCall),
    /// Tell a source that it is ready.
    Io(Token, Interest),
    /// Do what another extension asks for.
    Posted(Posted),
    /// Whatever else must happen on the loop's thread: the end of a blocking call, a transport's next step.
    Step(Box<dyn Step>),
    /// Do something that is not a user's callback; boxed, so that every other job is small.
    Internal(Box<Internal>),
}

/// What a loop does for itself, once.
pub(crate) trait Step: Send {
    /// Does it.
    fn run(self: Box<Self>, py: Python<'_>) -> PyResult<()>;

    /// Shows the collector what it holds until then.
    fn traverse(&self, visitor: &mut Visitor);
}

/// A call, and the objects that it is made with: the collector must find them in a loop that never makes it.
struct Call<H, F> {
    held: H,
    call: F,
}

impl<H, F> Step for Call<H, F>
where
    H: Shown + Send,
    F: FnOnce(Python<'_>, H) -> PyResult<()> + Send,
{
    fn run(self: Box<Self>, py: Python<'_>) -> PyResult<()> {
        (self.call)(py, self.held)
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.held.show(visitor);
    }
}

/// A queue may have a hundred thousand.
const _: () = assert!(size_of::<Job>() <= 32, "a job is small");

impl Job {
    /// Something that the loop does for itself, with these objects.
    pub(crate) fn step<H, F>(held: H, call: F) -> Self
    where
        H: Shown + Send + 'static,
        F: FnOnce(Python<'_>, H) -> PyResult<()> + Send + 'static,
    {
        Self::Step(Box::new(Call { held, call }))
    }

    /// Something that the loop does for itself.
    pub(crate) fn internal(what: Internal) -> Self {
        Self::Internal(Box::new(what))
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Callback(handle) => f.debug_tuple("Callback").field(handle).finish(),
            Self::Call(call) => f.debug_tuple("Call").field(call).finish(),
            Self::Io(token, heard) => f.debug_tuple("Io").field(token).field(heard).finish(),
            Self::Posted(posted) => f.debug_tuple("Posted").field(posted).finish(),
            Self::Step(_) => f.write_str("Step(..)"),
            Self::Internal(what) => f.debug_tuple("Internal").field(what).finish(),
        }
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
        }
    }
}
