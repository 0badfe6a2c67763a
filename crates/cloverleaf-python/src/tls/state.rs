//! How far a TLS connection has come, and which steps may follow: no Python, no I/O.

/// The connection's own life, from the first record to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The inner transport has not been heard of, or is of no use any more.
    Unwrapped,
    /// The peers are agreeing on keys.
    Handshake,
    /// Data flows both ways.
    Wrapped,
    /// It was closed by either side; what waits is still sent.
    Flushing,
    /// All was sent; the peers are saying goodbye.
    Shutdown,
}

impl State {
    /// Whether nothing new is sent any more.
    pub(super) const fn refuses_writes(self) -> bool {
        match self {
            Self::Flushing | Self::Shutdown | Self::Unwrapped => true,
            Self::Handshake | Self::Wrapped => false,
        }
    }

    /// Whether a shutdown is on its way, and may take too long.
    pub(super) const fn is_ending(self) -> bool {
        match self {
            Self::Flushing | Self::Shutdown => true,
            Self::Handshake | Self::Wrapped | Self::Unwrapped => false,
        }
    }
}

/// What the protocol has been told of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing.
    Nothing,
    /// `connection_made`; or it knows its connection already, as under `start_tls`.
    Made,
    /// `eof_received`.
    Eof,
    /// `connection_lost`.
    Lost,
}

impl Told {
    /// Whether the protocol has yet to hear that its connection is lost.
    pub(super) const fn must_hear_of_loss(self) -> bool {
        match self {
            Self::Made | Self::Eof => true,
            Self::Nothing | Self::Lost => false,
        }
    }
}

/// Marks for one direction: pause at `high`, go on at `low`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) low: usize,
    pub(super) high: usize,
}

/// asyncio's marks for bytes that wait to be encrypted or sent.
pub(super) const OUTGOING_MARKS: Marks = Marks::below(512 * 1024);
/// asyncio's marks for bytes that wait to be decrypted.
pub(super) const INCOMING_MARKS: Marks = Marks::below(256 * 1024);

/// What flow control asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Pause,
    Resume,
}

impl Marks {
    /// The marks that go with a high one.
    const fn below(high: usize) -> Self {
        Self {
            low: high / 4,
            high,
        }
    }

    /// What to do about so many waiting bytes, if anything.
    ///
    /// A high mark of zero stands for one byte: nothing that waits is no reason to pause.
    pub(super) fn turn(self, waiting: usize, is_paused: bool) -> Option<Turn> {
        if is_paused {
            (waiting <= self.low).then_some(Turn::Resume)
        } else {
            (waiting >= self.high.max(1)).then_some(Turn::Pause)
        }
    }
}
