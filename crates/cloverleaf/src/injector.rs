//! Jobs that other threads hand to the loop.
//!
//! A job injected before the loop sleeps is seen by it, and one injected while it sleeps wakes it. Whether the loop
//! sleeps and which jobs wait are one value behind one lock, held for a few instructions and never while foreign code
//! runs, so no order of events lets a wake-up slip between them; `tests/loom_injector.rs` tries them all. A burst wakes
//! the loop once, and a loop that is awake is not woken.
//!
//! Whoever wakes the loop may hold something that it needs to go on, as a thread that runs Python does. So it is told
//! whether the loop has found single jobs of late, for each of which somebody waits most likely, or bursts. In the first
//! case it may as well give the loop its processor, if they share one (`rests.rs`).
//!
//! A thread that does not run Python may have the lock when another one forks, and is not there in the child to let go of
//! it. Nobody in the child waits for that lock: to it, the loop is closed.

mod host;

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use crate::rests::Rests;
use crate::stats::Stats;
use crate::sys::{forks, processor};

/// So many jobs, with what they are about, are no more in a processor's nearest cache: from here on, they are packed.
pub(crate) const MANY: usize = 64;

/// After so many sleeps in a row that were ended for a single job, the next one is taken to be single, too.
const SINGLE: u8 = 4;
/// One of so many is not, lest a burst in which the loop comes between any two jobs be taken for single ones for ever.
const ASKED_AGAIN: u8 = 32;

/// A loop that sleeps, and whose sleep is to be ended by whoever has this.
#[must_use = "the loop sleeps on until somebody calls `rouse`"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sleeper {
    /// Whether jobs have come one by one of late, and not in bursts.
    pub one_by_one: bool,
    /// Whether all of these came from this thread, which then waits for what comes of each.
    by_one_thread: bool,
    /// Which of its rests this is.
    rest: u32,
    /// Where it ran before.
    processor: Option<u32>,
}

/// How many jobs have come together of late, and from where.
#[derive(Default)]
struct Rhythm {
    /// The jobs that wait have ended a sleep.
    has_called: bool,
    /// How many sleeps in a row were ended for a single job.
    single: u8,
    /// Who ended the last sleep.
    caller: Option<Caller>,
    /// How many sleeps in a row the same thread had ended before.
    by_same: u8,
}

/// Tells a thread from others that live.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Caller(usize);

impl Caller {
    /// This thread: where something of its own lies.
    fn this() -> Self {
        thread_local!(static OWN: u8 = const { 0 });
        OWN.with(|own| Self(std::ptr::from_ref(own).addr()))
    }
}

impl Rhythm {
    /// A job of this thread ends the loop's sleep. Whether it is taken for a single one, and for one of many singles that
    /// this thread hands over.
    fn call(&mut self) -> (bool, bool) {
        self.has_called = true;
        let caller = Some(Caller::this());
        self.by_same = if self.caller == caller {
            self.by_same.saturating_add(1)
        } else {
            0
        };
        self.caller = caller;
        let is_single = self.single >= SINGLE && !self.single.is_multiple_of(ASKED_AGAIN);
        (is_single, self.by_same >= SINGLE)
    }

    /// So many jobs were found.
    fn found(&mut self, jobs: usize) {
        if !std::mem::take(&mut self.has_called) {
            return;
        }
        self.single = match jobs {
            1 => self.single.checked_add(1).unwrap_or(SINGLE),
            _ => 0,
        };
    }
}

struct Inbox<J> {
    jobs: Vec<J>,
    asleep: bool,
    closed: bool,
    rhythm: Rhythm,
    /// The number of the loop's last rest.
    rest: u32,
    /// The processor on which it came to rest, if that is known.
    processor: Option<u32>,
}

/// The queue by which other threads reach the loop.
pub struct Injector<J> {
    inbox: Mutex<Inbox<J>>,
    /// Whether `jobs` may be non-empty: lets the loop look without taking the lock.
    pending: AtomicBool,
    rests: Rests,
    waker: Waker,
    stats: Arc<Stats>,
    /// How often the process had forked when it was made.
    forks: u32,
}

