//! The standard library's file, of a descriptor that stays somebody else's.
#![expect(
    unsafe_code,
    reason = "the standard library's file owns its descriptor, and a copy of that cannot be closed unnoticed"
)]

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};

/// Calls something with the file of a descriptor, which stays open.
///
/// A copy of the descriptor would need a free number, and to close it would end all record locks that the process has on
/// the file, see `fcntl_locking(2)`.
pub(crate) fn with_file<T>(fd: BorrowedFd<'_>, call: impl FnOnce(&File) -> T) -> T {
    // SAFETY: the descriptor is open for as long as it is borrowed, which is longer than this call, and the file, which
    // nobody can take out of the reference, is never dropped, so it does not close what it does not own.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) });
    call(&file)
}
