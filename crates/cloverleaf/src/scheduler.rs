//! What runs next: the ready queue, the timers, and the order of one turn.
//!
//! The order is asyncio's. A turn collects jobs from other threads, from events and from due timers, puts them behind
//! those already ready, and then runs exactly the jobs that were ready at that moment, first in, first out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::clock::{Clock, Time};
use crate::injector::{Injector, MANY};
use crate::limits::{ROOM_HALVED, ROOM_KEPT};
use crate::stats::Stats;
use crate::timers::{TimerKey, Timers};

/// Jobs of any type, in the order in which they run.
#[derive(Debug)]
pub struct Scheduler<J> {
    ready: VecDeque<J>,
    timers: Timers<J>,
    injector: Arc<Injector<J>>,
    clock: Clock,
    stats: Arc<Stats>,
    /// When the clock was read for the sleep that is about to begin.
    asked: Option<Time>,
    /// When room was given back last.
    halved: Time,
    /// The room of the last turn's jobs is to be given back, too.
    halves_batch: bool,
    stopping: bool,
}

impl<J> Scheduler<J> {
    /// Nothing to do, on this clock; other threads end the loop's sleep by `waker`.
    pub fn new(clock: Clock, waker: Waker) -> Self {
        let injector = Arc::new(Injector::new(waker));
        Self {
            ready: VecDeque::new(),
            timers: Timers::new(),
            stats: Arc::clone(injector.stats()),
            injector,
            halved: clock.now(),
            clock,
            asked: None,
            halves_batch: false,
            stopping: false,
        }
    }

    /// The queue by which other threads reach this scheduler.
    pub fn injector(&self) -> &Arc<Injector<J>> {
        &self.injector
    }

    /// What the loop has done, which this part adds to for its own part.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The clock of the timers.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Takes another clock. What waits already keeps its deadline, whatever that means there.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// The present time.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Appends a job, behind all that other threads have injected before.
    #[inline]
    pub fn push(&mut self, job: J) {
        if self.injector.has_pending() {
            self.injector.drain_into(&mut self.ready);
        }
        self.ready.push_back(job);
    }

    /// Appends a job as [`push`](Self::push) does, and if many wait, has the one before it made smaller by `pack`, which
    /// runs no foreign code.
    #[inline]
    pub fn push_packing(&mut self, job: J, pack: impl FnOnce(&mut J)) {
        if self.injector.has_pending() {
            self.injector.drain_into(&mut self.ready);
        }
        if self.ready.len() >= MANY
            && let Some(last) = self.ready.back_mut()
        {
            pack(last);
        }
        self.ready.push_back(job);
    }

    /// Appends a job that runs when `deadline` has come.
    pub fn push_at(&mut self, deadline: Time, job: J) -> TimerKey {
        self.timers.insert(deadline, job)
    }

    /// Takes a timer's job back; `None` if it is due, has run or was cancelled already.
    pub fn cancel(&mut self, key: TimerKey) -> Option<J> {
        self.timers.cancel(key)
    }

    /// The timers that wait.
    pub fn timers(&self) -> &Timers<J> {
        &self.timers
    }

    /// How many jobs are ready.
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Asks for the end of the run after the present turn.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether the run ends after the present turn; a new run begins with a new question.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Forgets that a stop was asked for.
    pub fn clear_stop(&mut self) {
        self.stopping = false;
    }

    /// How long the loop may sleep: not at all if a job is ready, else until the next timer; `None` is for ever.
    #[inline]
    pub fn sleep_limit(&mut self) -> Option<Duration> {
        if self.stopping || !self.ready.is_empty() || self.injector.has_pending() {
            return Some(Duration::ZERO);
        }
        let Some(deadline) = self.timers.next_deadline() else {
            self.asked = None;
            return None;
        };
        let now = self.clock.now();
        self.asked = Some(now);
        Some(deadline.saturating_since(now))
    }

    /// Notes that the loop sleeps now, for no longer than [`sleep_limit`](Self::sleep_limit) has said last.
    pub fn begin_sleep(&mut self) {
        let now = self.asked.take().unwrap_or_else(|| self.clock.now());
        self.stats.begin_sleep(now);
        self.give_room_back(now);
    }

