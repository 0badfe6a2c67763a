//! What can be done with a file without any wait: for the loop's own thread.
//!
//! Each function gives `None` where a wait would be needed, and wherever it cannot tell, which includes every error: a
//! call that may wait finds out, and reports it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstat, openat2, statx,
};
use rustix::io::Errno;

use super::mounts::{is_local, is_local_while_open};
use crate::sys::{pread_nowait, pwrite_nowait, read_nowait};

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
#[inline]
pub fn read_at_once(
    fd: BorrowedFd<'_>,
    room: &mut [MaybeUninit<u8>],
    offset: u64,
) -> Option<usize> {
    pread_nowait(fd, room, offset)
}

/// Reads from where the descriptor stands on, which moves in the same call, what the page cache has; `Some(0)` at the end.
///
/// # Examples
/// ```
/// use std::io::Seek;
/// use std::mem::MaybeUninit;
/// use std::os::fd::AsFd;
///
/// let mut file = std::fs::File::open("/proc/self/exe")?;
/// let mut room = [MaybeUninit::uninit(); 4];
/// if let Some(count) = cloverleaf::fs::read_on_at_once(file.as_fd(), &mut room) {
///     assert_eq!(file.stream_position()?, count as u64);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_on_at_once(fd: BorrowedFd<'_>, room: &mut [MaybeUninit<u8>]) -> Option<usize> {
    read_nowait(fd, room)
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
    if !is_local(seen.as_fd()) || !is_regular(&seen) {
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
    is_local(found.as_fd()).then_some(found)
}

/// What a path leads to, as `st_mode`, if the kernel has its name at hand. A symbolic link at the end is followed.
///
/// A server is not asked whether that has changed.
///
/// # Examples
/// ```
/// use std::path::Path;
///
/// // This program's own name was just looked up.
/// let mode = cloverleaf::fs::mode_at_once(Path::new("/proc/self/exe"));
/// assert!(mode.is_none_or(|mode| mode & 0o170_000 == 0o100_000));
/// ```
#[must_use]
pub fn mode_at_once(path: &Path) -> Option<u32> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok()?;
    known_at_once(found.as_fd()).ok().map(|known| known.mode)
}

/// What the kernel knows of an open file without asking anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The type and the permissions, as `st_mode`.
    pub mode: u32,
    /// The size of the blocks in which it is best read, as `st_blksize`.
    pub block_size: u32,
    /// The length; if somebody [`may_ask`], what it was when that was last done.
    pub length: u64,
}

/// Says what the kernel knows of an open file, without a wait. A kernel that is too old for that, or a filter that refuses
/// it (`seccomp(2)`), leaves nothing but to ask as `fstat(2)` does.
///
/// # Errors
/// Those of `fstat(2)`.
///
/// # Examples
/// ```
/// use std::os::fd::AsFd;
///
/// let file = std::fs::File::open("/proc/self/exe")?;
/// let known = cloverleaf::fs::known_at_once(file.as_fd())?;
/// assert_eq!(known.length, file.metadata()?.len());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn known_at_once(fd: BorrowedFd<'_>) -> io::Result<Known> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    match statx(fd, c"", flags, StatxFlags::BASIC_STATS) {
        Ok(found) => Ok(Known {
            mode: u32::from(found.stx_mode),
            block_size: found.stx_blksize,
            length: found.stx_size,
        }),
        // Whatever stands in the way of this, the other call finds out, too, if it is the file's.
        Err(_) => known_when_asked(fd),
    }
}

#[cold]
fn known_when_asked(fd: BorrowedFd<'_>) -> io::Result<Known> {
    let found = fstat(fd)?;
    Ok(Known {
        mode: found.st_mode,
        block_size: u32::try_from(found.st_blksize).unwrap_or(0),
        length: u64::try_from(found.st_size).unwrap_or(0),
    })
}

/// Whether a server, or a process (FUSE), may have to be asked for an open file's length, to seek its end, to close it, and
/// by a ring that only takes an operation on it in. Without a wait but for reading `/proc/self/mountinfo`, which before
/// Linux 6.8 is done for each file that is on no disk.
///
/// # Examples
/// ```
/// use std::os::fd::AsFd;
///
/// let (reading, _writing) = std::io::pipe()?;
/// assert!(!cloverleaf::fs::may_ask(reading.as_fd()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn may_ask(fd: BorrowedFd<'_>) -> bool {
    known_at_once(fd).is_ok_and(|known| {
        FileType::from_raw_mode(known.mode) == FileType::RegularFile && !is_local_while_open(fd)
    })
}

/// Whether an open file can be read and written at an offset, as a pipe, a socket, a terminal or an eventfd cannot: of those
/// `pread(2)` and `pwrite(2)` refuse any, where a ring leaves it out. That one takes seeks does not tell, and nothing is read.
///
/// # Examples
/// ```
/// use std::os::fd::AsFd;
///
/// let (reading, _writing) = std::io::pipe()?;
/// assert!(!cloverleaf::fs::has_position(reading.as_fd()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn has_position(fd: BorrowedFd<'_>) -> bool {
    !matches!(rustix::io::preadv(fd, &mut [], 0), Err(Errno::SPIPE))
}

/// Says how long an open file is, without a wait; see [`Known::length`] and [`known_at_once`].
///
/// # Errors
/// Those of `fstat(2)`.
pub fn length_at_once(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    match statx(fd, c"", flags, StatxFlags::SIZE) {
        Ok(found) => Ok(found.stx_size),
        Err(_) => known_when_asked(fd).map(|known| known.length),
    }
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
