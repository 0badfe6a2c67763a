//! When a loop that never sleeps lets other threads run Python.
//!
//! A loop that sleeps lets go of Python each time. One that always has something ready would keep the others out for the
//! interpreter's switch interval, 5 ms, each time that one of them needs Python. So it lets go of it now and then, for
//! as long as asking the kernel takes: often enough that they wait for microseconds, and so seldom that it costs a
//! hundredth. A loop whose thread is the only one that Python knows counts its turns, and looks every few
//! of them whether it still is.

use cloverleaf::{Clock, Time, limits};

/// Counts the turns from one time to the next, as many as are likely to take `limits::GIVE_WAY`.
#[derive(Debug)]
pub(crate) struct GiveWay {
    /// Turns until then; never zero.
    left: u32,
    /// How many turns there are from one time to the next; never zero.
    stride: u32,
    /// The last time, before which the length of turns is not known.
    since: Time,
}

impl Default for GiveWay {
    fn default() -> Self {
        Self {
            left: 1,
            stride: 1,
            since: Time::ORIGIN,
        }
    }
}

impl GiveWay {
    /// Counts a turn; whether others should be let in now, if there are any.
    #[inline]
    pub(crate) const fn is_due(&mut self) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        self.left = self.stride;
        true
    }

    /// Whether the next turn is the one in which others should be let in, if there are any.
    #[inline]
    pub(crate) const fn comes_next(&self) -> bool {
        self.left <= 1
    }

    /// Says that there are no others.
    pub(crate) const fn spared(&mut self) {
        self.left = limits::ALONE_TURNS;
    }

    /// Says that others have been let in, and decides when they are next.
    pub(crate) fn given(&mut self) {
        let now = Clock::monotonic().now();
        let took = now.saturating_since(self.since).as_nanos().max(1);
        let stride = limits::GIVE_WAY.as_nanos() * u128::from(self.stride) / took;
        self.stride = u32::try_from(stride)
            .unwrap_or(limits::GIVE_WAY_TURNS)
            .clamp(1, limits::GIVE_WAY_TURNS);
        self.left = self.stride;
        self.since = now;
    }
}
