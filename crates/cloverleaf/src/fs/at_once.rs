//! What can be done with a file without any wait: for the loop's own thread.
//!
//! Each function gives `None` where a wait would be needed, and wherever it cannot tell, which includes every error: a
//! call that may wait finds out, and reports it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use super::mounts::is_local;
use crate::sys::{pread_nowait, pwrite_nowait};

/// Reads from `offset` on what the page cache has, and says how much that was; `Some(0)` at the end of the file.
///
/// # Examples
/// ```
/// use std::mem::MaybeUninit;
/// use std::os::fd::AsFd;
///
/// let file = std::fs::File::open("/proc/self/exe")?;
/// let mut room = [MaybeUninit::uninit(); 4];
/// // This program has been read: it runs.
/// if let Some(count) = cloverleaf::fs::read_at_once(file.as_fd(), &mut room, 0) {
///     assert!(count <= 4);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_at_once(
    fd: BorrowedFd<'_>,
    room: &mut [MaybeUninit<u8>],
    offset: u64,
) -> Option<usize> {
    pread_nowait(fd, room, offset)
}

/// Writes at `offset` as much as the file system takes without a wait.
pub fn write_at_once(fd: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> Option<usize> {
    pwrite_nowait(fd, bytes, offset)
}

/// Opens a regular file that exists, is this machine's own and whose path the kernel has at hand (`RESOLVE_CACHED`, see
/// `openat2(2)`).
///
/// Whatever is no regular file is left alone: opening it may wait, or be noticed at its other end. So is what a server, or
/// a process (FUSE), has to be asked for.
pub fn open_at_once(path: &Path, flags: OFlags) -> Option<OwnedFd> {
    if flags.intersects(OFlags::CREATE | OFlags::TRUNC | OFlags::TMPFILE) {
        return None;
    }
    let cached = |flags| {
        let flags = flags | OFlags::CLOEXEC;
        openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok()
    };
    let seen = cached(OFlags::PATH | (flags & OFlags::NOFOLLOW))?;
    if !is_local(&seen) || !is_regular(&seen) {
        return None;
    }
    // The name may lead to something else by now, for which opening does not wait like this either.
    let fd = cached(flags | OFlags::NONBLOCK)?;
    restore_flags(&fd, flags).ok()?;
    Some(fd)
}

/// Finds what a path leads to, if the kernel has all of it at hand, to be looked at: the descriptor is of use for
/// `fstat(2)` and the like. A symbolic link at the end is followed, or is what was found.
///
/// Only file systems of this machine are looked at: others may have a name at hand, and ask a server, or a process (FUSE),
/// for what they say of the file.
pub fn look_at_once(path: &Path, follows: bool) -> Option<OwnedFd> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !follows);
    let found = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok()?;
    is_local(&found).then_some(found)
}

fn is_regular(fd: &OwnedFd) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

fn restore_flags(fd: &OwnedFd, flags: OFlags) -> io::Result<()> {
    if !flags.contains(OFlags::NONBLOCK) {
        let now = rustix::fs::fcntl_getfl(fd)?;
        rustix::fs::fcntl_setfl(fd, now - OFlags::NONBLOCK)?;
    }
    Ok(())
}
