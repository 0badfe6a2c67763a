//! Socket options that are one `int`, whichever they are: a program names them by numbers.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// What an option is set to.
///
/// # Errors
/// The kernel's refusal (`getsockopt(2)`).
pub(crate) fn socket_option(
    fd: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
) -> Result<c_int, Errno> {
    let mut value: c_int = 0;
    let mut size = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes to `value`, and how many there were to `size`.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast::<c_void>(),
            &raw mut size,
        )
    };
    if answer < 0 {
        return Err(last_errno());
    }
    Ok(value)
}

/// Sets an option.
///
/// # Errors
/// The kernel's refusal (`setsockopt(2)`).
pub(crate) fn set_socket_option(
    fd: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: c_int,
) -> Result<(), Errno> {
    let size = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
    // SAFETY: the kernel reads `size` bytes of `value`.
    let answer = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast::<c_void>(),
            size,
        )
    };
    if answer < 0 {
        return Err(last_errno());
    }
    Ok(())
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
