//! One driver of those there are, chosen when a loop is made: a wheel for every kernel in one build.

use std::io;
use std::os::fd::BorrowedFd;
use std::task::Waker;
use std::time::Duration;

use super::{Driver, Epoll, Event, FakeDriver, Hybrid, InUse, Interest, Op, Token};

/// Any of the drivers.
#[derive(Debug)]
pub enum AnyDriver {
    /// Readiness, by epoll.
    Epoll(Epoll),
    /// Readiness by epoll, and operations through a ring.
    Hybrid(Hybrid),
    /// A script, for tests.
    Fake(FakeDriver),
}

impl From<Epoll> for AnyDriver {
    fn from(driver: Epoll) -> Self {
        Self::Epoll(driver)
    }
}

impl From<Hybrid> for AnyDriver {
    fn from(driver: Hybrid) -> Self {
        Self::Hybrid(driver)
    }
}

impl From<FakeDriver> for AnyDriver {
    fn from(driver: FakeDriver) -> Self {
        Self::Fake(driver)
    }
}

impl AnyDriver {
    /// Closes the driver's descriptors, although wakers may still be about.
    pub fn close(&mut self) {
        match self {
            Self::Epoll(driver) => driver.close(),
            Self::Hybrid(driver) => driver.close(),
            // It has none.
            Self::Fake(_) => {}
        }
    }

    /// Which interfaces of the kernel the driver uses, if it uses any; see [`Hybrid::in_use`].
    pub fn in_use(&mut self) -> Option<InUse> {
        match self {
            Self::Epoll(_) => Some(InUse::Epoll),
            Self::Hybrid(driver) => Some(driver.in_use()),
            Self::Fake(_) => None,
        }
    }

    fn get(&self) -> &dyn Driver {
        match self {
            Self::Epoll(driver) => driver,
            Self::Hybrid(driver) => driver,
            Self::Fake(driver) => driver,
        }
    }

    fn get_mut(&mut self) -> &mut dyn Driver {
        match self {
            Self::Epoll(driver) => driver,
            Self::Hybrid(driver) => driver,
            Self::Fake(driver) => driver,
        }
    }
}

impl Driver for AnyDriver {
    fn register(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
        self.get_mut().register(fd, token, interest)
    }

    fn modify(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
        self.get_mut().modify(fd, token, interest)
    }

    fn deregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.get_mut().deregister(fd)
    }

    fn submit(&mut self, op: Op, token: Token) -> Result<(), Op> {
        self.get_mut().submit(op, token)
    }

    fn cancel(&mut self, token: Token) {
        self.get_mut().cancel(token);
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        self.get_mut().wait(events, timeout)
    }

    fn waker(&self) -> Waker {
        self.get().waker()
    }
}
