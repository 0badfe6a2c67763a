//! Copying the bytes of one file to another, in the kernel where it can.

use std::fs::{FileType, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, pread, retry_on_intr};

use super::file::{File, OpenOptions};
use super::full::write_full;
use crate::event_loop::spawn_blocking;
use crate::limits::{COPY_BUFFER_BYTES, COPY_PIECE_BYTES, COPY_STRETCH_BYTES};

/// Who may read, write and execute a file, and what else its mode says of that.
const PLAIN_BITS: u32 = 0o777;
const ALL_BITS: u32 = 0o7777;

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// So many bytes further than before.
    pub count: usize,
    /// The file that is copied ends there.
    pub is_end: bool,
}

/// Copies from `from` at its offset to `to` at its own, until `count` bytes are copied, the file ends, or it `is_given_up`.
///
/// In pieces, by `copy_file_range(2)`, which may share blocks instead of copying; by reads and writes where that is refused.
/// Where something stands in the way behind the first piece, what was copied before is said; whoever asks for the rest
/// hears of the error. For a thread that may wait.
///
/// # Errors
/// Those of the calls that it makes, if they come before the first byte.
pub fn copy_stretch(
    (from, from_offset): (BorrowedFd<'_>, u64),
    (to, to_offset): (BorrowedFd<'_>, u64),
    count: usize,
    is_given_up: &AtomicBool,
) -> io::Result<Copied> {
    let mut copied = 0;
    while copied < count && !is_given_up.load(Ordering::Relaxed) {
        let (source, target) = (from_offset + copied as u64, to_offset + copied as u64);
        let size = COPY_PIECE_BYTES.min(count - copied);
        match copy_piece((from, source), (to, target), size) {
            Ok(0) => {
                return Ok(Copied {
                    count: copied,
                    is_end: true,
                });
            }
            Ok(piece) => copied += piece,
            Err(_) if copied > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Copied {
        count: copied,
        is_end: false,
    })
}

/// Copies one piece, and says how much of it; zero at the end of `from`.
fn copy_piece(
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
        let filled = match retry_on_intr(|| pread(from, &mut buffer[..room], offset)) {
            Ok(0) => break,
            Ok(filled) => filled,
            // What is there already has to be said; whoever asks for the rest hears of the error.
            Err(_) if copied > 0 => break,
            Err(error) => return Err(error.into()),
        };
        let mut written = 0;
        while written < filled {
            let offset = to_offset + (copied + written) as u64;
            match write_full(to, &buffer[written..filled], offset) {
                Ok(count) => written += count,
                Err(_) if copied + written > 0 => return Ok(copied + written),
                Err(error) => return Err(error),
            }
        }
        copied += filled;
    }
    Ok(copied)
}

/// Copies a file's content to another file, which is made or emptied, and says how many bytes; permissions go with it.
///
/// They are the target's before anything is in it, so that nobody sees there what he may not see here. What is no regular
/// file, as `/dev/null`, keeps its own.
///
/// # Errors
/// Those of opening, reading and writing the two; with the target as it was `IsADirectory` if `from` is a folder, and
/// `InvalidInput` if it is a pipe or a terminal or the like, or if both are the same file.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let source = File::open(from).await?;
    let seen = source.metadata().await?;
    check_source(seen.file_type())?;
    let wanted = seen.permissions().mode() & ALL_BITS;
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(wanted & PLAIN_BITS);
    let target = options.open(to).await?;
    let found = target.metadata().await?;
    if same_file(&seen, &found) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "both paths lead to the same file",
        ));
    }
    let mut mode = found.permissions().mode() & ALL_BITS;
    if found.is_file() {
        if mode != wanted & PLAIN_BITS {
            mode = wanted & PLAIN_BITS;
            target.set_permissions(Permissions::from_mode(mode)).await?;
        }
        target.set_len(0).await?;
    }
    let mut copied = 0;
    loop {
        let piece = stretch(&source, &target, copied).await?;
        copied += piece.count as u64;
        if piece.is_end {
            break;
        }
    }
    if found.is_file() && mode != wanted {
        // To write to a file takes these off.
        target.set_permissions(seen.permissions()).await?;
    }
    Ok(copied)
}

/// Refuses what cannot be read from its beginning to its end.
fn check_source(kind: FileType) -> io::Result<()> {
    if kind.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "the path to copy from leads to what is no file",
    ))
}

/// Copies the next stretch; a future that is dropped meanwhile stops it soon.
async fn stretch(source: &File, target: &File, copied: u64) -> io::Result<Copied> {
    let given_up = GiveUp::default();
    let seen = Arc::clone(&given_up.0);
    let (from, to) = (Arc::clone(source.fd()), Arc::clone(target.fd()));
    let stretch = spawn_blocking(move || {
        let (from, to) = ((from.as_fd(), copied), (to.as_fd(), copied));
        copy_stretch(from, to, COPY_STRETCH_BYTES, &seen)
    });
    stretch.await?
}

/// Tells a thread, when it is dropped, that nobody waits any more.
#[derive(Default)]
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn same_file(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_stretch_ends_with_its_bytes_with_the_file_or_when_it_is_given_up() {
        let path = std::env::temp_dir().join(format!("cloverleaf-copy-{}", std::process::id()));
        fs::write(&path, [7; 3000]).unwrap();
        let source = fs::File::open(&path).unwrap();
        let target = fs::File::create_new(path.with_extension("to")).unwrap();
        let stretch = |offset, count, is_given_up| {
            let (from, to) = ((source.as_fd(), offset), (target.as_fd(), offset));
            let Copied { count, is_end } =
                copy_stretch(from, to, count, &AtomicBool::new(is_given_up)).unwrap();
            (count, is_end)
        };
        assert_eq!(stretch(0, 1000, true), (0, false));
        assert_eq!(stretch(0, 1000, false), (1000, false));
        assert_eq!(stretch(1000, COPY_STRETCH_BYTES, false), (2000, true));
        assert_eq!(stretch(3000, 1, false), (0, true));
        assert_eq!(fs::read(path.with_extension("to")).unwrap(), [7; 3000]);
        fs::remove_file(path.with_extension("to")).unwrap();
        fs::remove_file(path).unwrap();
    }
}
