//! When it pays to stay awake for what another thread is about to bring.
//!
//! To wake a thread that sleeps on another processor takes an interrupt there. In a virtual machine, whose host has a hand
//! in each of those, a hop to a thread and back costs ten times what it costs on one processor. So a loop that waits for a
//! short task, and a thread that has just ended one, look for a moment whether anything comes before they sleep, if
//!
//! - they run on different processors: on a shared one, who looks keeps from running who is looked for;
//! - the last tasks, or the pauses between two, were short, which is seen without looking;
//! - waking was seen to be dear. Nobody looks for longer than a hop with two sleeps would have cost.
//!
//! A look that was in vain counts as much as four that were not. Who never sleeps also has no claim to be run at once where
//! others want the processor, and is missed by who looks for it; so after a look in which the processor was taken away,
//! nobody looks for a while, the longer the oftener that happens.
//!
//! All of this is a hint, never locked; what threads count at the same moment may be off by one.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::limits::{DEAR_WAKE, LONGEST_LOOK, LONGEST_REST, LOOK_PER_WAKE, SHORTEST_REST, STOPPED};
use crate::sys::processor;

/// A processor that is not known.
const NOWHERE: u32 = u32::MAX;

/// How often one looks before one asks the clock.
const LOOKS: u32 = 16;

/// How often of late something was short enough to look for it.
#[derive(Debug, Default)]
struct Trust(AtomicU8);

impl Trust {
    const ENOUGH: u8 = 4;
    const MOST: u8 = 16;
    const LOST: u8 = 4;

    fn note(&self, was_short: bool) {
        let trust = self.0.load(Ordering::Relaxed);
        let trust = if was_short {
            trust.saturating_add(1).min(Self::MOST)
        } else {
            trust.saturating_sub(Self::LOST)
        };
        self.0.store(trust, Ordering::Relaxed);
    }

    fn is_enough(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Self::ENOUGH
    }
}

/// When nobody looks, because the processor was taken away from who did.
#[derive(Debug)]
struct Rest {
    /// When it ends, in nanoseconds.
    until: AtomicU64,
    /// How long it is, or was.
    length: AtomicU64,
}

impl Rest {
    const fn new() -> Self {
        Self {
            until: AtomicU64::new(0),
            length: AtomicU64::new(nanos(SHORTEST_REST)),
        }
    }

    /// The processor was taken away just now.
    fn begin(&self, now: u64) {
        let length = self.length.load(Ordering::Relaxed);
        let went_well = now.saturating_sub(self.until.load(Ordering::Relaxed));
        let length = if went_well < length * Self::WELL {
            length * 2
        } else {
            length / 2
        };
        let length = length.clamp(nanos(SHORTEST_REST), nanos(LONGEST_REST));
        self.length.store(length, Ordering::Relaxed);
        self.until.store(now + length, Ordering::Relaxed);
    }

    /// Looking for so many times as long as the last rest took shows that it is of use.
    const WELL: u64 = 32;

    fn is_over(&self) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until == 0 || now() >= until
    }
}

/// How the tasks of a pool follow each other, and where.
#[derive(Debug)]
pub(super) struct Pace {
    /// The processor that a thread runs on.
    processor: fn() -> Option<u32>,
    /// That on which the last task was submitted.
    submitter: AtomicU32,
    /// That on which a task was run last.
    worker: AtomicU32,
    /// How many tasks were submitted.
    begun: AtomicU32,
    /// How many of them have ended.
    ended: AtomicU32,
    /// How many had ended when the loop last began to look.
    ended_before_look: AtomicU32,
    /// When the last one ended, in nanoseconds.
    ended_at: AtomicU64,
    /// What it takes to wake a thread on another processor, in nanoseconds; the mean of the last times.
    wake: AtomicU64,
    tasks: Trust,
    pauses: Trust,
    rest: Rest,
}

impl Pace {
    /// Of a pool without a task yet.
    pub(super) const fn new() -> Self {
        Self::on(processor)
    }

