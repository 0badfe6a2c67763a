//! Readiness by epoll, and operations through a ring beside it where the kernel allows one.
//!
//! The loop sleeps in one place: epoll watches the ring's descriptor as it watches any other. Without a ring this
//! driver does what [`Epoll`] does, and gives every operation back.

use std::io;
use std::os::fd::BorrowedFd;
use std::task::Waker;
use std::time::Duration;

use rustix::io::Errno;

use super::backend::{Backend, InUse};
use super::ring::Ring;
use super::{Driver, Epoll, Event, Interest, Op, Token};
use crate::limits::RING_RETRY_MS;
use crate::sys::SmallCalls;

/// The driver of every loop that does not ask for another: epoll, and a ring once an operation needs it.
#[derive(Debug)]
pub struct Hybrid {
    /// Before the epoll that watches it.
    ring: Ring,
    small_calls: Batcher,
    epoll: Epoll,
}

/// A ring for the small calls of a turn, which there may be.
#[derive(Debug)]
enum Batcher {
    /// It is made when it is needed.
    Untried,
    /// Nobody has asked for it, or the kernel does not do it: they go one by one.
    Unwanted,
    Made(Box<SmallCalls>),
}

impl Hybrid {
    /// A driver with nothing registered.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM`, and if a ring is demanded, the error with which the kernel refuses it.
    pub fn new(backend: Backend) -> io::Result<Self> {
        let mut driver = Self {
            ring: Ring::Untried,
            small_calls: Batcher::Unwanted,
            epoll: Epoll::new()?,
        };
        driver.choose(backend)?;
        Ok(driver)
    }

    /// Says which interfaces the driver may use from now on; a ring that there is stays.
    ///
    /// # Errors
    /// If a ring is demanded, the error with which the kernel refuses it.
    pub fn choose(&mut self, backend: Backend) -> io::Result<()> {
        self.ring.choose(backend);
        self.small_calls = match backend {
            Backend::IoUring => Batcher::Untried,
            Backend::Auto | Backend::Epoll => Batcher::Unwanted,
        };
        if backend == Backend::IoUring
            && let InUse::RingRefused(refusal) = self.in_use()
        {
            return Err(io::Error::from_raw_os_error(refusal.raw_os_error()));
        }
        Ok(())
    }

    /// Which interfaces the driver uses; tries to make a ring if it may and has not yet.
    pub fn in_use(&mut self) -> InUse {
        let Self { ring, epoll, .. } = self;
        ring.make(|fd| epoll.watch_ring(fd));
        ring.in_use()
    }

    /// How many operations have not ended.
    pub fn in_flight(&self) -> usize {
        self.ring.in_flight()
    }

    /// Whether this is a forked child of the process that made the driver.
    pub fn is_forked(&self) -> bool {
        self.epoll.is_forked()
    }

    /// Whether [`send`](Self::send) and [`receive`](Self::receive) may do anything: only where [`Backend::IoUring`] was
    /// asked for.
    pub fn may_batch(&self) -> bool {
        !matches!(self.small_calls, Batcher::Unwanted)
    }

    /// Sends small pieces through many sockets in one call, each as far as its socket has room now, and appends the
    /// answers, in order. What has no answer was not tried, and must be sent otherwise. A closed peer is an error, never
    /// a `SIGPIPE`.
    pub fn send(
        &mut self,
        outgoing: &[(BorrowedFd<'_>, &[u8])],
        answers: &mut Vec<io::Result<usize>>,
    ) {
        self.batch(|calls| calls.send(outgoing, answers));
    }

    /// Receives what many sockets have now in one call, up to `limits::ROOM_BYTES` each, to the beginning of each
    /// `limits::ROOM_STRIDE_BYTES` of `rooms`, and appends the answers, in order. What has no answer was not tried.
    pub fn receive(
        &mut self,
        sockets: &[BorrowedFd<'_>],
        rooms: &mut [u8],
        answers: &mut Vec<io::Result<usize>>,
    ) {
        self.batch(|calls| calls.receive(sockets, rooms, answers));
    }

    /// Makes the ring if it is wanted, uses it, and does without it from then on if that fails.
    fn batch(&mut self, call: impl FnOnce(&mut SmallCalls) -> Result<(), Errno>) {
        if matches!(self.small_calls, Batcher::Untried) {
            self.small_calls =
                SmallCalls::new().map_or(Batcher::Unwanted, |calls| Batcher::Made(Box::new(calls)));
        }
        if let Batcher::Made(calls) = &mut self.small_calls
            && call(calls).is_err()
        {
            self.small_calls = Batcher::Unwanted;
        }
    }

    /// The descriptor that can be read while something is there for the next wait; that of epoll, which watches the ring's.
    ///
    /// # Errors
    /// `EBADF` if the driver is closed, and in a forked child.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.epoll.fd()
    }

    /// Hands the operations that were submitted to the kernel, as the next wait would; `false` if there must be a next one.
    pub fn hand_over(&mut self) -> bool {
        self.ring.flush()
    }

    /// Closes the driver's descriptors, although wakers may still be about. Operations in flight are cancelled, and
    /// their ends are not reported any more.
    pub fn close(&mut self) {
        self.ring.close();
        self.small_calls = Batcher::Unwanted;
        self.epoll.close();
    }
}

impl Drop for Hybrid {
    fn drop(&mut self) {
        self.close();
    }
}

impl Driver for Hybrid {
    fn register(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
        self.epoll.register(fd, token, interest)
    }

    fn modify(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
        self.epoll.modify(fd, token, interest)
    }

    fn deregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.epoll.deregister(fd)
    }

    fn submit(&mut self, op: Op, token: Token) -> Result<(), Op> {
        let Self { ring, epoll, .. } = self;
        ring.make(|fd| epoll.watch_ring(fd));
        ring.submit(op, token)
    }

    fn cancel(&mut self, token: Token) {
        self.ring.cancel(token);
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        if !self.ring.is_made() {
            return self.epoll.wait(events, timeout);
        }
        let before = events.len();
        self.ring.flush();
        self.ring.reap(events);
        // What had to be started anew, or found no room.
        let taken = self.ring.flush();
        let timeout = if events.len() > before {
            Some(Duration::ZERO)
        } else if taken {
            timeout
        } else {
            let retry = Duration::from_millis(RING_RETRY_MS);
            Some(timeout.map_or(retry, |timeout| timeout.min(retry)))
        };
        self.epoll.wait(events, timeout)?;
        // Also what only ends a cancellation, as the ring's descriptor stays readable until it is taken.
        self.ring.reap(events);
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.epoll.waker()
    }
}
