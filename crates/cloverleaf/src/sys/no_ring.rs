//! What stands for a ring on an architecture for which nobody has written down `io_uring(7)`: there is none.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::Errno;

/// What a value asks of the kernel.
#[expect(dead_code, reason = "nobody takes it here")]
pub(crate) enum Request<'a> {
    /// `pread(2)`.
    Read {
        fd: BorrowedFd<'a>,
        buffer: &'a mut [u8],
        offset: u64,
    },
    /// `pwrite(2)`.
    Write {
        fd: BorrowedFd<'a>,
        buffer: &'a [u8],
        offset: u64,
    },
    /// `fsync(2)`.
    Sync { fd: BorrowedFd<'a> },
}

/// A value that a ring could take.
pub(crate) trait Ask: Send + 'static {
    /// The request.
    #[expect(dead_code, reason = "nobody asks for it here")]
    fn request(&mut self) -> Request<'_>;

    /// Hears of the answer.
    #[expect(dead_code, reason = "nobody answers here")]
    fn note(&self, _result: &Result<usize, Errno>) {}
}

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
