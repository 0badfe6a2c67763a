//! What a socket has taken and its peer has not acknowledged.
#![expect(unsafe_code, reason = "libc's call takes a pointer")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel's count for `SIOCOUTQ` (`tcp(7)`, `unix(7)`), whose number is that of `TIOCOUTQ`.
///
/// # Errors
/// What the kernel says of a descriptor that has no such count.
pub(crate) fn outgoing(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: the descriptor is open, and the pointer is to room for the one `int` that the request writes.
    let failed = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if failed == 0 {
        Ok(usize::try_from(count).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}