    const fn on(processor: fn() -> Option<u32>) -> Self {
        Self {
            processor,
            submitter: AtomicU32::new(NOWHERE),
            worker: AtomicU32::new(NOWHERE),
            begun: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            ended_before_look: AtomicU32::new(u32::MAX),
            ended_at: AtomicU64::new(0),
            wake: AtomicU64::new(0),
            tasks: Trust(AtomicU8::new(0)),
            pauses: Trust(AtomicU8::new(0)),
            rest: Rest::new(),
        }
    }

    /// Notes that a task is submitted.
    pub(super) fn submit(&self) {
        let here = (self.processor)().unwrap_or(NOWHERE);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.submitter.store(here, Ordering::Relaxed);
        if are_apart(here, self.worker.load(Ordering::Relaxed)) {
            let pause = now().saturating_sub(self.ended_at.load(Ordering::Relaxed));
            self.pauses.note(pause <= self.limit());
        }
    }

    /// Notes that it was taken back.
    pub(super) fn take_back(&self) {
        self.begun.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes a thread, and sees what that takes if it sleeps on another processor.
    pub(super) fn wake(&self, wake: impl FnOnce()) {
        let here = self.submitter.load(Ordering::Relaxed);
        if !are_apart(here, self.worker.load(Ordering::Relaxed)) {
            return wake();
        }
        let began = now();
        wake();
        // Who was stopped on the way has seen more than the wake.
        let took = now().saturating_sub(began).min(nanos(LONGEST_LOOK));
        let known = self.wake.load(Ordering::Relaxed);
        let mean = if known == 0 {
            took
        } else {
            known - known / 8 + took / 8
        };
        self.wake.store(mean, Ordering::Relaxed);
    }

    /// Runs a task.
    pub(super) fn run(&self, task: impl FnOnce()) {
        let here = (self.processor)().unwrap_or(NOWHERE);
        self.worker.store(here, Ordering::Relaxed);
        if are_apart(here, self.submitter.load(Ordering::Relaxed)) {
            let began = now();
            task();
            let ended = now();
            self.ended_at.store(ended, Ordering::Relaxed);
            let took = ended.saturating_sub(began);
            self.tasks.note(took <= self.limit());
        } else {
            task();
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// For how long a thread that has just ended a task looks for the next one.
    pub(super) fn patience_for_tasks(&self) -> Duration {
        if self.pauses.is_enough() && self.is_elsewhere(&self.submitter) && self.rest.is_over() {
            Duration::from_nanos(self.limit())
        } else {
            Duration::ZERO
        }
    }

    /// Looks for a task.
    pub(super) fn look_for_task(&self, patience: Duration, has_come: impl FnMut() -> bool) {
        if !self.look(patience, has_come) {
            self.pauses.note(false);
        }
    }

    /// For how long a loop looks for what comes of its tasks.
    #[inline]
    pub(super) fn patience_for_answer(&self) -> Duration {
        if self.tasks.is_enough()
            && self.begun.load(Ordering::Relaxed) != self.ended.load(Ordering::Relaxed)
            && self.is_elsewhere(&self.worker)
            && self.rest.is_over()
        {
            Duration::from_nanos(self.limit())
        } else {
            Duration::ZERO
        }
    }

    /// Looks for what comes of a task; whether anything came.
    pub(super) fn look_for_answer(
        &self,
        patience: Duration,
        has_come: impl FnMut() -> bool,
    ) -> bool {
        let ended = self.ended.load(Ordering::Relaxed);
        // Whatever has ended the look before, it was no task: one of them takes long.
        if self.ended_before_look.swap(ended, Ordering::Relaxed) == ended {
            self.tasks.note(false);
        }
        self.look(patience, has_come)
    }

    /// Looks whether something has come, for so long at most.
    fn look(&self, patience: Duration, mut has_come: impl FnMut() -> bool) -> bool {
        let began = now();
        let mut time = began;
        let mut came = false;
        while !came && time.saturating_sub(began) <= nanos(patience) {
            for _ in 0..LOOKS {
                came = has_come();
                if came {
                    break;
                }
                spin_loop();
            }
            time = now();
        }
        if time.saturating_sub(began) > nanos(STOPPED) {
            self.rest.begin(time);
        }
        came
    }

    fn is_elsewhere(&self, other: &AtomicU32) -> bool {
        let here = (self.processor)().unwrap_or(NOWHERE);
        are_apart(here, other.load(Ordering::Relaxed))
    }

    /// For how long it pays to look, in nanoseconds; zero if waking is not dear.
    fn limit(&self) -> u64 {
        let wake = self.wake.load(Ordering::Relaxed);
        if wake < nanos(DEAR_WAKE) {
            0
        } else {
            (wake * LOOK_PER_WAKE).min(nanos(LONGEST_LOOK))
        }
    }
}

const fn are_apart(one: u32, other: u32) -> bool {
    one != other && one != NOWHERE && other != NOWHERE
}

#[expect(clippy::cast_possible_truncation, reason = "a limit is no 584 years")]
const fn nanos(limit: Duration) -> u64 {
    limit.as_nanos() as u64
}

fn now() -> u64 {
    Clock::monotonic().now().as_nanos()
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local!(static HERE: Cell<Option<u32>> = const { Cell::new(None) });

    /// As if each thread had a processor of its own.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of `processor`")]
    fn own_processor() -> Option<u32> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let own = HERE
            .get()
            .unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed));
        HERE.set(Some(own));
        Some(own)
    }

