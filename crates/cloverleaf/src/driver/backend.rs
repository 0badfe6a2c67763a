//! Which interfaces of the kernel a loop may use, which it does use, and why not more.

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::io::Errno;

/// The environment variable that chooses for programs that do not.
const VARIABLE: &str = "CLOVERLEAF_BACKEND";

/// Which interfaces of the kernel a loop may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// epoll, and a ring of io_uring from the first operation on that has use for it, if the kernel allows one.
    #[default]
    Auto,
    /// epoll alone.
    Epoll,
    /// epoll and a ring, which is made with the loop; without one the loop is not made.
    IoUring,
}

/// What names no [`Backend`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBackend {
    what: &'static str,
    given: String,
}

impl fmt::Display for UnknownBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, given } = self;
        write!(
            f,
            "{what} must be 'auto', 'epoll' or 'io_uring', not '{given}'"
        )
    }
}

impl std::error::Error for UnknownBackend {}

impl From<UnknownBackend> for io::Error {
    fn from(error: UnknownBackend) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        Self::named(name).ok_or_else(|| UnknownBackend {
            what: "backend",
            given: name.into(),
        })
    }
}

impl Backend {
    fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "epoll" => Some(Self::Epoll),
            "io_uring" => Some(Self::IoUring),
            _ => None,
        }
    }

    /// What the environment variable `CLOVERLEAF_BACKEND` says, or [`Auto`](Self::Auto) if it is not set or is empty.
    ///
    /// # Errors
    /// [`UnknownBackend`] if it says anything else than `auto`, `epoll` or `io_uring`.
    pub fn from_environment() -> Result<Self, UnknownBackend> {
        let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
            return Ok(Self::Auto);
        };
        let name = value.to_string_lossy();
        Self::named(&name).ok_or_else(|| UnknownBackend {
            what: VARIABLE,
            given: name.into_owned(),
        })
    }
}

/// Which interfaces of the kernel a loop uses; shown as `epoll`, `epoll+io_uring` or
/// `epoll (io_uring refused: EPERM)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUse {
    /// epoll, as asked for.
    Epoll,
    /// epoll and a ring.
    EpollAndRing,
    /// epoll, as a ring was refused.
    RingRefused(Refusal),
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Epoll => f.write_str("epoll"),
            Self::EpollAndRing => f.write_str("epoll+io_uring"),
            Self::RingRefused(refusal) => write!(f, "epoll (io_uring refused: {refusal})"),
        }
    }
}

/// Why there is no ring: the error with which the kernel, or a filter before it, refused one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(Errno);

impl Refusal {
    pub(super) const fn new(error: Errno) -> Self {
        Self(error)
    }

    /// The number of the error.
    pub const fn raw_os_error(self) -> i32 {
        self.0.raw_os_error()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            Errno::PERM => "EPERM",
            Errno::ACCESS => "EACCES",
            Errno::NOSYS => "ENOSYS",
            Errno::OPNOTSUPP => "EOPNOTSUPP",
            Errno::INVAL => "EINVAL",
            Errno::NOMEM => "ENOMEM",
            Errno::MFILE => "EMFILE",
            Errno::NFILE => "ENFILE",
            // Of a ring that had been made.
            Errno::BADF => "EBADF",
            Errno::BADFD => "EBADFD",
            Errno::FAULT => "EFAULT",
            Errno::IO => "EIO",
            Errno::NXIO => "ENXIO",
            other => return write!(f, "error {}", other.raw_os_error()),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_has_one_name_and_others_are_refused_with_the_choices() {
        assert_eq!("auto".parse(), Ok(Backend::Auto));
        assert_eq!("epoll".parse(), Ok(Backend::Epoll));
        assert_eq!("io_uring".parse(), Ok(Backend::IoUring));
        let refused = "IO_URING".parse::<Backend>().expect_err("is no name");
        assert_eq!(
            refused.to_string(),
            "backend must be 'auto', 'epoll' or 'io_uring', not 'IO_URING'"
        );
    }

    #[test]
    fn what_is_in_use_tells_why_it_is_not_more() {
        assert_eq!(InUse::EpollAndRing.to_string(), "epoll+io_uring");
        assert_eq!(
            InUse::RingRefused(Refusal::new(Errno::PERM)).to_string(),
            "epoll (io_uring refused: EPERM)"
        );
        // As when the program has closed it by its number.
        assert_eq!(Refusal::new(Errno::BADF).to_string(), "EBADF");
    }
}
