//! What a Rust program's loop runs: calls, polls, and what other threads ask for.
//!
//! A job crosses threads, so what may not cross them stays in the loop, and the job holds its token. A token whose
//! call was cancelled, or whose task has ended, names nothing, and its job does nothing.

use std::fmt;
use std::task::Waker;

use super::EventLoop;
use crate::driver::Token;

/// A closure of the loop's own thread.
pub(super) type LocalCall = Box<dyn FnOnce(&EventLoop)>;

/// A closure from any thread.
pub(super) type RemoteCall = Box<dyn FnOnce(&EventLoop) + Send>;

/// One entry of the ready queue.
pub(super) enum Job {
    /// A call that the loop keeps.
    Call(Token),
    /// A call from another thread.
    Remote(RemoteCall),
    /// A task that may go on.
    Poll(Token),
    /// The future that `run_until_complete` was given may go on.
    Main,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(token) => f.debug_tuple("Call").field(token).finish(),
            Self::Remote(_) => f.write_str("Remote(..)"),
            Self::Poll(token) => f.debug_tuple("Poll").field(token).finish(),
            Self::Main => f.write_str("Main"),
        }
    }
}

/// What a call does when its turn comes.
pub(super) enum Call {
    /// Runs a closure.
    Run(LocalCall),
    /// Wakes a future.
    Wake(Waker),
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(_) => f.write_str("Run(..)"),
            Self::Wake(waker) => f.debug_tuple("Wake").field(waker).finish(),
        }
    }
}
