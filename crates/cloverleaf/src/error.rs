//! What can go wrong with a loop as such, and the one way to discard a result.

use std::fmt;
use std::io;

/// A failure of the loop itself; what the kernel said about one descriptor stays an [`io::Error`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The loop was closed, or dropped.
    Closed,
    /// The loop was stopped before the future it was to complete had ended.
    Stopped,
    /// The loop is running already.
    Running,
    /// The kernel refused what the loop cannot be without.
    Io(io::Error),
}

/// The result of what can fail as [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("event loop is closed"),
            Self::Stopped => f.write_str("event loop stopped before the future completed"),
            Self::Running => f.write_str("event loop is already running"),
            Self::Io(error) => write!(f, "event loop: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Closed | Self::Stopped | Self::Running => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What the kernel has refused as it is, so that a program which speaks of [`io::Error`] alone can use `?`.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            Error::Closed | Error::Stopped | Error::Running => Self::other(error),
        }
    }
}

/// Discards a result. Each use says beside it why nothing can be done about a failure.
pub fn ignore<T, E>(result: std::result::Result<T, E>) {
    drop(result);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_loop_becomes_one_of_the_kernels_and_says_the_same() {
        let refused = Error::from(io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(io::Error::from(refused).raw_os_error(), Some(libc::EMFILE));
        let stopped = io::Error::from(Error::Stopped);
        assert_eq!(stopped.kind(), io::ErrorKind::Other);
        assert_eq!(stopped.to_string(), Error::Stopped.to_string());
        let inner = stopped.into_inner().and_then(|inner| inner.downcast().ok());
        assert!(matches!(inner.as_deref(), Some(Error::Stopped)));
    }
}
