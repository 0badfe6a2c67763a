//! Who has written, while an event was served, what the kernel has not been offered yet; see `transport/held.rs`.

use std::time::Duration;

use cloverleaf::{Clock, Time, limits};

use crate::ffi::{Owned, Visitor};

/// Where a write finds itself in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The number of the event that is being served, or zero if none is, or nothing more can be held.
    pub(crate) event: u64,
    /// The number of the loop's turn, or zero if it is in none, or in another thread.
    pub(crate) turn: u64,
    /// The answers to this event are sent together with those to others.
    pub(crate) together: bool,
    /// From when on what is held counts as held.
    since: Time,
}

impl Moment {
    /// No event is being served, or by another thread.
    pub(crate) const OUTSIDE: Self = Self {
        event: 0,
        turn: 0,
        together: false,
        since: Time::ORIGIN,
    };

    /// Whether what is held has been held long enough.
    pub(crate) fn is_late(self) -> bool {
        is_late(self.since, Clock::monotonic().now())
    }
}

fn is_late(since: Time, now: Time) -> bool {
    now.saturating_since(since) >= Duration::from_micros(limits::LONGEST_HOLD_MICROS)
}

/// The transports whose writes are held.
#[derive(Debug, Default)]
pub(crate) struct Held {
    turns: u64,
    /// The number of the turn that the loop is in, or zero.
    turn: u64,
    events: u64,
    /// The address of the object whose event is being served, or zero.
    served: usize,
    /// In this turn enough events are to be answered for their answers to be sent together.
    together: bool,
    transports: Vec<Owned>,
    /// Bytes that were written since something was held for others; those that were sent at once count, too.
    bytes: usize,
    since: Time,
    /// When the last event had been served, if answers are sent together.
    ended: Time,
}

impl Held {
    /// The jobs of a turn are about to run; so many sockets are ready among whose answers some may be sent together.
    #[inline]
    pub(crate) fn begin_turn(&mut self, ready: usize) {
        // A panic may have ended the last turn in the midst of an event.
        self.served = 0;
        self.turns += 1;
        self.turn = self.turns;
        self.together = ready >= limits::READY_FOR_ONE_CALL;
        if self.together {
            self.ended = Clock::monotonic().now();
        }
    }

    /// The loop has stopped.
    pub(crate) const fn end_run(&mut self) {
        self.turn = 0;
    }

    /// What comes for the next events has been received: the time of the first of them begins now.
    pub(crate) fn begin_events(&mut self) {
        self.ended = Clock::monotonic().now();
    }

    /// Whether what is held may stay so until the next event has been served, too.
    #[inline]
    pub(crate) const fn goes_together(&self) -> bool {
        self.together
    }

    /// An event is about to be served: what its protocol writes may be held.
    #[inline]
    pub(crate) fn begin_event(&mut self, object: &Owned) {
        self.events += 1;
        self.served = object.address();
    }

    /// The event has been served; whether what is held is to be sent now.
    #[inline]
    pub(crate) fn end_event(&mut self) -> bool {
        self.served = 0;
        if !self.together {
            return self.is_any();
        }
        let now = Clock::monotonic().now();
        self.ended = now;
        self.is_any() && (self.is_full() || is_late(self.since, now))
    }

    /// Whether something is held.
    #[inline]
    pub(crate) const fn is_any(&self) -> bool {
        !self.transports.is_empty()
    }

    /// Whether as much is held as goes in one call.
    const fn is_full(&self) -> bool {
        self.transports.len() >= limits::SOCKETS_PER_CALL || self.bytes >= limits::BATCH_BYTES
    }

    /// The moment of a write of so many bytes.
    #[inline]
    pub(crate) fn moment(&mut self, len: usize) -> Moment {
        let outside = Moment {
            turn: self.turn,
            ..Moment::OUTSIDE
        };
        if self.served == 0 {
            return outside;
        }
        if self.together {
            self.bytes = self.bytes.saturating_add(len);
            if self.bytes > limits::BATCH_BYTES {
                return outside;
            }
        }
        Moment {
            turn: self.turn,
            event: self.events,
            together: self.together && !self.is_full(),
            since: self.since,
        }
    }

    /// Keeps a transport until what it holds has been offered; whether it answers an event of its own.
    pub(crate) fn add(&mut self, transport: Owned) -> bool {
        let is_its_own = transport.address() == self.served;
        if self.transports.is_empty() {
            // From when its event began: what a slow protocol has written does not wait for others.
            self.since = if self.together {
                self.ended
            } else {
                Clock::monotonic().now()
            };
        }
        self.transports.push(transport);
        is_its_own
    }

    /// Takes them all.
    #[must_use = "Python objects must be dropped when nothing is borrowed"]
    pub(crate) fn take(&mut self) -> Vec<Owned> {
        self.bytes = 0;
        std::mem::take(&mut self.transports)
    }

    /// Gives the room of a list back that has become empty.
    pub(crate) fn reuse(&mut self, room: Vec<Owned>) {
        if self.transports.capacity() == 0 && room.is_empty() {
            self.transports = room;
        }
    }

    /// Shows the collector every object that is held.
    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        for transport in &self.transports {
            visitor.object(transport);
        }
    }
}
