//! What a loop has done so far, in numbers that any thread may read while it runs.
//!
//! Only the loop's thread writes, but for what says otherwise, so a count is a load, an addition and a store: nothing is
//! locked, and nothing waits. The clock is read where it was read anyway, and around sleeps. The times alone belong
//! together; a reader who comes in the midst of their change looks again.

mod times;
mod traffic;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::futex;

use crate::clock::Time;
pub use times::Doing;
use times::Times;
pub use traffic::{Traffic, TrafficMetrics};

/// How many limits a histogram has; what is beyond the last one counts, too.
const LIMITS: usize = 25;
/// The first limit is two to the power of so many nanoseconds, and each next one twice as much.
const FIRST_LIMIT_BITS: u32 = 10;

/// A number that one thread changes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it, in the one thread that may.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0
            .store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    /// The same for a number of things.
    #[inline]
    pub fn add_len(&self, more: usize) {
        self.add(more as u64);
    }

    /// Sets it, in the one thread that may.
    #[inline]
    pub fn set(&self, number: usize) {
        self.0.store(number as u64, Ordering::Relaxed);
    }

    /// Raises it to this, in the one thread that may.
    #[inline]
    fn raise_to(&self, number: u64) {
        if number > self.get() {
            self.0.store(number, Ordering::Relaxed);
        }
    }

    /// Adds to it in any thread, if all do it so.
    pub fn add_shared(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How late timers were.
#[derive(Debug, Default)]
struct Lag {
    counts: [Counter; LIMITS + 1],
    total: Counter,
    longest: Counter,
}

impl Lag {
    #[inline]
    fn note(&self, lag: u64) {
        let bits = u64::BITS - (lag.saturating_sub(1) >> FIRST_LIMIT_BITS).leading_zeros();
        self.counts[(bits as usize).min(LIMITS)].add(1);
        self.total.add(lag);
        self.longest.raise_to(lag);
    }
}

/// The times in nanoseconds that were told of last, by whichever thread.
///
/// The loop reads the clock a moment before it notes what it is at from then on. Whoever asks in between is told that it
/// was at the former thing until then, and that must not be taken back.
#[derive(Debug, Default)]
struct Told {
    busy: AtomicU64,
    asleep: AtomicU64,
}

impl Told {
    fn at_least(&self, (busy, asleep): (Duration, Duration)) -> (Duration, Duration) {
        let raise = |told: &AtomicU64, time: Duration| {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            Duration::from_nanos(told.fetch_max(nanos, Ordering::Relaxed).max(nanos))
        };
        (raise(&self.busy, busy), raise(&self.asleep, asleep))
    }
}

/// The numbers of one loop, which its parts add to.
#[derive(Debug, Default)]
pub struct Stats {
    /// Turns that have begun.
    pub turns: Counter,
    /// Jobs that have begun. With the turns and sleeps it tells whether a loop gets on.
    pub jobs: Counter,
    /// Jobs with which the present turn began.
    pub ready: Counter,
    /// The most that any turn began with.
    most_ready: Counter,
    /// Timers that waited when the loop has looked last.
    pub timers: Counter,
    /// Sources that were registered then.
    pub sources: Counter,
    /// What the kernel has reported.
    pub events: Counter,
    /// How often it was asked without a sleep.
    pub polls: Counter,
    /// How often the loop has slept.
    sleeps: Counter,
    /// Sleeps that another thread's job has ended.
    pub wakeups: Counter,
    /// Jobs that other threads have handed over.
    pub injected: Counter,
    /// Descriptors that transports and listeners had then, where there are any such.
    pub transports: Counter,
    /// What goes through them.
    pub traffic: Traffic,
    lag: Lag,
    times: Times,
    told: Told,
    /// Nonzero while somebody waits for the end of a sleep; a futex.
    waiting: AtomicU32,
    /// Stalls that were seen; added to by watchers alone.
    pub stalls: Counter,
    longest_stall: AtomicU64,
}

impl Stats {
    /// A turn begins with so many jobs.
    #[inline]
    pub fn begin_turn(&self, ready: usize) {
        self.turns.add(1);
        self.ready.set(ready);
        self.most_ready.raise_to(ready as u64);
    }

    /// A timer is taken up at this time.
    #[inline]
    pub fn fired(&self, deadline: Time, now: Time) {
        self.lag
            .note(now.as_nanos().saturating_sub(deadline.as_nanos()));
    }

    /// A run begins.
    pub fn begin_run(&self, now: Time) {
        self.awake(Doing::Working, now);
    }

    /// A run has ended.
    pub fn end_run(&self, now: Time) {
        self.times.change(Doing::Stopped, now);
    }

    /// The loop is about to sleep.
    #[inline]
    pub fn begin_sleep(&self, now: Time) {
        self.sleeps.add(1);
        self.times.change(Doing::Asleep, now);
    }

    /// It has slept. If it needs more than that to go on, it says by [`go_on`](Self::go_on) that it has got it.
    #[inline]
    pub fn end_sleep(&self, now: Time) {
        self.awake(Doing::Awaking, now);
    }

    /// The loop waits for what it needs to go on.
    #[inline]
    pub fn hold_on(&self) {
        self.times.now_at(Doing::Awaking);
    }

    /// The loop goes on.
    #[inline]
    pub fn go_on(&self) {
        self.times.now_at(Doing::Working);
    }

    #[inline]
    fn awake(&self, doing: Doing, now: Time) {
        self.times.change(doing, now);
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.call();
        }
    }

    /// Ends every [`wait`](Self::wait).
    #[cold]
    pub fn call(&self) {
        self.waiting.store(0, Ordering::SeqCst);
        // It fails for no number of threads, and nobody there is an answer, too.
        crate::ignore(futex::wake(
            &self.waiting,
            futex::Flags::PRIVATE,
            u32::MAX >> 1,
        ));
    }

    /// Waits until the loop is awake, or somebody has called; not at all if `is_over`, which is asked after whoever calls
    /// would be heard.
    pub fn wait(&self, is_over: impl FnOnce() -> bool) {
        self.waiting.store(1, Ordering::SeqCst);
        if !self.times.doing().is_awake() && !is_over() {
            // Whatever ends it, the caller looks again.
            crate::ignore(futex::wait(&self.waiting, futex::Flags::PRIVATE, 1, None));
        }
    }

    /// What the loop is at.
    pub fn doing(&self) -> Doing {
        self.times.doing()
    }

    /// A number that changes whenever the loop gets on.
    pub fn progress(&self) -> u64 {
        let awake = self.turns.get().wrapping_add(self.jobs.get());
        awake.wrapping_add(self.sleeps.get())
    }

    /// A stall is over that has lasted for so long.
    pub fn stalled(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.longest_stall.fetch_max(took, Ordering::Relaxed);
    }

    /// All of it, by now.
    pub fn metrics(&self, now: impl Fn() -> Time) -> Metrics {
        let (busy, asleep) = self.told.at_least(self.times.until(now));
        let lag = self.lag.counts.each_ref().map(Counter::get);
        Metrics {
            turns: self.turns.get(),
            jobs: self.jobs.get(),
            ready: self.ready.get(),
            most_ready: self.most_ready.get(),
            timers_fired: lag.iter().sum(),
            timers_pending: self.timers.get(),
            sources: self.sources.get(),
            events: self.events.get(),
            polls: self.polls.get(),
            sleeps: self.sleeps.get(),
            wakeups: self.wakeups.get(),
            injected: self.injected.get(),
            busy,
            asleep,
            timer_lag: Histogram {
                counts: lag,
                total: Duration::from_nanos(self.lag.total.get()),
                longest: Duration::from_nanos(self.lag.longest.get()),
            },
            transports: self.transports.get(),
            traffic: self.traffic.by_now(),
            stalls: self.stalls.get(),
            longest_stall: Duration::from_nanos(self.longest_stall.load(Ordering::Relaxed)),
        }
    }
}

