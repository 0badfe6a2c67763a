//! What stands for a ring on an architecture for which nobody has written down `io_uring(7)`: there is none.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::Errno;

use super::ask::Ask;

/// No ring can be made, so there is none.
#[derive(Debug)]
pub(crate) struct Ring<T>(Infallible, PhantomData<T>);

impl<T: Ask> Ring<T> {
    /// Refuses.
    ///
    /// # Errors
    /// `ENOSYS`.
    pub(crate) fn new() -> Result<Self, Errno> {
        Err(Errno::NOSYS)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }

    pub(crate) fn refused(&self) -> Option<Errno> {
        match self.0 {}
    }

    pub(crate) fn in_flight(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn start(&mut self, _value: T, _tag: u64) -> Result<(), T> {
        match self.0 {}
    }

    pub(crate) fn cancel(&mut self, _tag: u64) {
        match self.0 {}
    }

    pub(crate) fn flush(&mut self) -> bool {
        match self.0 {}
    }

    pub(crate) fn reap(&mut self, _ended: impl FnMut(T, Result<usize, Errno>)) {
        match self.0 {}
    }

    pub(crate) fn finish(&mut self, _limit: Option<Duration>) -> Result<bool, Errno> {
        match self.0 {}
    }
}
