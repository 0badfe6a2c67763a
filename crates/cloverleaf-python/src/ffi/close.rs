//! Closing a descriptor, and hearing what the kernel says of it.

use std::os::fd::{IntoRawFd, OwnedFd};

/// Closes a descriptor, which is gone also after an error.
///
/// # Errors
/// What a file system could not write before (`EIO`, `ENOSPC`, `EDQUOT`, see `close(2)`).
pub(crate) fn close_fd(fd: OwnedFd) -> std::io::Result<()> {
    // SAFETY: the descriptor is ours, and nothing uses its number after this.
    if unsafe { libc::close(fd.into_raw_fd()) } == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error())
}

/// Takes a descriptor over by its number.
///
/// Its former owner, a Python program, has handed it over, as it does to `open()`; the number may name nothing at all,
/// and then every use of it fails.
pub(crate) fn own_fd(fd: std::os::fd::RawFd) -> OwnedFd {
    debug_assert!(fd >= 0, "a descriptor is never negative");
    // SAFETY: no memory depends on the descriptor, and -1 is refused where numbers come in.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }
}