impl<J> fmt::Debug for Injector<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injector")
            .field("pending", &self.has_pending())
            .finish_non_exhaustive()
    }
}

impl<J> Injector<J> {
    /// An empty queue that ends the loop's sleep by `waker`.
    pub fn new(waker: Waker) -> Self {
        Self {
            inbox: Mutex::new(Inbox {
                jobs: Vec::new(),
                asleep: false,
                closed: false,
                rhythm: Rhythm::default(),
                rest: 0,
                processor: None,
            }),
            pending: AtomicBool::new(false),
            rests: Rests::new(),
            waker,
            stats: Arc::default(),
            forks: forks(),
        }
    }

    /// What the loop has done, to which the queue adds what has come through it.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Whether this is a forked child of the process that made it, where nobody will run the jobs.
    pub fn is_forked(&self) -> bool {
        self.forks != forks()
    }

    /// Hands over a job, from any thread, and wakes the loop if it sleeps.
    ///
    /// # Errors
    /// Gives the job back if the loop was closed.
    pub fn inject(&self, job: J) -> Result<(), J> {
        if let Some(_sleeper) = self.inject_packing(job, |_| {})? {
            self.rouse();
        }
        Ok(())
    }

    /// The same, but leaves it to the caller to end the loop's sleep by [`rouse`](Self::rouse). If many jobs wait, it has
    /// the one before it made smaller by `pack`, which runs no foreign code.
    ///
    /// # Errors
    /// Gives the job back if the loop was closed.
    pub fn inject_packing(&self, job: J, pack: impl FnOnce(&mut J)) -> Result<Option<Sleeper>, J> {
        let Some(mut inbox) = self.lock().filter(|inbox| !inbox.closed) else {
            return Err(job);
        };
        if inbox.jobs.len() >= MANY
            && let Some(last) = inbox.jobs.last_mut()
        {
            pack(last);
        }
        inbox.jobs.push(job);
        self.pending.store(true, Ordering::Release);
        Ok(std::mem::take(&mut inbox.asleep).then(|| {
            let (one_by_one, by_one_thread) = inbox.rhythm.call();
            Sleeper {
                one_by_one,
                by_one_thread,
                rest: inbox.rest,
                processor: inbox.processor,
            }
        }))
    }

    /// Ends the sleep in which [`inject_packing`](Self::inject_packing) has found the loop.
    pub fn rouse(&self) {
        self.waker.wake_by_ref();
    }

    /// The same, and lets the loop run first if one thread alone has ended its last sleeps, this one, and it needs the
    /// processor on which this thread runs: waits until it rests again, which it says by [`at_rest`](Self::at_rest) and by
    /// [`end_run`](Self::end_run), for a few milliseconds at most. Whoever calls this must hold nothing that the loop may
    /// need.
    pub fn rouse_and_attend(&self, sleeper: Sleeper) {
        self.rouse();
        // One of several threads that take turns has no use for the answer: the next job may be another's.
        if sleeper.by_one_thread && sleeper.processor.is_some() && sleeper.processor == processor()
        {
            self.rests.wait_beyond(sleeper.rest);
        }
    }

    /// Tells whoever waits for it that the loop rests. The loop says so after [`before_sleep`](Self::before_sleep), when it
    /// holds nothing any more that others need.
    pub fn at_rest(&self) {
        self.rests.make_known();
    }

    /// Tells them likewise that it does not run any more.
    pub fn end_run(&self) {
        self.rests.begin();
        self.rests.make_known();
    }

    /// Ends the loop's present or next sleep, without a job.
    pub fn wake(&self) {
        if let Some(mut inbox) = self.lock() {
            inbox.asleep = false;
        }
        self.waker.wake_by_ref();
    }

