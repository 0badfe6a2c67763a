//! Readiness by `epoll(7)`, level-triggered, and an eventfd that ends its sleep.
//!
//! Level-triggered, because a short receive ends a source's reading without asking the kernel again for "would
//! block"; measured, it costs no more than edges do, and it cannot lose one. Edge-triggered for whoever asks for
//! [`Interest::EDGES`]: a registration that outlasts one wait, and costs nothing between two.
//!
//! In a forked child every change fails with `EBADF`: the child shares the kernel's list with its parent, whose
//! registrations it must not touch.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Wake, Waker};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::{Driver, Event, Interest, Op, Token};
use crate::error::ignore;
use crate::limits::{EVENTS_PER_WAIT, LONGEST_SLEEP_SECS};
use crate::sys::{KernelEvent, epoll_wait, forks, system_call};

/// No registration has this slot: the name of the eventfd.
const WAKE: u64 = Token::new(u32::MAX, 0).to_bits();

/// Likewise, the name of a ring.
const RING: u64 = Token::new(u32::MAX, 1).to_bits();

/// The readiness driver.
pub struct Epoll {
    /// None once the driver is closed.
    poll: Option<OwnedFd>,
    wakeup: Arc<Wakeup>,
    /// How often the process had forked when the driver was made.
    forks: u32,
    buffer: Vec<KernelEvent>,
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll")
            .field("poll", &self.poll)
            .field("wakeup", &self.wakeup)
            .finish_non_exhaustive()
    }
}

/// The eventfd, which other threads' wakers share; the lock lets it be closed before the last of them has gone.
///
/// A thread may have the lock when the process forks, and is not there in the child to let go of it. So in a child
/// nobody waits for it.
#[derive(Debug)]
struct Wakeup {
    fd: Mutex<Option<OwnedFd>>,
    /// How often the process had forked when it was made.
    forks: u32,
}

impl Wakeup {
    /// The eventfd, unless closed; in a forked child `None` if a thread of the parent was using it.
    fn fd(&self) -> Option<MutexGuard<'_, Option<OwnedFd>>> {
        if self.forks == forks() {
            return Some(self.fd.lock().unwrap_or_else(PoisonError::into_inner));
        }
        match self.fd.try_lock() {
            Ok(fd) => Some(fd),
            Err(TryLockError::Poisoned(fd)) => Some(fd.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.forks != forks() {
            // The sleep that it could end is the parent's.
            return;
        }
        if let Some(fd) = self.fd().as_deref().and_then(Option::as_ref) {
            // The one way to fail is a full counter (EAGAIN), and a full counter wakes as well.
            ignore(system_call(|| rustix::io::write(fd, &1_u64.to_ne_bytes())));
        }
    }
}

impl Epoll {
    /// A driver with nothing registered.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered: each write is one event, and nobody needs to read the counter, which 64 bits keep from
        // filling up.
        let told = EventFlags::IN | EventFlags::ET;
        epoll::add(&poll, &wakeup, EventData::new_u64(WAKE), told)?;
        Ok(Self {
            poll: Some(poll),
            wakeup: Arc::new(Wakeup {
                fd: Mutex::new(Some(wakeup)),
                forks: forks(),
            }),
            forks: forks(),
            buffer: Vec::with_capacity(EVENTS_PER_WAIT),
        })
    }

    /// Closes the driver's descriptors, although wakers may still be about; they do nothing from now on.
    ///
    /// Whatever else is asked of a closed driver fails with `EBADF`.
    pub fn close(&mut self) {
        self.poll = None;
        drop(self.wakeup.fd().and_then(|mut fd| fd.take()));
        self.buffer = Vec::new();
    }

    /// Whether this is a forked child of the process that made the driver.
    pub fn is_forked(&self) -> bool {
        self.forks != forks()
    }

