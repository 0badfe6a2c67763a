//! One kernel interface behind one trait, in both of the field's vocabularies: readiness and completion.
//!
//! A driver reports what the kernel said and decides nothing. [`Epoll`] speaks of readiness and gives every [`Op`]
//! back to its caller; [`Hybrid`] has a ring beside it that takes them; [`FakeDriver`] does what its script says.

mod any;
mod backend;
mod epoll;
mod fake;
mod hybrid;
mod op;
mod ring;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::task::Waker;
use std::time::Duration;

pub use any::AnyDriver;
pub use backend::{Backend, InUse, Refusal, UnknownBackend};
pub use epoll::Epoll;
pub use fake::{FakeDriver, FakeKernel};
pub use hybrid::Hybrid;
pub(crate) use op::write_at;
pub use op::{Completion, Note, Op};

/// The name of one registration: a slot, and which of its occupants is meant.
///
/// An event carries the token under which its descriptor was registered, so one of a former occupant names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    /// The token of one occupant of a slot.
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// Which slot.
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Which occupant of the slot.
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// Both numbers as one word, as the kernel stores it.
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// The token that [`to_bits`](Self::to_bits) gave.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "takes the two halves of the word apart"
    )]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            slot: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

/// What to hear of, or what was heard: reading, writing, and (heard only) an error or a hang-up.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Interest(u8);

impl Interest {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Reading will not block: data, an end of file or an error is there.
    pub const READ: Self = Self(1);
    /// Writing will not block.
    pub const WRITE: Self = Self(2);
    /// Both.
    pub const BOTH: Self = Self(3);
    /// The descriptor is in error or was hung up; reported without being asked for, beside READ and WRITE.
    pub const CLOSED: Self = Self(4);
    /// Asked for beside READ and WRITE, and never heard: readiness may be reported only once each time it comes.
    ///
    /// Whoever asks for this must use a descriptor until it would block before it waits for the next report.
    pub const EDGES: Self = Self(8);

    /// Whether all of `other` is in this.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is in this.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// This and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::READ, "READ"),
            (Self::WRITE, "WRITE"),
            (Self::CLOSED, "CLOSED"),
            (Self::EDGES, "EDGES"),
        ];
        f.debug_list()
            .entries(
                names
                    .iter()
                    .filter(|(bit, _)| self.contains(*bit))
                    .map(|(_, name)| name),
            )
            .finish()
    }
}

/// What a driver reports.
#[derive(Debug)]
pub enum Event {
    /// The descriptor registered under this token can be read or written.
    Ready(Token, Interest),
    /// A submitted operation has ended; each ends exactly once.
    Done(Token, Completion),
}

/// One interface of the kernel.
pub trait Driver: fmt::Debug {
    /// Reports the readiness of `fd` under `token` from now on, for as long as it lasts (level-triggered), unless
    /// [`Interest::EDGES`] allows less.
    ///
    /// # Errors
    /// `EEXIST` if the descriptor is registered already, `EPERM` if the kernel cannot report on it (a regular file),
    /// `EBADF`, `ENOMEM`, `ENOSPC`; see `epoll_ctl(2)`.
    fn register(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()>;

    /// Changes what is reported of a registered descriptor, and under which token.
    ///
    /// # Errors
    /// `ENOENT` if it is not registered; see `epoll_ctl(2)`.
    fn modify(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()>;

    /// Reports nothing of this descriptor any more.
    ///
    /// # Errors
    /// `ENOENT` if it is not registered; see `epoll_ctl(2)`.
    fn deregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Starts an operation, which owns its buffer and its descriptor until [`Event::Done`] hands them back.
    ///
    /// # Errors
    /// Gives back an operation that this driver cannot do; the blocking pool can.
    fn submit(&mut self, op: Op, token: Token) -> Result<(), Op>;

    /// Asks for the end of what was submitted under this token. Each `Done` still follows.
    fn cancel(&mut self, token: Token);

    /// Appends what has happened to `events`, and sleeps for at most `timeout` if nothing has; `None` has no limit.
    ///
    /// Returns early, with no events, when a signal arrives (`EINTR`) or the waker is used.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)` other than `EINTR`: each one means that the driver is broken.
    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()>;

    /// Ends this driver's sleep, from any thread.
    fn waker(&self) -> Waker;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel_word() {
        let token = Token::new(7, u32::MAX);
        assert_eq!(Token::from_bits(token.to_bits()), token);
    }

    #[test]
    fn interests_add_and_subtract() {
        let both = Interest::READ.with(Interest::WRITE);
        assert_eq!(both, Interest::BOTH);
        assert_eq!(both.without(Interest::READ), Interest::WRITE);
        assert!(!Interest::READ.contains(both));
        assert_eq!(format!("{both:?}"), r#"["READ", "WRITE"]"#);
    }
}
