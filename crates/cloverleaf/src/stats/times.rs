//! How a loop's time was spent, which any thread may ask at any moment.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

use super::Counter;
use crate::clock::Time;

/// What a loop is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Doing {
    /// Nobody runs it.
    Stopped = 0,
    /// It sleeps in the kernel.
    Asleep = 1,
    /// It is awake, and waits until it may go on.
    Awaking = 2,
    /// It works.
    Working = 3,
}

impl Doing {
    /// Whether it runs and does not sleep.
    pub fn is_awake(self) -> bool {
        matches!(self, Self::Awaking | Self::Working)
    }

    fn of(number: u32) -> Self {
        match number {
            0 => Self::Stopped,
            1 => Self::Asleep,
            2 => Self::Awaking,
            _ => Self::Working,
        }
    }
}

/// How a loop's time was spent.
///
/// There are two accounts, of which one is valid while the other is written. So a reader never waits for a writer that has
/// lost the processor, or was left behind by a fork.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// The number of changes; its last bit says which account is valid.
    version: AtomicU32,
    accounts: [Account; 2],
    doing: AtomicU32,
}

/// How it was spent until some time.
#[derive(Debug, Default)]
struct Account {
    /// What the loop has been at since then.
    doing: AtomicU32,
    since: Counter,
    busy: Counter,
    asleep: Counter,
}

impl Account {
    /// Time spent busy and asleep until now.
    fn until(&self, now: u64) -> (u64, u64) {
        let lasts = now.saturating_sub(self.since.get());
        let (busy, asleep) = (self.busy.get(), self.asleep.get());
        match Doing::of(self.doing.load(Ordering::Relaxed)) {
            Doing::Stopped => (busy, asleep),
            Doing::Asleep => (busy, asleep + lasts),
            Doing::Awaking | Doing::Working => (busy + lasts, asleep),
        }
    }

    fn write(&self, doing: Doing, since: u64, (busy, asleep): (u64, u64)) {
        self.doing.store(doing as u32, Ordering::Relaxed);
        self.since.0.store(since, Ordering::Relaxed);
        self.busy.0.store(busy, Ordering::Relaxed);
        self.asleep.0.store(asleep, Ordering::Relaxed);
    }
}

impl Times {
    /// The account that is valid with this number of changes, or that is to be.
    fn account(&self, version: u32) -> &Account {
        &self.accounts[(version & 1) as usize]
    }

    /// The loop is at something else from now on.
    pub(super) fn change(&self, doing: Doing, now: Time) {
        let now = now.as_nanos();
        let version = self.version.load(Ordering::Relaxed);
        let next = version.wrapping_add(1);
        let spent = self.account(version).until(now);
        // Whoever sees any of what follows sees that the other account is valid, and not this one.
        fence(Ordering::Release);
        self.account(next).write(doing, now, spent);
        self.version.store(next, Ordering::Release);
        // Before it looks whether anybody waits for this: either it sees him, or he sees this.
        self.doing.swap(doing as u32, Ordering::SeqCst);
    }

    /// The same, if the time counts as before.
    #[inline]
    pub(super) fn now_at(&self, doing: Doing) {
        self.doing.store(doing as u32, Ordering::Relaxed);
    }

    /// What it is at. Whoever has asked for its next change is told of it, or sees it here.
    pub(super) fn doing(&self) -> Doing {
        Doing::of(self.doing.load(Ordering::SeqCst))
    }

    /// Time spent busy and asleep until now.
    pub(super) fn until(&self, now: impl Fn() -> Time) -> (Duration, Duration) {
        loop {
            let version = self.version.load(Ordering::Acquire);
            let (busy, asleep) = self.account(version).until(now().as_nanos());
            fence(Ordering::Acquire);
            // Else it may have been written to meanwhile, and the next one is there.
            if version == self.version.load(Ordering::Relaxed) {
                return (Duration::from_nanos(busy), Duration::from_nanos(asleep));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_is_never_finished_keeps_nobody_waiting() {
        let times = Times::default();
        times.change(Doing::Working, Time::from_nanos(100));
        // As a fork leaves it in the child.
        let next = times.account(times.version.load(Ordering::Relaxed) + 1);
        next.write(Doing::Asleep, 7, (8, 9));
        let (busy, asleep) = times.until(|| Time::from_nanos(101));
        assert_eq!((busy.as_nanos(), asleep.as_nanos()), (1, 0));
    }
}