    /// Notes that the loop has nothing to do and does not sleep itself: whoever runs its turns does.
    pub fn rest(&mut self) {
        self.give_room_back(self.clock.now());
    }

    fn give_room_back(&mut self, now: Time) {
        if now.saturating_since(self.halved) >= ROOM_HALVED {
            self.halve_room(now);
        }
    }

    /// Gives back half of the room that nothing needs any more.
    #[cold]
    fn halve_room(&mut self, now: Time) {
        self.halved = now;
        self.timers.halve_room();
        halve(&mut self.ready);
        // The other queue, of those that take turns, is found when they do so next.
        self.halves_batch = true;
    }

    /// Notes that it has slept; if it needs more than that to go on, [`Stats::go_on`] follows.
    pub fn end_sleep(&self) {
        self.stats.end_sleep(self.clock.now());
    }

    /// When the next timer is due, and its age, by which it can be told from all others.
    pub fn next_deadline_and_age(&mut self) -> Option<(Time, u64)> {
        self.timers.next_deadline_and_age()
    }

    /// Takes what other threads have injected.
    #[inline]
    pub fn collect_injected(&mut self) {
        if self.injector.has_pending() {
            self.injector.drain_into(&mut self.ready);
        }
    }

    /// Takes the timers that are due.
    #[inline]
    pub fn collect_due(&mut self) {
        if !self.timers.is_empty() {
            self.take_due();
        }
    }

    fn take_due(&mut self) {
        let now = self.clock.now();
        let stats = &self.stats;
        let note = |deadline| stats.fired(deadline, now);
        self.timers.take_due(now, &mut self.ready, note);
    }

    /// Notes that a turn begins, when all is collected.
    #[inline]
    pub fn begin_turn(&self) {
        self.stats.begin_turn(self.ready.len());
    }

    /// Notes how many timers and sources there are now.
    pub fn note_waiting(&self, sources: usize) {
        self.stats.timers.set(self.timers.len());
        self.stats.sources.set(sources);
    }

    /// The next job of a run phase. The phase takes as many as were [ready](Self::ready_len) when it began.
    #[inline]
    pub fn pop(&mut self) -> Option<J> {
        self.ready.pop_front()
    }

    /// Takes all jobs of a run phase at once, into an empty queue whose room the next ones get.
    #[inline]
    pub fn take_ready(&mut self, batch: &mut VecDeque<J>) {
        debug_assert!(
            batch.is_empty(),
            "a phase begins when the last one has ended"
        );
        if self.halves_batch {
            self.halves_batch = false;
            halve(batch);
        }
        std::mem::swap(&mut self.ready, batch);
    }

    /// Puts jobs back at the front: they were taken and have not begun.
    pub fn put_back(&mut self, mut batch: VecDeque<J>) {
        batch.append(&mut self.ready);
        self.ready = batch;
    }

    /// The jobs that are ready, in order.
    pub fn ready(&self) -> impl Iterator<Item = &J> {
        self.ready.iter()
    }

    /// The same, for whoever gives them another order.
    pub fn ready_mut(&mut self) -> &mut [J] {
        self.ready.make_contiguous()
    }

    /// Refuses other threads' jobs and takes every job there is; their owner drops them when nothing is borrowed.
    pub fn close(&mut self) -> Vec<J> {
        let mut jobs: Vec<J> = std::mem::take(&mut self.ready).into();
        jobs.append(&mut self.timers.take_all());
        jobs.append(&mut self.injector.close());
        jobs
    }
}