    /// Of threads that all have processors of their own, and are dear to wake.
    pub(in super::super) fn apart() -> Pace {
        let pace = Pace::on(own_processor);
        pace.have_looked_for();
        pace
    }

    impl Pace {
        /// Makes the next thread that ends a task look for another, whatever it has seen.
        pub(in super::super) fn have_looked_for(&self) {
            self.wake.store(nanos(LONGEST_LOOK), Ordering::Relaxed);
            self.pauses.0.store(Trust::MOST, Ordering::Relaxed);
        }

        /// Ends the rest after a look in which the processor was taken away, as it often is on a busy machine.
        pub(in super::super) fn end_rest(&self) {
            self.rest.until.store(0, Ordering::Relaxed);
        }
    }

    /// Of a thread that has run so many short tasks, on a processor of its own, and is at the next.
    fn after_short_tasks(count: u32) -> Pace {
        let pace = apart();
        pace.worker.store(NOWHERE - 1, Ordering::Relaxed);
        for _ in 0..count {
            pace.submit();
            pace.tasks.note(true);
            pace.ended.fetch_add(1, Ordering::Relaxed);
        }
        pace.submit();
        pace
    }

    #[test]
    fn a_loop_looks_for_the_answer_to_a_short_task() {
        assert_eq!(after_short_tasks(3).patience_for_answer(), Duration::ZERO);
        assert_eq!(after_short_tasks(4).patience_for_answer(), LONGEST_LOOK);
    }

    #[test]
    fn nobody_looks_who_waits_for_nothing() {
        let pace = after_short_tasks(16);
        pace.take_back();
        assert_eq!(pace.patience_for_answer(), Duration::ZERO);
    }

    #[test]
    fn nobody_looks_on_a_shared_processor() {
        let pace = after_short_tasks(16);
        pace.have_looked_for();
        let here = pace.submitter.load(Ordering::Relaxed);
        pace.worker.store(here, Ordering::Relaxed);
        assert_eq!(pace.patience_for_answer(), Duration::ZERO);
        assert_eq!(pace.patience_for_tasks(), Duration::ZERO);
        pace.submitter.store(NOWHERE - 1, Ordering::Relaxed);
        assert_eq!(pace.patience_for_tasks(), LONGEST_LOOK);
    }

    #[test]
    fn nobody_looks_where_waking_is_cheap() {
        let pace = after_short_tasks(16);
        pace.wake.store(nanos(DEAR_WAKE) - 1, Ordering::Relaxed);
        assert_eq!(pace.patience_for_answer(), Duration::ZERO);
        pace.wake.store(nanos(DEAR_WAKE), Ordering::Relaxed);
        assert_eq!(pace.patience_for_answer(), DEAR_WAKE * 4);
    }

