//! Transfers past the page cache (`O_DIRECT`), whose memory must be aligned.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use cloverleaf::fs::write_full;
use cloverleaf::limits::{DIRECT_ALIGNMENT, DIRECT_PIECE_BYTES};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};

/// Whether the file goes past the page cache (`O_DIRECT`): then memory must be aligned, and nothing comes at once.
pub(super) fn is_direct(fd: &OwnedFd) -> bool {
    has(fd, OFlags::DIRECT)
}

fn has(fd: &OwnedFd, flag: OFlags) -> bool {
    rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags.contains(flag))
}

/// Memory for so many bytes, which are few, and where in it they begin: aligned, where every disk can transfer to, if that
/// is asked for.
pub(super) fn room(len: usize, is_aligned: bool) -> (Vec<u8>, usize) {
    if !is_aligned {
        return (vec![0; len], 0);
    }
    aligned(vec![0; len + DIRECT_ALIGNMENT], len)
}

/// The same for so many as a program asks for, aligned.
fn large_room(len: usize) -> io::Result<(Vec<u8>, usize)> {
    let mut memory = Vec::new();
    let size = len + DIRECT_ALIGNMENT;
    memory.try_reserve_exact(size).map_err(|_| Errno::NOMEM)?;
    memory.resize(size, 0);
    Ok(aligned(memory, len))
}

fn aligned(mut memory: Vec<u8>, len: usize) -> (Vec<u8>, usize) {
    let start = memory
        .as_ptr()
        .align_offset(DIRECT_ALIGNMENT)
        .min(DIRECT_ALIGNMENT);
    // A shorter vector stays where it is.
    memory.truncate(start + len);
    (memory, start)
}

/// Reads piece by piece, so that little memory is needed beside the target. A piece that is short of what was asked for is
/// the end of the file, as an offset in between is not aligned.
pub(super) fn read_direct(
    fd: &OwnedFd,
    target: &mut [MaybeUninit<u8>],
    offset: u64,
) -> io::Result<usize> {
    let (mut memory, start) = large_room(target.len().min(DIRECT_PIECE_BYTES))?;
    let mut filled = 0;
    for piece in target.chunks_mut(DIRECT_PIECE_BYTES) {
        let room = &mut memory[start..start + piece.len()];
        let at = offset + filled as u64;
        // Less than all would be taken for the end of the file, so an error is told whatever came before it.
        let count = retry_on_intr(|| rustix::io::pread(fd, &mut *room, at))?;
        for (to, from) in piece.iter_mut().zip(&room[..count]) {
            to.write(*from);
        }
        filled += count;
        if count < piece.len() {
            break;
        }
    }
    Ok(filled)
}

/// Reads once, where the descriptor stands, little at a time, unless the kernel is to say that a length does not suit it.
pub(super) fn read_direct_here(fd: &OwnedFd, target: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let is_aligned = target.len().is_multiple_of(DIRECT_ALIGNMENT);
    let most = if is_aligned {
        target.len().min(DIRECT_PIECE_BYTES)
    } else {
        target.len()
    };
    let (mut memory, start) = large_room(most)?;
    let count = retry_on_intr(|| rustix::io::read(fd, &mut memory[start..]))?;
    for (to, from) in target.iter_mut().zip(&memory[start..start + count]) {
        to.write(*from);
    }
    Ok(count)
}

/// Writes piece by piece, as above. What most disks refuse for its length goes in one piece, so that they refuse all of it,
/// and so does what is appended (`O_APPEND`): nothing that others append comes in its midst.
pub(super) fn write_direct(fd: &OwnedFd, bytes: &[u8], offset: u64) -> io::Result<usize> {
    let is_aligned = bytes.len().is_multiple_of(DIRECT_ALIGNMENT);
    let most = if is_aligned && !has(fd, OFlags::APPEND) {
        DIRECT_PIECE_BYTES
    } else {
        bytes.len().max(1)
    };
    let (mut memory, start) = large_room(bytes.len().min(most))?;
    let mut written = 0;
    for piece in bytes.chunks(most) {
        let room = &mut memory[start..start + piece.len()];
        room.copy_from_slice(piece);
        match write_full(fd.as_fd(), room, offset + written as u64) {
            Ok(count) => written += count,
            Err(error) if written == 0 => return Err(error),
            // Whoever writes the rest is told.
            Err(_) => break,
        }
        if !written.is_multiple_of(most) {
            break;
        }
    }
    Ok(written)
}

/// Writes once, where the descriptor stands or at the end of the file.
pub(super) fn write_direct_here(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    let (mut memory, start) = large_room(bytes.len())?;
    memory[start..].copy_from_slice(bytes);
    Ok(retry_on_intr(|| rustix::io::write(fd, &memory[start..]))?)
}