    /// Whether jobs wait; cheap enough to ask at each `call_soon`.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Declares that the loop is about to sleep. `false` means that jobs wait and it must not.
    pub fn before_sleep(&self) -> bool {
        let Some(mut inbox) = self.lock() else {
            return true;
        };
        inbox.asleep = inbox.jobs.is_empty();
        if inbox.asleep {
            inbox.rest = self.rests.begin();
            inbox.processor = processor();
        }
        inbox.asleep
    }

    /// Declares that the loop is awake, so that nobody needs to wake it.
    pub fn after_sleep(&self) {
        if let Some(mut inbox) = self.lock()
            && !std::mem::take(&mut inbox.asleep)
        {
            // Somebody has woken it. Whoever has the lock is the one writer.
            self.stats.wakeups.add(1);
        }
    }

    /// Moves the waiting jobs behind those in `jobs`, in the order in which they were injected.
    pub fn drain_into(&self, jobs: &mut impl Extend<J>) {
        if !self.has_pending() {
            return;
        }
        let Some(mut inbox) = self.lock() else {
            return;
        };
        self.pending.store(false, Ordering::Release);
        let found = inbox.jobs.len();
        inbox.rhythm.found(found);
        // Moving a job runs no foreign code, so the lock may be held, and the vector keeps its room.
        jobs.extend(inbox.jobs.drain(..));
        self.stats.injected.add_len(found);
    }

    /// Refuses jobs from now on and takes those that wait; their owner drops them outside of the lock.
    pub fn close(&self) -> Vec<J> {
        let Some(mut inbox) = self.lock() else {
            return Vec::new();
        };
        inbox.closed = true;
        self.pending.store(false, Ordering::Release);
        std::mem::take(&mut inbox.jobs)
    }

