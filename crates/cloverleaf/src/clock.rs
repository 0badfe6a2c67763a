//! The loop's time: nanoseconds on a clock that never goes back.
//!
//! [`Clock::monotonic`] reads `CLOCK_MONOTONIC` (`clock_gettime(2)`), the clock of Python's `time.monotonic` and of
//! `epoll_wait(2)`. [`ManualClock`] stands still until a test moves it.

use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sys::monotonic;

/// A point in time, in nanoseconds since its clock's origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin of every clock.
    pub const ORIGIN: Self = Self(0);
    /// The end of time, some 584 years after the origin.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The earliest point that [`as_secs`](Self::as_secs) does not show as earlier than `secs`.
    ///
    /// A deadline made this way is never early for a user who compares floating-point seconds. Negative numbers
    /// and NaN give the origin, numbers past the end of time give [`Time::NEVER`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float-to-int cast saturates, which is what is asked for at both ends"
    )]
    pub fn from_secs_ceil(secs: f64) -> Self {
        let nanos = (secs * 1e9).ceil() as u64;
        let time = Self(nanos);
        if time.as_secs() < secs {
            Self(nanos.saturating_add(1))
        } else {
            time
        }
    }

    /// Seconds since the origin.
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits hold nanoseconds for 104 days, microseconds for ages"
    )]
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// Where a loop gets its time from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The kernel's monotonic clock.
    #[default]
    Monotonic,
    /// A clock that a test moves.
    Manual(ManualClock),
}

impl Clock {
    /// The kernel's monotonic clock.
    pub const fn monotonic() -> Self {
        Self::Monotonic
    }

    /// The present time.
    pub fn now(&self) -> Time {
        match self {
            Self::Monotonic => monotonic_now(),
            Self::Manual(clock) => clock.now(),
        }
    }
}

fn monotonic_now() -> Time {
    let (seconds, nanos) = monotonic();
    Time(seconds * 1_000_000_000 + nanos)
}

/// A clock that stands still until it is told to advance; its clones share one time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock at the origin.
    pub fn new() -> Self {
        Self::default()
    }

    /// The present time.
    pub fn now(&self) -> Time {
        Time(self.0.load(Ordering::Acquire))
    }

    /// Moves this clock and its clones forward.
    pub fn advance(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::AcqRel);
    }

    /// Moves this clock and its clones forward to a point in time; nothing happens if they are past it.
    pub fn advance_to(&self, time: Time) {
        self.0.fetch_max(time.0, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_shown_as_earlier_than_what_was_asked() {
        let mut secs = 0.000_000_1_f64;
        for _ in 0..2_000 {
            assert!(Time::from_secs_ceil(secs).as_secs() >= secs, "{secs}");
            secs = secs.mul_add(1.013, 1e-9);
        }
    }

    #[test]
    fn odd_numbers_of_seconds_saturate() {
        assert_eq!(Time::from_secs_ceil(-1.0), Time::ORIGIN);
        assert_eq!(Time::from_secs_ceil(f64::NAN), Time::ORIGIN);
        assert_eq!(Time::from_secs_ceil(f64::INFINITY), Time::NEVER);
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new();
        let seen = Clock::Manual(clock.clone());
        assert_eq!(seen.now(), Time::ORIGIN);
        clock.advance(Duration::from_millis(5));
        assert_eq!(seen.now(), Time::from_nanos(5_000_000));
    }

    #[test]
    fn a_manual_clock_moves_to_a_time_and_never_back() {
        let clock = ManualClock::new();
        clock.advance_to(Time::from_nanos(9));
        clock.advance_to(Time::from_nanos(4));
        assert_eq!(clock.now(), Time::from_nanos(9));
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let clock = Clock::monotonic();
        let earlier = clock.now();
        assert!(clock.now() >= earlier);
    }
}