    /// The epoll, unless it is closed or belongs to the process that this one was forked from.
    fn poll(&self) -> Result<BorrowedFd<'_>, Errno> {
        let poll = self.poll.as_ref().filter(|_| !self.is_forked());
        poll.map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// The descriptor that can be read while something is there for the next wait.
    ///
    /// # Errors
    /// `EBADF` if the driver is closed, and in a forked child.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.poll()?)
    }

    /// Ends a wait whenever the descriptor of a ring can be read. Whoever has the ring looks into it after each wait, so
    /// no event says so; and what closes goes by itself.
    pub(super) fn watch_ring(&self, ring: BorrowedFd<'_>) -> Result<(), Errno> {
        epoll::add(self.poll()?, ring, EventData::new_u64(RING), EventFlags::IN)
    }
}

fn flags(interest: Interest) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, interest.contains(Interest::READ));
    flags.set(EventFlags::OUT, interest.contains(Interest::WRITE));
    flags.set(EventFlags::ET, interest.contains(Interest::EDGES));
    flags
}

/// What the kernel said; an error or a hang-up makes both directions worth trying, as `select(2)` has it.
fn readiness(flags: EventFlags) -> Interest {
    let closed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
    let mut interest = if closed {
        Interest::BOTH.with(Interest::CLOSED)
    } else {
        Interest::NONE
    };
    if flags.contains(EventFlags::IN) {
        interest = interest.with(Interest::READ);
    }
    if flags.contains(EventFlags::OUT) {
        interest = interest.with(Interest::WRITE);
    }
    interest
}

impl Driver for Epoll {
    fn register(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
        let (poll, data) = (self.poll()?, EventData::new_u64(token.to_bits()));
        Ok(system_call(|| epoll::add(poll, fd, data, flags(interest)))?)
    }

    fn modify(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
        let (poll, data) = (self.poll()?, EventData::new_u64(token.to_bits()));
        Ok(system_call(|| {
            epoll::modify(poll, fd, data, flags(interest))
        })?)
    }

    fn deregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let poll = self.poll()?;
        Ok(system_call(|| epoll::delete(poll, fd))?)
    }

    fn submit(&mut self, op: Op, _token: Token) -> Result<(), Op> {
        Err(op)
    }

    fn cancel(&mut self, _token: Token) {}

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| timeout.min(Duration::from_secs(LONGEST_SLEEP_SECS)));
        let poll = self.poll.as_ref().filter(|_| !self.is_forked());
        let poll = poll.ok_or(Errno::BADF)?;
        match epoll_wait(poll.as_fd(), &mut self.buffer, timeout) {
            Ok(()) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in self.buffer.drain(..) {
            match event.u64 {
                // These have ended the sleep, and that is all.
                WAKE | RING => {}
                bits => events.push(Event::Ready(
                    Token::from_bits(bits),
                    readiness(EventFlags::from_bits_retain(event.events)),
                )),
            }
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        Arc::clone(&self.wakeup).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_does_not_wait_for_a_thread_of_its_parent_that_was_waking_the_loop() {
        let mut epoll = Epoll::new().expect("descriptors");
        let wakeup = epoll.wakeup.fd().and_then(|mut fd| fd.take());
        let of_the_parent = Arc::new(Wakeup {
            fd: Mutex::new(wakeup),
            forks: forks().wrapping_sub(1),
        });
        epoll.wakeup = Arc::clone(&of_the_parent);
        let in_use = of_the_parent.fd.lock().expect("no panic");
        epoll.waker().wake();
        epoll.close();
        assert!(in_use.is_some(), "closed under its user");
    }

    #[test]
    fn a_closed_driver_refuses_everything_but_to_be_woken() {
        let mut epoll = Epoll::new().expect("descriptors");
        let waker = epoll.waker();
        let (reading, _writing) = rustix::pipe::pipe().expect("descriptors");
        epoll.close();
        waker.wake();
        let token = Token::from_bits(0);
        let refused = [
            epoll.register(reading.as_fd(), token, Interest::READ),
            epoll.modify(reading.as_fd(), token, Interest::READ),
            epoll.deregister(reading.as_fd()),
            epoll.wait(&mut Vec::new(), Some(Duration::ZERO)),
        ];
        for result in refused {
            assert_eq!(
                Errno::from_io_error(&result.expect_err("closed")),
                Some(Errno::BADF)
            );
        }
    }
}