/// Gives half of a queue's room back, if it is much and not in use.
#[cold]
fn halve<J>(jobs: &mut VecDeque<J>) {
    if jobs.capacity() > ROOM_KEPT {
        jobs.shrink_to(ROOM_KEPT.max(jobs.capacity() / 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn steered() -> (Scheduler<&'static str>, ManualClock) {
        let clock = ManualClock::new();
        (
            Scheduler::new(Clock::Manual(clock.clone()), Waker::noop().clone()),
            clock,
        )
    }

    #[test]
    fn a_job_from_another_thread_keeps_its_place_before_later_ones() {
        let (mut scheduler, _) = steered();
        scheduler.push("a");
        scheduler.injector().inject("b").expect("open");
        scheduler.push("c");
        let order: Vec<_> = std::iter::from_fn(|| scheduler.pop()).collect();
        assert_eq!(order, ["a", "b", "c"]);
    }

    #[test]
    fn of_many_jobs_each_is_packed_when_the_next_one_comes() {
        let (mut scheduler, _) = steered();
        for _ in 0..MANY {
            scheduler.push("unpacked");
        }
        for _ in 0..2 {
            scheduler.push_packing("new", |last| *last = "packed");
        }
        let order: Vec<_> = std::iter::from_fn(|| scheduler.pop()).collect();
        assert_eq!(order[MANY - 2..], ["unpacked", "packed", "packed", "new"]);
    }

    #[test]
    fn a_loop_at_rest_gives_the_room_of_a_burst_back() {
        let (mut scheduler, clock) = steered();
        let mut batch = VecDeque::new();
        for _ in 0..2 {
            for _ in 0..200_000 {
                scheduler.push("job");
            }
            scheduler.take_ready(&mut batch);
            batch.clear();
        }
        scheduler.begin_sleep();
        assert!(
            scheduler.ready.capacity() > 100_000,
            "the burst has just gone"
        );
        for _ in 0..8 {
            clock.advance(ROOM_HALVED);
            scheduler.begin_sleep();
            scheduler.push("job");
            // Two turns for each sleep, so each of both queues has the same part in each.
            for _ in 0..2 {
                scheduler.take_ready(&mut batch);
                batch.clear();
            }
        }
        assert!(scheduler.ready.capacity() <= ROOM_KEPT);
        assert!(batch.capacity() <= ROOM_KEPT);
    }

    #[test]
    fn jobs_that_are_put_back_come_before_those_scheduled_meanwhile() {
        let (mut scheduler, _) = steered();
        for job in ["a", "b", "c"] {
            scheduler.push(job);
        }
        let mut batch = VecDeque::new();
        scheduler.take_ready(&mut batch);
        assert_eq!(batch.pop_front(), Some("a"));
        scheduler.push("d");
        scheduler.put_back(batch);
        let order: Vec<_> = std::iter::from_fn(|| scheduler.pop()).collect();
        assert_eq!(order, ["b", "c", "d"]);
    }

    #[test]
    fn due_timers_come_behind_the_jobs_already_ready() {
        let (mut scheduler, clock) = steered();
        scheduler.push_at(Time::from_nanos(5), "timer");
        clock.advance(Duration::from_nanos(5));
        scheduler.push("ready");
        scheduler.collect_due();
        let order: Vec<_> = std::iter::from_fn(|| scheduler.pop()).collect();
        assert_eq!(order, ["ready", "timer"]);
    }

    #[test]
    fn the_loop_sleeps_until_the_next_timer_and_not_at_all_with_a_job() {
        let (mut scheduler, _) = steered();
        assert_eq!(scheduler.sleep_limit(), None);
        scheduler.push_at(Time::from_nanos(7), "timer");
        assert_eq!(scheduler.sleep_limit(), Some(Duration::from_nanos(7)));
        scheduler.push("ready");
        assert_eq!(scheduler.sleep_limit(), Some(Duration::ZERO));
    }

    #[test]
    fn another_clock_decides_what_is_due() {
        let (mut scheduler, _) = steered();
        scheduler.push_at(Time::from_nanos(7), "timer");
        let clock = ManualClock::new();
        clock.advance_to(Time::from_nanos(7));
        scheduler.set_clock(Clock::Manual(clock));
        let next = scheduler.next_deadline_and_age();
        assert_eq!(
            next.map(|(deadline, _)| deadline),
            Some(Time::from_nanos(7))
        );
        scheduler.collect_due();
        assert_eq!(scheduler.ready_mut(), ["timer"]);
    }

    #[test]
    fn stopping_forbids_sleep() {
        let (mut scheduler, _) = steered();
        scheduler.stop();
        assert_eq!(scheduler.sleep_limit(), Some(Duration::ZERO));
    }

    #[test]
    fn close_takes_ready_jobs_timers_and_injected_jobs() {
        let (mut scheduler, _) = steered();
        scheduler.push("ready");
        scheduler.push_at(Time::from_nanos(1), "timer");
        scheduler.injector().inject("injected").expect("open");
        assert_eq!(scheduler.close(), ["ready", "timer", "injected"]);
        assert_eq!(scheduler.injector().inject("late"), Err("late"));
    }
}
