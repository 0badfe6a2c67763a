//! What a ring is asked for, and by whom: the same where there is none.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// What a value asks of the kernel; the descriptor and the buffer are its own.
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

/// A value that a ring can take.
///
/// What [`request`](Self::request) borrows counts as borrowed until the request completes: the ring keeps the value,
/// unmoved, and neither it nor anybody else uses it meanwhile.
pub(crate) trait Ask: Send + 'static {
    /// The request; asked for again if the kernel drops it unanswered.
    fn request(&mut self) -> Request<'_>;

    /// Hears of the answer before anybody else does, and also when nobody else will.
    fn note(&self, _result: &Result<usize, Errno>) {}
}
