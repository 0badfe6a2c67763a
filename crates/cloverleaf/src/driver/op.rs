//! An owned request to the kernel, and its one answer.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{pread, pwrite};

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
    },
    /// Brings what was written to the disk (`fsync(2)`).
    Sync {
        /// The file.
        fd: Arc<OwnedFd>,
    },
}

/// The end of an operation: what it owned, and how many bytes went through or why not.
#[derive(Debug)]
pub struct Completion {
    /// The operation, with its buffer.
    pub op: Op,
    /// Bytes read or written.
    pub result: io::Result<usize>,
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
            } => pwrite(&*fd, buffer.get(*start..).unwrap_or_default(), *offset),
            Self::Sync { fd } => rustix::fs::fsync(&*fd).map(|()| 0),
        };
        Completion {
            op: self,
            result: result.map_err(Into::into),
        }
    }
}
