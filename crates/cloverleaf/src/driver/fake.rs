//! A driver that does what its script says, for tests of what stands above it.
//!
//! [`FakeKernel`] is the other end: a test makes descriptors ready, ends operations and looks at what was asked for.
//! Its clock moves by the whole timeout when a wait finds nothing to report, so a test of an hour takes no time.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::{Completion, Driver, Event, Interest, Op, Token};
use crate::clock::ManualClock;

/// A scripted driver.
#[derive(Debug)]
pub struct FakeDriver {
    kernel: FakeKernel,
}

/// The kernel of a [`FakeDriver`], in a test's hand; clones are the same kernel.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    state: Arc<Mutex<State>>,
    wakes: Arc<Wakes>,
    clock: ManualClock,
}

#[derive(Debug, Default)]
struct State {
    registered: HashMap<RawFd, (Token, Interest)>,
    ready: HashMap<RawFd, Interest>,
    script: VecDeque<Event>,
    in_flight: HashMap<Token, Op>,
}

#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl FakeKernel {
    /// A kernel with nothing registered, at the origin of its clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// A driver of this kernel.
    pub fn driver(&self) -> FakeDriver {
        FakeDriver {
            kernel: self.clone(),
        }
    }

    /// The clock that waits move.
    pub fn clock(&self) -> ManualClock {
        self.clock.clone()
    }

    /// Makes a descriptor ready until [`set_ready`](Self::set_ready) says otherwise.
    pub fn set_ready(&self, fd: RawFd, readiness: Interest) {
        self.state().ready.insert(fd, readiness);
    }

    /// Reports an event at the next wait, whether or not anything is registered under its token.
    pub fn report(&self, event: Event) {
        self.state().script.push_back(event);
    }

    /// Ends an operation in flight; `false` if there is none under this token.
    pub fn complete(&self, token: Token, result: io::Result<usize>) -> bool {
        let mut state = self.state();
        let Some(op) = state.in_flight.remove(&token) else {
            return false;
        };
        state
            .script
            .push_back(Event::Done(token, Completion { op, result }));
        true
    }

    /// What is registered for a descriptor.
    pub fn registration(&self, fd: RawFd) -> Option<(Token, Interest)> {
        self.state().registered.get(&fd).copied()
    }

    /// How many operations are in flight.
    pub fn in_flight(&self) -> usize {
        self.state().in_flight.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver for FakeDriver {
    fn register(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
        let mut state = self.kernel.state();
        if state.registered.contains_key(&fd.as_raw_fd()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.registered.insert(fd.as_raw_fd(), (token, interest));
        Ok(())
    }

    fn modify(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
        match self.kernel.state().registered.get_mut(&fd.as_raw_fd()) {
            Some(registration) => *registration = (token, interest),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(())
    }

    fn deregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        match self.kernel.state().registered.remove(&fd.as_raw_fd()) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn submit(&mut self, op: Op, token: Token) -> Result<(), Op> {
        self.kernel.state().in_flight.insert(token, op);
        Ok(())
    }

    fn cancel(&mut self, token: Token) {
        self.kernel
            .complete(token, Err(io::Error::from_raw_os_error(libc::ECANCELED)));
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let woken = self.kernel.wakes.0.swap(0, Ordering::AcqRel) > 0;
        let mut state = self.kernel.state();
        let before = events.len();
        events.extend(state.script.drain(..));
        for (fd, (token, interest)) in &state.registered {
            let ready = state.ready.get(fd).copied().unwrap_or_default();
            let heard = Interest::NONE
                .with(if interest.contains(Interest::READ) {
                    ready.only(Interest::READ)
                } else {
                    Interest::NONE
                })
                .with(if interest.contains(Interest::WRITE) {
                    ready.only(Interest::WRITE)
                } else {
                    Interest::NONE
                });
            if !heard.is_none() {
                events.push(Event::Ready(*token, heard));
            }
        }
        match timeout {
            Some(timeout) if events.len() == before && !woken => self.kernel.clock.advance(timeout),
            None if events.len() == before && !woken => {
                return Err(io::Error::other(
                    "the script is at its end and nothing would ever end this wait",
                ));
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        Arc::clone(&self.kernel.wakes).into()
    }
}

impl Interest {
    const fn only(self, other: Self) -> Self {
        self.without(Self::BOTH.with(Self::CLOSED).without(other))
    }
}
