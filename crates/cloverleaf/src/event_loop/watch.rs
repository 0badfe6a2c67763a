//! A descriptor that futures wait for.
//!
//! It is registered when a future first waits for it, with the loop that polls that future. The driver is asked about
//! a direction while somebody waits for it; that nobody does any more is told to the driver only when an event arrives
//! that nobody wanted, so a connection that is read in a loop costs no system call besides its reads.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use super::core::Core;
use super::current::try_current;
use super::timer::yield_now;
use crate::driver::{Interest, Token};
use crate::limits::OPERATIONS_PER_TURN;

/// Which readiness a future waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Data, a connection, an end.
    Read,
    /// Room.
    Write,
}

impl Direction {
    pub(super) const fn interest(self) -> Interest {
        match self {
            Self::Read => Interest::READ,
            Self::Write => Interest::WRITE,
        }
    }
}

/// A descriptor, closed when dropped and when no operation on it is under way.
#[derive(Debug)]
pub(crate) struct Watched {
    fd: Rc<OwnedFd>,
    registration: RefCell<Option<(Weak<Core>, Token)>>,
    /// The turn of the last operation, and how many there were in it.
    spent: Cell<(u64, usize)>,
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Watched {
    /// Watches a descriptor, which must be non-blocking, or never block.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd: Rc::new(fd),
            registration: RefCell::new(None),
            spent: Cell::new((0, 0)),
        }
    }

    /// Takes the descriptor back.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.forget_registration();
        let fd = Rc::clone(&self.fd);
        drop(self);
        Rc::into_inner(fd).expect("invariant: only the watch and its registration share it")
    }

    /// Makes an attempt, and as long as it would block, waits and makes it again.
    pub(crate) async fn attempt<R>(
        &self,
        direction: Direction,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<R>,
    ) -> io::Result<R> {
        self.begin().await;
        loop {
            match attempt(self.as_fd()) {
                Err(rustix::io::Errno::AGAIN) => self.ready(direction).await?,
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Counts an operation, and lets others run first if this descriptor has had its share of the turn.
    pub(crate) async fn begin(&self) {
        if self.is_spent() {
            yield_now().await;
        }
    }

    /// Waits until the descriptor is ready.
    pub(crate) fn ready(&self, direction: Direction) -> Ready<'_> {
        Ready {
            watched: self,
            direction,
            waiter: None,
        }
    }

    /// Counts an operation; `true` if this turn has seen enough of them on this descriptor.
    fn is_spent(&self) -> bool {
        let Some(core) = try_current() else {
            return false;
        };
        let (turn, count) = self.spent.get();
        let count = if turn == core.turn() { count + 1 } else { 1 };
        self.spent.set((core.turn(), count));
        count > OPERATIONS_PER_TURN
    }

    /// The registration with the loop that runs now.
    fn registered(&self) -> io::Result<(Rc<Core>, Token)> {
        let core =
            try_current().ok_or_else(|| io::Error::other("no event loop runs in this thread"))?;
        if let Some((its_core, token)) = &*self.registration.borrow()
            && core.is(its_core)
        {
            return Ok((core, *token));
        }
        self.forget_registration();
        let token = core.watch(Rc::clone(&self.fd));
        self.registration
            .replace(Some((Rc::downgrade(&core), token)));
        Ok((core, token))
    }

    fn forget_registration(&self) {
        if let Some((core, token)) = self.registration.take()
            && let Some(core) = core.upgrade()
        {
            core.unwatch(token);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.forget_registration();
    }
}

/// Ends when its descriptor is ready.
#[derive(Debug)]
pub(crate) struct Ready<'a> {
    watched: &'a Watched,
    direction: Direction,
    waiter: Option<(Weak<Core>, Token, u64)>,
}

impl Future for Ready<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some((core, token, waiter)) = &self.waiter {
            let Some(core) = core.upgrade() else {
                return Poll::Ready(Err(io::Error::other("the event loop was closed")));
            };
            if core.rewait(*token, *waiter, cx.waker()) {
                return Poll::Pending;
            }
            self.waiter = None;
            return Poll::Ready(Ok(()));
        }
        let (core, token) = self.watched.registered()?;
        let waiter = core.wait_for(token, self.direction, cx.waker().clone())?;
        self.waiter = Some((Rc::downgrade(&core), token, waiter));
        Poll::Pending
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        if let Some((core, token, waiter)) = self.waiter.take()
            && let Some(core) = core.upgrade()
        {
            drop(core.stop_waiting(token, waiter));
        }
    }
}
