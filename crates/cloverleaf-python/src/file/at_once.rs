//! What a file gives without a wait, into objects of Python's.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cloverleaf::fs::{read_at_once, read_on_at_once};
use cloverleaf::limits::AT_ONCE_BYTES;
use cloverleaf::system_call;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::fs::{OFlags, SeekFrom, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::base::FileBase;
use crate::error::errno_error;
use crate::ffi::{borrow_fd, cut_and_hold, detached, fill_buffer, spared, unfilled_again};

/// Bytes from which on other threads may run Python while the kernel copies.
///
/// Letting go of Python and taking it back costs about as much as copying 1 KiB, and with other threads at work far more.
pub(super) const DETACH_BYTES: usize = 64 * 1024;

/// Fills all of `room`, or up to the end of the file; `None` if that needs a wait.
#[inline]
pub(super) fn read_full_at_once(
    fd: BorrowedFd<'_>,
    room: &mut [MaybeUninit<u8>],
    offset: u64,
) -> Option<usize> {
    let mut filled = 0;
    while filled < room.len() {
        match read_at_once(fd, &mut room[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Some(filled)
}

/// The same, and lets go of Python meanwhile if that takes long.
fn fill_all(
    py: Python<'_>,
    fd: BorrowedFd<'_>,
    room: &mut [MaybeUninit<u8>],
    offset: u64,
) -> Option<usize> {
    if room.len() < DETACH_BYTES {
        return read_full_at_once(fd, room, offset);
    }
    detached(py, || read_full_at_once(fd, room, offset))
}

/// The bytes from `offset` on, fewer than `size` only at the end of the file; None if that needs a wait.
///
/// # Errors
/// `MemoryError`.
pub(super) fn read<'py>(
    py: Python<'py>,
    fd: BorrowedFd<'_>,
    size: usize,
    offset: u64,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    if size > AT_ONCE_BYTES {
        return Ok(None);
    }
    let mut bytes = unfilled_again(py, size)?;
    match fill_all(py, fd, bytes.room(), offset) {
        Some(filled) => cut_and_hold(bytes, py, filled).map(Some),
        None => Ok(None),
    }
}

/// The bytes from where the descriptor stands, which moves on; None, and unmoved, if that needs a wait.
///
/// # Errors
/// `MemoryError`.
pub(super) fn read_along<'py>(
    py: Python<'py>,
    fd: BorrowedFd<'_>,
    size: usize,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    if size > AT_ONCE_BYTES {
        return Ok(None);
    }
    let mut bytes = unfilled_again(py, size)?;
    let mut filled = 0;
    while filled < size {
        match read_on_at_once(fd, &mut bytes.room()[filled..]) {
            Some(0) => break,
            Some(count) => filled += count,
            None => {
                let back = SeekFrom::Current(-i64::try_from(filled).unwrap_or(0));
                if filled == 0 || seek(fd, back).is_ok() {
                    return Ok(None);
                }
                // It has come, and does not go back.
                break;
            }
        }
    }
    cut_and_hold(bytes, py, filled).map(Some)
}

/// The offset that stands for where the descriptor does, which then moves on in the same call (`preadv2(2)`).
const WHERE_IT_STANDS: u64 = u64::MAX;

/// Fills a buffer with what is at hand, and says how much; None if that is nothing. Without an offset that is from where the
/// descriptor stands, which moves on.
///
/// # Errors
/// Those of [`fill_buffer`].
pub(super) fn readinto(
    py: Python<'_>,
    fd: BorrowedFd<'_>,
    buffer: &Bound<'_, PyAny>,
    offset: Option<u64>,
) -> PyResult<Option<usize>> {
    let offset = offset.unwrap_or(WHERE_IT_STANDS);
    fill_buffer(buffer, |room| {
        if room.is_empty() {
            return Some(0);
        }
        let len = room.len().min(AT_ONCE_BYTES);
        let mut pieces = [IoSliceMut::new(&mut room[..len])];
        let mut read =
            || system_call(|| preadv2(fd, &mut pieces, offset, ReadWriteFlags::NOWAIT)).ok();
        if len < DETACH_BYTES {
            read()
        } else {
            detached(py, read)
        }
    })
}

/// How many of so many bytes from the offset on are in the page cache: all of them also if the file ends before.
pub(super) fn at_hand(fd: BorrowedFd<'_>, size: usize, offset: u64) -> usize {
    let mut scratch = [const { MaybeUninit::<u8>::uninit() }; 16 * 1024];
    let mut seen = 0;
    while seen < size {
        let len = scratch.len().min(size - seen);
        match read_at_once(fd, &mut scratch[..len], offset + seen as u64) {
            None => return seen,
            Some(0) => break,
            Some(count) => seen += count,
        }
    }
    size
}

/// Opens a regular file that exists and whose path the kernel has at hand; None if that needs a wait, or fails.
#[pyfunction]
pub(super) fn open_at_once(path: &[u8], flags: i32) -> Option<FileBase> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let flags = OFlags::from_bits_retain(u32::try_from(flags).ok()?);
    cloverleaf::fs::open_at_once(path, flags).map(|fd| FileBase::from_fd(fd, false))
}

/// Whether a server may have to be asked for what is not known of an open file.
///
/// # Errors
/// `OSError` for a number that is no descriptor's.
#[pyfunction]
pub(super) fn may_ask(py: Python<'_>, fd: RawFd) -> PyResult<bool> {
    if fd < 0 {
        return Err(errno_error(py, Errno::BADF));
    }
    Ok(cloverleaf::fs::may_ask(borrow_fd(fd)))
}

/// Whether an open file can be read at an offset; nothing is read.
///
/// # Errors
/// `OSError` for a number that is no descriptor's.
#[pyfunction]
pub(super) fn has_position(py: Python<'_>, fd: RawFd) -> PyResult<bool> {
    if fd < 0 {
        return Err(errno_error(py, Errno::BADF));
    }
    Ok(cloverleaf::fs::has_position(borrow_fd(fd)))
}

/// The whole content of a regular file that is at hand and not too large; None for every other.
///
/// # Errors
/// `MemoryError`.
#[pyfunction]
pub(super) fn content_at_once<'py>(
    py: Python<'py>,
    path: &[u8],
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let Some(fd) = cloverleaf::fs::open_at_once(path, OFlags::RDONLY) else {
        return Ok(None);
    };
    let size = rustix::fs::fstat(&fd).map_or(0, |stat| stat.st_size);
    let Some(size) = usize::try_from(size).ok().filter(|size| *size > 0) else {
        // A file in /proc has content and no size.
        return Ok(None);
    };
    let content = spared(py, || read(py, fd.as_fd(), size, 0))?;
    let is_all = read_at_once(fd.as_fd(), &mut [MaybeUninit::uninit()], size as u64) == Some(0);
    Ok(content.filter(|_| is_all))
}
