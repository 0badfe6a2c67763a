//! An owned request to the kernel, and its one answer.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{pread, pwrite};

/// A request that owns its buffer and its descriptor until it ends.
#[derive(Debug)]
pub enum Op {
    /// Fills `buffer` from `offset` on (`pread(2)`).
    Read {
        /// The file.
        fd: Arc<OwnedFd>,
        /// Where the bytes go; its length is how many are asked for.
        buffer: Vec<u8>,
        /// Where in the file, in bytes.
        offset: u64,
    },
    /// Writes `buffer` at `offset` (`pwrite(2)`).
    Write {
        /// The file.
        fd: Arc<OwnedFd>,
        /// What is written.
        buffer: Vec<u8>,
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
            Self::Read { fd, buffer, offset } => pread(&*fd, buffer.as_mut_slice(), *offset),
            Self::Write { fd, buffer, offset } => pwrite(&*fd, buffer, *offset),
            Self::Sync { fd } => rustix::fs::fsync(&*fd).map(|()| 0),
        };
        Completion {
            op: self,
            result: result.map_err(Into::into),
        }
    }
}
