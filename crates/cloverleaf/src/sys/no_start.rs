//! In the place of `start/` on architectures whose system calls are not written down there: no child is started.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::plan::Strings;
pub(crate) use super::plan::{Plan, Stage};

/// A child that has not told yet whether it could execute its program.
#[derive(Debug)]
pub(crate) struct Starting {
    never: std::convert::Infallible,
    report: OwnedFd,
}

impl Starting {
    /// The child's number.
    pub(crate) const fn pid(&self) -> i32 {
        match self.never {}
    }

    /// Tells of the child.
    pub(crate) fn report(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

/// Whether children can be started so.
pub(crate) const fn can_start() -> bool {
    false
}

/// Refuses.
///
/// # Errors
/// Always.
pub(crate) fn start(_plan: Plan, _shares_memory: bool) -> io::Result<Starting> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing, as nobody needs it.
pub(crate) fn environment() -> Strings {
    Strings::new(std::iter::empty())
}
