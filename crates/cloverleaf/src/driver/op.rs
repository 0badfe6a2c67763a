//! An owned request to the kernel, and its one answer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use rustix::fs::{FileType, SeekFrom, fstat, seek};
use rustix::io::{Errno, pread, pwrite, write};

/// A request that owns its buffer and its descriptor until it ends.
#[derive(Debug)]
pub enum Op {
    /// Fills `buffer` from `start` on with what is at `offset` (`pread(2)`).
    Read {
        /// The file.
        fd: Arc<OwnedFd>,
        /// Where the bytes go; what is behind `start` is how many are asked for.
        buffer: Vec<u8>,
        /// Where in the buffer they begin: memory must be aligned for a file that goes past the page cache.
        start: usize,
        /// Where in the file, in bytes.
        offset: u64,
    },
    /// Writes `buffer` from `start` on at `offset` (`pwrite(2)`).
    Write {
        /// The file.
        fd: Arc<OwnedFd>,
        /// What is written, behind `start`.
        buffer: Vec<u8>,
        /// Where in the buffer it begins.
        start: usize,
        /// Where in the file, in bytes.
        offset: u64,
        /// Where whoever does it notes how much went through, also when the driver is closed and reports no end any more.
        note: Option<Note>,
    },
    /// Brings what was written to the disk (`fsync(2)`).
    Sync {
        /// The file.
        fd: Arc<OwnedFd>,
    },
}

/// How many bytes went through, for those whom nobody tells any more. Whoever may still set it has a share in it.
#[derive(Debug, Clone)]
pub struct Note(Arc<AtomicU64>);

impl Note {
    const UNKNOWN: u64 = u64::MAX;

    /// Notes how many bytes went through.
    pub fn set(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(Self::UNKNOWN);
        self.0.store(count, Ordering::Release);
    }

    /// How many bytes went through, if that is known.
    pub fn get(&self) -> Option<u64> {
        let count = self.0.load(Ordering::Acquire);
        (count != Self::UNKNOWN).then_some(count)
    }

    /// Whether somebody else may still set it.
    pub fn is_shared(&self) -> bool {
        let is_shared = Arc::strong_count(&self.0) > 1;
        // What was noted before a share was let go is seen from here on.
        fence(Ordering::Acquire);
        is_shared
    }
}

impl Default for Note {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(Self::UNKNOWN)))
    }
}

/// The end of an operation: what it owned, and how many bytes went through or why not.
#[derive(Debug)]
pub struct Completion {
    /// The operation, with its buffer.
    pub op: Op,
    /// Bytes read or written. `ECANCELED` says that nothing was done: the operation was cancelled, or the driver cannot do
    /// it after all; the blocking pool can.
    pub result: io::Result<usize>,
}

impl Completion {
    /// The operation, if nothing was done of it; else the completion again.
    ///
    /// # Errors
    /// Gives back what has come to an end of its own.
    pub fn undone(self) -> Result<Op, Self> {
        match &self.result {
            Err(error) if Errno::from_io_error(error) == Some(Errno::CANCELED) => Ok(self.op),
            Ok(_) | Err(_) => Err(self),
        }
    }
}

impl Op {
    /// Does the operation on this thread, which may block: for the pool, when a driver gives it back.
    pub fn perform(mut self) -> Completion {
        let result = match &mut self {
            Self::Read {
                fd,
                buffer,
                start,
                offset,
            } => pread(&*fd, buffer.get_mut(*start..).unwrap_or_default(), *offset),
            Self::Write {
                fd,
                buffer,
                start,
                offset,
                note,
            } => {
                let written = write_at(&*fd, buffer.get(*start..).unwrap_or_default(), *offset);
                if let (Some(note), Ok(count)) = (note, written) {
                    note.set(count);
                }
                written
            }
            Self::Sync { fd } => rustix::fs::fsync(&*fd).map(|()| 0),
        };
        Completion {
            op: self,
            result: result.map_err(Into::into),
        }
    }
}

/// Writes once at an offset.
///
/// Most files in `/proc` and `/sys/kernel/debug` have a position, but take what is written only there (`ESPIPE`, see
/// `seq_open()` in Linux's `fs/seq_file.c`): their descriptor is moved. What is no file stays refused, as an eventfd, which
/// takes seeks and heeds none.
pub(crate) fn write_at(fd: impl AsFd, bytes: &[u8], offset: u64) -> rustix::io::Result<usize> {
    match pwrite(&fd, bytes, offset) {
        Err(Errno::SPIPE) if is_file(&fd) => {
            seek(&fd, SeekFrom::Start(offset))?;
            write(fd, bytes)
        }
        result => result,
    }
}

fn is_file(fd: impl AsFd) -> bool {
    fstat(fd).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(note: &Note) -> Op {
        let null = std::fs::File::create("/dev/null").expect("is there");
        Op::Write {
            fd: Arc::new(null.into()),
            buffer: b"of no use".to_vec(),
            start: 3,
            offset: 0,
            note: Some(note.clone()),
        }
    }

    #[test]
    fn what_a_thread_writes_is_noted() {
        let note = Note::default();
        drop(write(&note).perform());
        assert_eq!((note.get(), note.is_shared()), (Some(6), false));
    }

    #[test]
    fn only_what_was_not_done_is_an_operation_again() {
        let completion = |errno: Errno| Completion {
            op: write(&Note::default()),
            result: Err(errno.into()),
        };
        assert!(completion(Errno::CANCELED).undone().is_ok());
        let failed = completion(Errno::NOSPC).undone();
        assert!(failed.is_err_and(|failed| failed.result.is_err()));
    }
}