/// What a loop has done since it was made, and what it had before it when it was asked; see
/// [`EventLoop::metrics`](crate::EventLoop::metrics).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Turns that have begun.
    pub turns: u64,
    /// Jobs that have begun: callbacks, polls of tasks, events.
    pub jobs: u64,
    /// Jobs with which the last turn began.
    pub ready: u64,
    /// The most jobs that any turn began with.
    pub most_ready: u64,
    /// Timers that were taken up.
    pub timers_fired: u64,
    /// Timers that wait.
    pub timers_pending: u64,
    /// Who hears of descriptors and of operations.
    pub sources: u64,
    /// What the kernel has reported.
    pub events: u64,
    /// How often it was asked without a sleep.
    pub polls: u64,
    /// How often the loop has slept.
    pub sleeps: u64,
    /// Sleeps that another thread's job has ended.
    pub wakeups: u64,
    /// Jobs that other threads have handed over.
    pub injected: u64,
    /// Time in which the loop ran and did not sleep.
    pub busy: Duration,
    /// Time for which it has slept in the kernel.
    pub asleep: Duration,
    /// How long after its deadline each timer was taken up.
    pub timer_lag: Histogram,
    /// Descriptors that transports and listeners have, in a loop that has such.
    pub transports: u64,
    /// What has gone through them.
    pub traffic: TrafficMetrics,
    /// Stalls that a [`Watcher`](crate::Watcher) has seen.
    pub stalls: u64,
    /// The longest of those that are over.
    pub longest_stall: Duration,
}

