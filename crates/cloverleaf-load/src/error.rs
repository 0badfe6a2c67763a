//! What can go wrong in a load, in words that name the next thing to look at.

use std::fmt;
use std::io;

/// Why a load stopped before its window ended.
#[derive(Debug)]
pub(crate) enum Error {
    /// A system call failed.
    Io(io::Error),
    /// The command line asks for something that there is not.
    Usage(String),
    /// The server answered with other bytes than it should have.
    Mismatch(String),
    /// The server ended a connection that still had messages in flight.
    Closed {
        /// How many messages had no answer yet.
        in_flight: usize,
    },
    /// The server answered nothing for a long time.
    Silent {
        /// How many messages had no answer yet, over all connections.
        in_flight: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(formatter, "{error}"),
            Self::Usage(text) => write!(formatter, "{text} (see --help)"),
            Self::Mismatch(text) => write!(formatter, "wrong answer: {text}"),
            Self::Closed { in_flight } => {
                write!(
                    formatter,
                    "the server closed a connection, {in_flight} messages in flight"
                )
            }
            Self::Silent { in_flight } => {
                write!(
                    formatter,
                    "the server stopped answering, {in_flight} messages in flight"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}
