//! Reads and writes that go on until all is done: for a thread that may wait.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, pread, retry_on_intr};

use crate::driver::write_at;

/// Fills `room` from `offset` on, and says how much of it: all, unless the file ends before. Also for no room at all the
/// kernel is asked, which says what is wrong.
///
/// # Errors
/// Those of `pread(2)`, wherever they come: less than all means that the file ends there.
pub fn read_full(
    fd: BorrowedFd<'_>,
    room: &mut [MaybeUninit<u8>],
    offset: u64,
) -> std::io::Result<usize> {
    let mut filled = 0;
    loop {
        let rest = &mut room[filled..];
        match retry_on_intr(|| {
            pread(fd, &mut *rest, offset + filled as u64).map(|(init, _)| init.len())
        }) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) => return Err(error.into()),
        }
        if filled == room.len() {
            break;
        }
    }
    Ok(filled)
}

/// Writes `bytes` at `offset`, and says how many: all, unless something stands in the way of the rest.
///
/// # Errors
/// Those of `pwrite(2)`, if they come before the first byte.
pub fn write_full(fd: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> std::io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        let rest = &bytes[written..];
        match retry_on_intr(|| write_at(fd, rest, offset + written as u64)) {
            Ok(0) if written == 0 => return Err(Errno::IO.into()),
            Ok(0) => break,
            Ok(count) => written += count,
            Err(_) if written > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(written)
}