/// How many of some times were how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; LIMITS + 1],
    total: Duration,
    longest: Duration,
}

impl Histogram {
    /// How many were no longer than each limit but longer than the one before; the last limit is [`Duration::MAX`].
    pub fn counts(&self) -> impl Iterator<Item = (Duration, u64)> {
        let limits = (FIRST_LIMIT_BITS..).map(|bits| Duration::from_nanos(1 << bits));
        limits
            .take(LIMITS)
            .chain([Duration::MAX])
            .zip(self.counts.iter().copied())
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub const fn total(&self) -> Duration {
        self.total
    }

    /// The longest.
    pub const fn longest(&self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn a_lag_is_counted_under_the_first_limit_that_it_does_not_exceed() {
        let stats = Stats::default();
        for lag in [
            0,
            1,
            1024,
            1025,
            2048,
            2049,
            1 << 34,
            (1 << 34) + 1,
            u64::MAX,
        ] {
            stats.fired(at(0), at(lag));
        }
        let histogram = stats.metrics(|| at(0)).timer_lag;
        let counts: Vec<_> = histogram.counts().collect();
        assert_eq!(counts.len(), LIMITS + 1);
        assert_eq!(counts[0], (Duration::from_nanos(1024), 3));
        assert_eq!(counts[1], (Duration::from_nanos(2048), 2));
        assert_eq!(counts[2].1, 1);
        assert_eq!(counts[LIMITS - 1], (Duration::from_nanos(1 << 34), 1));
        assert_eq!(counts[LIMITS], (Duration::MAX, 2));
        assert_eq!(histogram.count(), 9);
        assert_eq!(histogram.longest(), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn time_is_busy_or_asleep_only_while_the_loop_runs() {
        let stats = Stats::default();
        let spent = |now| {
            let metrics = stats.metrics(|| at(now));
            (metrics.busy.as_nanos(), metrics.asleep.as_nanos())
        };
        assert_eq!(spent(50), (0, 0));
        stats.begin_run(at(100));
        assert_eq!(spent(110), (10, 0), "in the midst of it");
        stats.begin_sleep(at(120));
        assert_eq!(spent(150), (20, 30));
        stats.end_sleep(at(160));
        stats.go_on();
        assert_eq!(spent(161), (21, 40));
        stats.end_run(at(170));
        assert_eq!(spent(999), (30, 40));
    }

    #[test]
    fn time_that_was_told_of_is_not_taken_back() {
        let stats = Stats::default();
        let spent = |now| {
            let metrics = stats.metrics(|| at(now));
            (metrics.busy.as_nanos(), metrics.asleep.as_nanos())
        };
        stats.begin_run(at(0));
        assert_eq!(spent(100), (100, 0));
        // The clock was read before that, and the change is noted after it.
        stats.begin_sleep(at(60));
        assert_eq!(spent(130), (100, 70));
        stats.end_sleep(at(120));
        assert_eq!(spent(140), (100, 70));
        assert_eq!(spent(200), (140, 70));
    }

    #[test]
    fn times_that_another_thread_reads_belong_together() {
        /// Later than the writer comes.
        const END: u64 = 1 << 50;
        let stats = Stats::default();
        let is_over = AtomicU32::new(0);
        stats.begin_run(at(0));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut sums, mut changes, mut last) = (Vec::new(), 0, Duration::ZERO);
                while changes < 200 {
                    let (busy, asleep) = stats.times.until(|| at(END));
                    sums.push(busy + asleep);
                    changes += u32::from(busy != last);
                    last = busy;
                }
                is_over.store(1, Ordering::Release);
                sums
            });
            let mut now = 0;
            while is_over.load(Ordering::Acquire) == 0 {
                stats.begin_sleep(at(now + 10));
                stats.end_sleep(at(now + 20));
                now += 20;
            }
            // Whatever the time was spent on, all of it was spent on something.
            let sums = reader.join().expect("no panic");
            let whole = Duration::from_nanos(END);
            assert_eq!(
                sums.iter().find(|sum| **sum != whole),
                None,
                "half of a change"
            );
        });
    }
}