    #[test]
    fn nobody_looks_for_a_task_that_takes_long() {
        let pace = after_short_tasks(16);
        let mut looks = 0;
        while !pace.patience_for_answer().is_zero() {
            // Something else ends each look.
            assert!(pace.look_for_answer(LONGEST_LOOK, || true));
            looks += 1;
            assert!(looks < 10, "looks for ever");
        }
    }

    #[test]
    fn a_look_that_a_task_has_ended_was_not_in_vain() {
        let pace = after_short_tasks(4);
        for _ in 0..100 {
            assert!(pace.look_for_answer(LONGEST_LOOK, || true));
            pace.ended.fetch_add(1, Ordering::Relaxed);
            pace.submit();
        }
        pace.end_rest();
        assert_eq!(pace.patience_for_answer(), LONGEST_LOOK);
    }

    #[test]
    fn a_thread_stops_looking_for_tasks_that_do_not_come() {
        let pace = apart();
        pace.submitter.store(NOWHERE - 1, Ordering::Relaxed);
        let mut looks = 0;
        while !pace.patience_for_tasks().is_zero() {
            pace.look_for_task(Duration::ZERO, || false);
            pace.end_rest();
            looks += 1;
        }
        assert_eq!(looks, 4);
    }

    /// Any machine may take the processor away for a moment, so only what follows from it is looked at.
    #[test]
    fn nobody_looks_for_a_while_after_a_look_that_was_interrupted() {
        let pace = after_short_tasks(16);
        let end = now() + 2 * nanos(STOPPED);
        let has_come = || {
            while now() < end {}
            true
        };
        assert!(pace.look_for_answer(LONGEST_LOOK, has_come));
        assert!(pace.rest.until.load(Ordering::Relaxed) >= end);
        pace.rest.until.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(pace.patience_for_answer(), Duration::ZERO);
        pace.have_looked_for();
        pace.submitter.store(NOWHERE - 1, Ordering::Relaxed);
        assert_eq!(pace.patience_for_tasks(), Duration::ZERO);
        pace.rest.until.store(0, Ordering::Relaxed);
        assert_eq!(pace.patience_for_answer(), LONGEST_LOOK);
        assert_eq!(pace.patience_for_tasks(), LONGEST_LOOK);
    }

    #[test]
    fn rests_are_the_longer_the_oftener_a_look_is_interrupted() {
        let rest = Rest::new();
        let mut time = nanos(LONGEST_REST) * 100;
        rest.begin(time);
        let mut lengths = Vec::new();
        for _ in 0..12 {
            time = rest.until.load(Ordering::Relaxed) + 1;
            rest.begin(time);
            lengths.push((rest.until.load(Ordering::Relaxed) - time) / nanos(SHORTEST_REST));
        }
        assert_eq!(lengths[..4], [2, 4, 8, 16]);
        assert_eq!(lengths[10..], [1000, 1000]);
        for half in [500, 250, 125] {
            time = rest.until.load(Ordering::Relaxed) + 32 * nanos(LONGEST_REST);
            rest.begin(time);
            let length = rest.length.load(Ordering::Relaxed);
            assert_eq!(length / nanos(SHORTEST_REST), half);
        }
    }

    #[test]
    fn what_a_wake_takes_is_seen_between_processors_only() {
        let pace = Pace::on(own_processor);
        let slow = || {
            let end = now() + 2 * nanos(DEAR_WAKE);
            while now() < end {}
        };
        pace.submit();
        let here = pace.submitter.load(Ordering::Relaxed);
        pace.worker.store(here, Ordering::Relaxed);
        pace.wake(slow);
        assert_eq!(pace.limit(), 0);
        pace.worker.store(here + 1, Ordering::Relaxed);
        pace.wake(slow);
        assert!(pace.limit() >= 2 * nanos(DEAR_WAKE) * LOOK_PER_WAKE.min(2));
    }
}
