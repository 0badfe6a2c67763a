//! A piece of a file that the kernel sends by itself.

use std::os::fd::{BorrowedFd, RawFd};

use pyo3::prelude::*;
use rustix::io::{Errno, retry_on_intr};

use crate::error::errno_error;
use crate::ffi::{Arguments, borrow_fd, detached};

/// Which bytes of which file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    file: RawFd,
    offset: u64,
    count: usize,
}

impl Piece {
    /// The piece that the arguments from `first` on name: the file's descriptor, an offset and a count; None if there
    /// are too few.
    ///
    /// # Errors
    /// `TypeError`, `OverflowError` or, for a negative offset, `ValueError` for what are no such numbers; `OSError`
    /// (`EBADF`) for a negative descriptor.
    pub(crate) fn parse(args: Arguments<'_, '_>, first: usize) -> PyResult<Option<Self>> {
        let given: [Option<_>; 3] = std::array::from_fn(|index| args.get(first + index));
        let [Some(file), Some(offset), Some(count)] = given else {
            return Ok(None);
        };
        let piece = Self {
            file: file.extract()?,
            // The kernel's own type for it: what is larger is no offset, which is no refusal of the file.
            offset: u64::try_from(offset.extract::<i64>()?)?,
            count: count.extract()?,
        };
        if piece.file < 0 {
            return Err(errno_error(file.py(), Errno::BADF));
        }
        Ok(Some(piece))
    }

    /// Sends it, or as much as there is room for; detached from Python, since that may read from a disk.
    ///
    /// # Errors
    /// Those of `sendfile(2)`.
    pub(crate) fn send(self, py: Python<'_>, to: BorrowedFd<'_>) -> Result<usize, Errno> {
        let mut offset = self.offset;
        retry_on_intr(|| {
            detached(py, || {
                rustix::fs::sendfile(to, borrow_fd(self.file), Some(&mut offset), self.count)
            })
        })
    }
}
