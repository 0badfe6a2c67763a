//! What stands for a ring for small calls on an architecture for which nobody has written down `io_uring(7)`: there is none.

use std::convert::Infallible;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// No ring can be made, so there is none.
#[derive(Debug)]
pub(crate) struct SmallCalls(Infallible);

impl SmallCalls {
    /// Refuses.
    ///
    /// # Errors
    /// `ENOSYS`.
    pub(crate) fn new() -> Result<Self, Errno> {
        Err(Errno::NOSYS)
    }

    pub(crate) fn send(
        &mut self,
        _outgoing: &[(BorrowedFd<'_>, &[u8])],
        _answers: &mut Vec<std::io::Result<usize>>,
    ) -> Result<(), Errno> {
        match self.0 {}
    }

    pub(crate) fn receive(
        &mut self,
        _sockets: &[BorrowedFd<'_>],
        _rooms: &mut [u8],
        _answers: &mut Vec<std::io::Result<usize>>,
    ) -> Result<(), Errno> {
        match self.0 {}
    }
}
