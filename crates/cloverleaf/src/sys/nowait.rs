//! Reads and writes of files that never wait for a disk: `preadv2(2)` and `pwritev2(2)` with `RWF_NOWAIT`.
#![expect(
    unsafe_code,
    reason = "rustix's form wants the room to be initialised, which costs more than a small read"
)]

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

#[cfg(target_pointer_width = "64")]
use super::call::{call, number, system_call};

/// Fills `room` from `offset` on with what the page cache has; `None` if that is nothing, or cannot be told.
///
/// `Some(0)` is the end of the file. Whatever else stands in the way is for a read that may wait to find out.
#[inline]
pub(crate) fn pread_nowait(
    fd: BorrowedFd<'_>,
    room: &mut [MaybeUninit<u8>],
    offset: u64,
) -> Option<usize> {
    fill(fd, room, libc::off_t::try_from(offset).ok()?)
}

/// The same from where the descriptor stands, which the call moves.
pub(crate) fn read_nowait(fd: BorrowedFd<'_>, room: &mut [MaybeUninit<u8>]) -> Option<usize> {
    fill(fd, room, -1)
}

#[inline]
fn fill(fd: BorrowedFd<'_>, room: &mut [MaybeUninit<u8>], offset: libc::off_t) -> Option<usize> {
    let piece = libc::iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: room.len(),
    };
    // SAFETY: the kernel writes at most `room.len()` bytes to `room`, which is borrowed for this call.
    unsafe { preadv2(fd.as_raw_fd(), &raw const piece, offset) }
}

/// The system call itself: the C library's function is a point where a thread may be cancelled, which it says by two
/// atomic changes around the call.
///
/// # Safety
/// The piece leads to memory that the kernel may write to.
#[cfg(target_pointer_width = "64")]
#[inline]
unsafe fn preadv2(fd: RawFd, piece: *const libc::iovec, offset: libc::off_t) -> Option<usize> {
    let offset = isize::try_from(offset).ok()?.cast_unsigned();
    // The offset's high half is of no meaning where the low one has 64 bits.
    let arguments = [
        number(fd),
        piece.expose_provenance(),
        1,
        offset,
        0,
        number(libc::RWF_NOWAIT),
    ];
    // SAFETY: as the caller promises; the piece itself is only read.
    system_call(|| unsafe { call(libc::SYS_preadv2, arguments) }).ok()
}

/// The C library's function, which knows how an offset is cut into halves.
///
/// # Safety
/// The piece leads to memory that the kernel may write to.
#[cfg(not(target_pointer_width = "64"))]
unsafe fn preadv2(fd: RawFd, piece: *const libc::iovec, offset: libc::off_t) -> Option<usize> {
    // SAFETY: as the caller promises.
    let count = unsafe { libc::preadv2(fd, piece, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(count).ok()
}

/// Writes as much of `bytes` at `offset` as needs no wait; `None` if that is nothing, or cannot be told.
pub(crate) fn pwrite_nowait(fd: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> Option<usize> {
    let offset = libc::off_t::try_from(offset).ok()?;
    let piece = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: the kernel reads `bytes`, which is borrowed for this call, and writes to nothing.
    let count = unsafe {
        libc::pwritev2(
            fd.as_raw_fd(),
            &raw const piece,
            1,
            offset,
            libc::RWF_NOWAIT,
        )
    };
    usize::try_from(count).ok().filter(|count| *count > 0)
}
