//! Who has written, while an event was served, what the kernel has not been offered yet; see `transport/held.rs`.

use std::time::Duration;

use cloverleaf::{Clock, Time, limits};

use crate::ffi::{Owned, Visitor};

/// Where a write finds itself in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The number of the event that is being served, or zero if none is.
    pub(crate) event: u64,
    /// When the first write that is held was made.
    since: Time,
}

impl Moment {
    /// No event is being served, or by another thread.
    pub(crate) const OUTSIDE: Self = Self {
        event: 0,
        since: Time::ORIGIN,
    };

    /// Whether what is held has been held long enough.
    pub(crate) fn is_late(self) -> bool {
        let held = Clock::monotonic().now().saturating_since(self.since);
        held >= Duration::from_micros(limits::LONGEST_HOLD_MICROS)
    }
}

/// The transports whose writes are held.
#[derive(Debug, Default)]
pub(crate) struct Held {
    events: u64,
    serves: bool,
    transports: Vec<Owned>,
    since: Time,
}

impl Held {
    /// An event is about to be served: what its protocol writes may be held.
    pub(crate) const fn begin_event(&mut self) {
        self.events += 1;
        self.serves = true;
    }

    /// The event has been served, so nothing more is held; whether something is.
    pub(crate) const fn end_event(&mut self) -> bool {
        self.serves = false;
        !self.transports.is_empty()
    }

    /// This moment.
    pub(crate) const fn moment(&self) -> Moment {
        if self.serves {
            Moment {
                event: self.events,
                since: self.since,
            }
        } else {
            Moment::OUTSIDE
        }
    }

    /// Keeps a transport until what it holds has been offered.
    pub(crate) fn add(&mut self, transport: Owned) {
        if self.transports.is_empty() {
            self.since = Clock::monotonic().now();
        }
        self.transports.push(transport);
    }

    /// Takes them all.
    #[must_use = "Python objects must be dropped when nothing is borrowed"]
    pub(crate) fn take(&mut self) -> Vec<Owned> {
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
