//! Copying the bytes of one file to another, in the kernel where it can.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::io::{Errno, pread, retry_on_intr};

use super::file::{File, OpenOptions};
use super::full::write_full;
use crate::event_loop::spawn_blocking;
use crate::limits::{COPY_BUFFER_BYTES, COPY_PIECE_BYTES};

/// Copies at most `count` bytes from `from` at its offset to `to` at its own, and says how many; zero at the end of `from`.
///
/// By `copy_file_range(2)`, which may share blocks instead of copying; by reads and writes where that is refused. For a
/// thread that may wait.
///
/// # Errors
/// Those of the calls that it makes.
pub fn copy_bytes(
    (from, from_offset): (BorrowedFd<'_>, u64),
    (to, to_offset): (BorrowedFd<'_>, u64),
    count: usize,
) -> io::Result<usize> {
    let (mut source, mut target) = (from_offset, to_offset);
    let copied = retry_on_intr(|| {
        rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), count)
    });
    match copied {
        // Zero may also mean a file whose size is not known before it is read, as in /proc.
        Ok(0)
        | Err(
            Errno::XDEV
            | Errno::INVAL
            | Errno::NOSYS
            | Errno::OPNOTSUPP
            | Errno::PERM
            | Errno::BADF
            | Errno::TXTBSY,
        ) => copy_through_memory((from, from_offset), (to, to_offset), count),
        result => Ok(result?),
    }
}

fn copy_through_memory(
    (from, from_offset): (BorrowedFd<'_>, u64),
    (to, to_offset): (BorrowedFd<'_>, u64),
    count: usize,
) -> io::Result<usize> {
    let mut buffer = vec![0; count.min(COPY_BUFFER_BYTES)];
    let mut copied = 0;
    while copied < count {
        let room = buffer.len().min(count - copied);
        let offset = from_offset + copied as u64;
        let filled = retry_on_intr(|| pread(from, &mut buffer[..room], offset))?;
        if filled == 0 {
            break;
        }
        let mut written = 0;
        while written < filled {
            let offset = to_offset + (copied + written) as u64;
            written += write_full(to, &buffer[written..filled], offset)?;
        }
        copied += filled;
    }
    Ok(copied)
}

/// Copies a file's content to another file, which is made or emptied, and says how many bytes; permissions go with it.
///
/// # Errors
/// Those of opening, reading and writing the two; `InvalidInput` if both are the same file.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let source = File::open(from).await?;
    let seen = source.metadata().await?;
    let target = OpenOptions::new().write(true).create(true).open(to).await?;
    let found = target.metadata().await?;
    if same_file(&seen, &found) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "both paths lead to the same file",
        ));
    }
    target.set_len(0).await?;
    let (from, to) = (Arc::clone(source.fd()), Arc::clone(target.fd()));
    let mut copied = 0;
    loop {
        let (from, to) = (Arc::clone(&from), Arc::clone(&to));
        // One piece a call, so that a future that is dropped stops the copy soon.
        let piece = spawn_blocking(move || {
            copy_bytes(
                (from.as_fd(), copied),
                (to.as_fd(), copied),
                COPY_PIECE_BYTES,
            )
        });
        match piece.await?? {
            0 => break,
            count => copied += count as u64,
        }
    }
    target.set_permissions(seen.permissions()).await?;
    Ok(copied)
}

fn same_file(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