    /// Whether the loop was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().is_none_or(|inbox| inbox.closed)
    }

    /// The queue; none in a forked child if a thread of the parent had it.
    #[cfg(not(loom))]
    #[inline]
    fn lock(&self) -> Option<MutexGuard<'_, Inbox<J>>> {
        if self.is_forked() {
            // Refused, it is nobody's error: whoever has it is not in this process.
            self.inbox.try_lock().ok()
        } else {
            // Nothing under the lock can panic half-way through a change.
            let inbox = self.inbox.lock();
            Some(inbox.unwrap_or_else(std::sync::PoisonError::into_inner))
        }
    }

    #[cfg(loom)]
    fn lock(&self) -> Option<MutexGuard<'_, Inbox<J>>> {
        Some(
            self.inbox
                .lock()
                .expect("invariant: no holder of the lock panics"),
        )
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    pub(super) struct Counter(pub(super) AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counted() -> (Injector<u32>, Arc<Counter>) {
        let counter = Arc::new(Counter::default());
        (Injector::new(Arc::clone(&counter).into()), counter)
    }

    #[test]
    fn a_burst_wakes_a_sleeping_loop_once() {
        let (injector, wakes) = counted();
        assert!(injector.before_sleep());
        for job in 0..100 {
            injector.inject(job).expect("open");
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_loop_that_is_awake_is_not_woken() {
        let (injector, wakes) = counted();
        injector.inject(1).expect("open");
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        assert!(!injector.before_sleep(), "a job waits");
    }

    #[test]
    fn jobs_come_out_in_the_order_in_which_they_went_in() {
        let (injector, _) = counted();
        for job in 0..5 {
            injector.inject(job).expect("open");
        }
        let mut jobs = vec![9];
        injector.drain_into(&mut jobs);
        assert_eq!(jobs, [9, 0, 1, 2, 3, 4]);
        assert!(!injector.has_pending());
    }

    #[test]
    fn of_many_jobs_each_is_packed_when_the_next_one_comes() {
        let (injector, _) = counted();
        for _ in 0..MANY + 2 {
            let pack = |last: &mut u32| *last = 1;
            assert_eq!(injector.inject_packing(0, pack), Ok(None), "it is awake");
        }
        let mut jobs = Vec::new();
        injector.drain_into(&mut jobs);
        assert_eq!(jobs[MANY - 2..], [0, 1, 1, 0]);
    }

    /// Lets the loop sleep, hands so many jobs over, and lets the loop take them; whether the first was taken for single.
    fn called(injector: &Injector<u32>, jobs: u32) -> bool {
        assert!(injector.before_sleep());
        let sleepers: Vec<_> = (0..jobs)
            .filter_map(|job| injector.inject_packing(job, |_| {}).expect("open"))
            .collect();
        injector.after_sleep();
        injector.drain_into(&mut Vec::new());
        assert_eq!(sleepers.len(), 1, "one job ends the sleep");
        sleepers[0].one_by_one
    }

    #[test]
    fn after_some_single_jobs_the_next_is_taken_for_single_and_now_and_then_not() {
        let (injector, wakes) = counted();
        let told: Vec<_> = (0..1_000).map(|_| called(&injector, 1)).collect();
        assert_eq!(told[..33].iter().position(|single| *single), Some(4));
        assert!(told[31] && !told[32] && told[33]);
        let others = told[4..].iter().filter(|single| !**single).count();
        assert!((25..32).contains(&others), "{others} of 1,000 were not");
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0, "that is the caller's");
    }

    #[test]
    fn a_thread_that_alone_hands_over_single_jobs_is_known() {
        let (injector, _) = counted();
        let by_one_thread = || {
            assert!(injector.before_sleep());
            let sleeper = injector.inject_packing(1, |_| {}).expect("open");
            injector.drain_into(&mut Vec::new());
            sleeper.expect("it sleeps").by_one_thread
        };
        let told: Vec<_> = (0..6).map(|_| by_one_thread()).collect();
        assert_eq!(told, [false, false, false, false, true, true]);
        std::thread::scope(|scope| {
            let other = scope.spawn(by_one_thread).join().expect("no panic");
            assert!(!other, "that is another thread");
        });
        assert!(!by_one_thread(), "it is not alone");
    }

    #[test]
    fn a_loop_that_ends_its_run_lets_go_of_who_attends_to_it() {
        let (injector, wakes) = counted();
        for _ in 0..2_000 {
            assert!(injector.before_sleep());
            injector.at_rest();
            let sleeper = injector.inject_packing(1, |_| {}).expect("open");
            injector.drain_into(&mut Vec::new());
            injector.end_run();
            injector.rouse_and_attend(sleeper.expect("it sleeps"));
            assert!(!injector.rests.is_in_vain());
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2_000);
    }

    #[test]
    fn after_a_burst_jobs_are_not_taken_for_single() {
        let (injector, _) = counted();
        for _ in 0..8 {
            called(&injector, 1);
        }
        assert!(called(&injector, 2), "that is not known before");
        assert!(!called(&injector, 1));
    }

    #[test]
    fn jobs_for_a_loop_that_is_awake_tell_nothing() {
        let (injector, _) = counted();
        for _ in 0..8 {
            called(&injector, 1);
            injector.inject(1).expect("open");
            injector.inject(2).expect("open");
            injector.drain_into(&mut Vec::new());
        }
        assert!(called(&injector, 1));
    }

    #[test]
    fn a_closed_injector_gives_the_job_back() {
        let (injector, _) = counted();
        injector.inject(1).expect("open");
        assert_eq!(injector.close(), [1]);
        assert_eq!(injector.inject(2), Err(2));
    }

    #[test]
    fn a_forked_child_does_not_wait_for_a_lock_that_nobody_gives_back() {
        let (mut injector, wakes) = counted();
        injector.inject(1).expect("open");
        injector.forks = forks().wrapping_sub(1);
        let held = injector.inbox.lock().expect("no panic");
        assert!(injector.is_closed());
        assert_eq!(injector.inject(2), Err(2));
        injector.wake();
        injector.drain_into(&mut Vec::new());
        assert_eq!(injector.close(), []);
        drop(held);
        assert_eq!(injector.close(), [1], "where nobody had it, all goes");
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    }
}
