//! Whether a loop gets on, as seen by another thread.
//!
//! The thread looks every now and then at numbers that the loop changes anyway. It needs nothing of the loop's, and the
//! loop does nothing for it but to end its wait: while the loop sleeps for long, so does whoever watches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::futex;
use rustix::time::Timespec;

use crate::clock::{Clock, Time};
use crate::error::ignore;
use crate::limits::{LONGEST_WATCH_NAP, LOOKS_PER_STALL, SHORTEST_WATCH_NAP, STALL_END_NAP};
use crate::stats::{Doing, Stats};

/// What a watcher has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// The loop is awake and has not got on for longer than the limit.
    Stalled {
        /// What it is at: at work, or about to be.
        doing: Doing,
        /// Since when it is known not to get on.
        since: Time,
        /// Where it is; see [`Stats::progress`].
        progress: u64,
    },
    /// The stall that was told of is over.
    WentOn {
        /// How long it has lasted, as far as that was seen.
        took: Duration,
    },
    /// Nobody is to watch any more.
    Stopped,
}

/// What was seen of a loop so far.
#[derive(Debug, Default)]
pub struct Seen {
    progress: u64,
    /// When the loop was first seen where it is.
    since: Time,
    /// When it was seen last.
    looked: Time,
    /// For how long it was seen there. What was not seen, because nobody ran, does not count.
    stuck: Duration,
    was_awake: bool,
    is_told: bool,
}

impl Seen {
    /// The stall of the last sighting is about to be told of, at this time. How long the telling takes is not the loop's.
    pub const fn tell_at(&mut self, now: Time) {
        self.looked = now;
    }
}

/// Watches one loop.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use cloverleaf::{EventLoop, Seen, Sighting, Watcher};
///
/// let event_loop = EventLoop::new()?;
/// let watcher = Arc::new(Watcher::new(Arc::clone(event_loop.stats()), Duration::from_millis(20)));
/// let thread = std::thread::spawn({
///     let watcher = Arc::clone(&watcher);
///     move || watcher.wait(&mut Seen::default())
/// });
/// let stats = Arc::clone(event_loop.stats());
/// event_loop.call_soon(move |event_loop| {
///     while stats.stalls.get() == 0 {}
///     event_loop.stop();
/// });
/// event_loop.run_forever()?;
/// assert!(matches!(thread.join(), Ok(Sighting::Stalled { .. })));
/// # Ok::<(), cloverleaf::Error>(())
/// ```
#[derive(Debug)]
pub struct Watcher {
    stats: Arc<Stats>,
    limit: Duration,
    nap: Duration,
    /// Nonzero from the end on; a futex.
    is_over: AtomicU32,
}

impl Watcher {
    /// Of a loop whose stalls are to be told of when they have lasted for longer than `limit`. One that lasts for half as
    /// long again is not missed where the watching thread may run in time, and the limit is twice the shortest nap at least.
    pub fn new(stats: Arc<Stats>, limit: Duration) -> Self {
        Self {
            stats,
            limit,
            nap: (limit / LOOKS_PER_STALL).clamp(SHORTEST_WATCH_NAP, LONGEST_WATCH_NAP),
            is_over: AtomicU32::new(0),
        }
    }

    /// The numbers of the loop.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Ends the watch, from any thread, and a [`wait`](Self::wait) at once.
    pub fn stop(&self) {
        self.is_over.store(1, Ordering::SeqCst);
        // It fails for no number of threads, and nobody there is an answer, too.
        ignore(futex::wake(
            &self.is_over,
            futex::Flags::PRIVATE,
            u32::MAX >> 1,
        ));
        self.stats.call();
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst) != 0
    }

    /// Whether the loop is still where it was when a stall was seen.
    pub fn is_still_at(&self, progress: u64) -> bool {
        self.stats.doing().is_awake() && self.stats.progress() == progress
    }

    /// Waits until there is something to tell; each stall is told of once, and once its end, or that of the watch. One thread
    /// at a time watches.
    pub fn wait(&self, seen: &mut Seen) -> Sighting {
        if seen.is_told && !self.is_still_at(seen.progress) {
            // When, while it was told of, nobody has seen.
            return self.over(seen, seen.looked);
        }
        let clock = Clock::monotonic();
        while !self.is_over() {
            if let Some(sighting) = self.look(seen, clock.now()) {
                return sighting;
            }
        }
        if seen.is_told {
            return self.over(seen, clock.now());
        }
        Sighting::Stopped
    }

    /// What was told of is over, or nobody is to watch it any more.
    fn over(&self, seen: &mut Seen, now: Time) -> Sighting {
        let took = now.saturating_since(seen.since);
        self.stats.stalled(took);
        *seen = Seen::default();
        Sighting::WentOn { took }
    }

    /// Looks once, and waits until the next look is due.
    fn look(&self, seen: &mut Seen, now: Time) -> Option<Sighting> {
        // What the loop is at comes first: where it is, if it is awake, is then where it was, or further.
        let doing = self.stats.doing();
        let progress = self.stats.progress();
        let is_there_still = seen.was_awake && doing.is_awake() && progress == seen.progress;
        if seen.is_told && is_there_still {
            self.sleep(self.nap.min(STALL_END_NAP));
            return None;
        }
        if seen.is_told {
            return Some(self.over(seen, now));
        }
        if !doing.is_awake() {
            let is_at_rest = !seen.was_awake && progress == seen.progress;
            *seen = Seen {
                progress,
                ..Seen::default()
            };
            if is_at_rest {
                self.stats.wait(|| self.is_over());
            } else {
                self.sleep(self.nap);
            }
            return None;
        }
        if !is_there_still {
            *seen = Seen {
                progress,
                since: now,
                looked: now,
                was_awake: true,
                ..Seen::default()
            };
            self.sleep(self.nap);
            return None;
        }
        self.look_again(seen, now, doing)
    }

    /// The loop is where it was when it was looked at before.
    fn look_again(&self, seen: &mut Seen, now: Time, doing: Doing) -> Option<Sighting> {
        // A machine or a process that stands still keeps the loop from going on, which is then nobody's fault.
        seen.stuck += now.saturating_since(seen.looked).min(self.nap * 2);
        seen.looked = now;
        if seen.stuck >= self.limit {
            seen.is_told = true;
            self.stats.stalls.add_shared(1);
            return Some(Sighting::Stalled {
                doing,
                since: seen.since,
                progress: seen.progress,
            });
        }
        self.sleep(self.nap.min(self.limit.saturating_sub(seen.stuck)));
        None
    }

    /// Waits for so long, unless the watch ends.
    fn sleep(&self, time: Duration) {
        let time = Timespec::try_from(time).ok();
        // Whatever ends it, there is another look.
        ignore(futex::wait(
            &self.is_over,
            futex::Flags::PRIVATE,
            0,
            time.as_ref(),
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Longer than any machine stands still.
    const LONG: Duration = Duration::from_secs(600);

    fn watched(limit: Duration) -> (Arc<Stats>, Arc<Watcher>) {
        let stats = Arc::new(Stats::default());
        (Arc::clone(&stats), Arc::new(Watcher::new(stats, limit)))
    }

    fn at_ms(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_loop_that_does_not_get_on_is_told_of_once_and_once_when_it_goes_on() {
        let (stats, watcher) = watched(Duration::from_millis(4));
        let mut seen = Seen::default();
        stats.begin_run(at_ms(0));
        stats.jobs.add(1);
        let mut told = Vec::new();
        for ms in 1..=40 {
            told.extend(watcher.look(&mut seen, at_ms(ms)).map(|what| (ms, what)));
        }
        assert!(
            matches!(told[..], [(5, Sighting::Stalled { since, progress: 1, .. })] if since == at_ms(1)),
            "{told:?}"
        );
        assert!(watcher.is_still_at(1));
        stats.jobs.add(1);
        assert!(!watcher.is_still_at(1));
        let took = Duration::from_millis(40);
        assert_eq!(
            watcher.look(&mut seen, at_ms(41)),
            Some(Sighting::WentOn { took })
        );
        assert_eq!(stats.metrics(|| at_ms(0)).longest_stall, took);
        assert_eq!(stats.stalls.get(), 1);
    }

    #[test]
    fn how_long_the_telling_takes_is_not_the_stalls() {
        let (stats, watcher) = watched(Duration::from_millis(1));
        let mut seen = Seen::default();
        stats.begin_run(at_ms(0));
        let first = watcher.wait(&mut seen);
        assert!(matches!(first, Sighting::Stalled { .. }), "{first:?}");
        seen.tell_at(seen.looked);
        let took = seen.looked.saturating_since(seen.since);
        stats.jobs.add(1);
        assert_eq!(watcher.wait(&mut seen), Sighting::WentOn { took });
        assert_eq!(stats.metrics(|| at_ms(0)).longest_stall, took);
    }

    #[test]
    fn a_loop_that_gets_on_or_sleeps_is_never_told_of() {
        let (stats, watcher) = watched(Duration::from_millis(4));
        let mut seen = Seen::default();
        stats.begin_run(at_ms(0));
        for ms in 1..=40 {
            assert_eq!(watcher.look(&mut seen, at_ms(ms)), None);
            stats.jobs.add(1);
        }
        for ms in (41..=400).step_by(5) {
            // Each sleep is longer than the limit, and no job and no turn comes between two looks.
            assert_eq!(watcher.look(&mut seen, at_ms(ms)), None);
            stats.begin_sleep(at_ms(ms));
            stats.end_sleep(at_ms(ms + 5));
        }
        assert_eq!(stats.stalls.get(), 0);
    }

    #[test]
    fn time_in_which_nobody_looked_is_not_the_callbacks() {
        let (stats, watcher) = watched(Duration::from_millis(400));
        let mut seen = Seen::default();
        stats.begin_run(at_ms(0));
        watcher.stop(); // so that nothing is waited for between the looks
        assert_eq!(watcher.look(&mut seen, at_ms(1)), None);
        assert_eq!(watcher.look(&mut seen, at_ms(100_000)), None);
        assert_eq!(watcher.look(&mut seen, at_ms(100_100)), None);
        let found = watcher.look(&mut seen, at_ms(100_200));
        assert!(matches!(found, Some(Sighting::Stalled { .. })), "{found:?}");
    }

    #[test]
    fn the_end_of_a_sleep_ends_the_watchers_and_so_does_the_end_of_the_watch() {
        for stops in [false, true] {
            let (stats, watcher) = watched(LONG);
            stats.begin_run(at_ms(0));
            stats.begin_sleep(at_ms(1));
            let rests = {
                let stats = Arc::clone(&stats);
                let watcher = Arc::clone(&watcher);
                thread::spawn(move || stats.wait(|| watcher.is_over()))
            };
            if stops {
                watcher.stop();
            } else {
                stats.end_sleep(at_ms(2));
            }
            rests.join().expect("no panic");
        }
    }

    #[test]
    fn a_watch_that_is_ended_waits_for_nothing() {
        let (stats, watcher) = watched(LONG);
        stats.begin_run(at_ms(0));
        let waits = {
            let watcher = Arc::clone(&watcher);
            thread::spawn(move || watcher.wait(&mut Seen::default()))
        };
        watcher.stop();
        assert_eq!(waits.join().expect("no panic"), Sighting::Stopped);
    }

    #[test]
    fn a_stall_that_was_told_of_ends_with_the_watch_at_the_latest() {
        let (stats, watcher) = watched(Duration::from_millis(1));
        let mut seen = Seen::default();
        stats.begin_run(at_ms(0));
        let first = watcher.wait(&mut seen);
        assert!(matches!(first, Sighting::Stalled { .. }), "{first:?}");
        watcher.stop();
        let second = watcher.wait(&mut seen);
        assert!(matches!(second, Sighting::WentOn { .. }), "{second:?}");
        assert_eq!(watcher.wait(&mut seen), Sighting::Stopped);
    }
}
