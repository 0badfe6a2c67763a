//! Jobs that other threads hand to the loop.
//!
//! A job injected before the loop sleeps is seen by it, and one injected while it sleeps wakes it. Whether the loop
//! sleeps and which jobs wait are one value behind one lock, held for a few instructions and never while foreign code
//! runs, so no order of events lets a wake-up slip between them; `tests/loom_injector.rs` tries them all. A burst wakes
//! the loop once, and a loop that is awake is not woken.
//!
//! Whoever wakes the loop may hold something that it needs to go on, as a thread that runs Python does. So it is told
//! whether the loop has found single jobs of late, for each of which somebody waits most likely, or bursts.

use std::fmt;
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
}

/// How many jobs have come together of late.
#[derive(Default)]
struct Rhythm {
    /// The jobs that wait have ended a sleep.
    has_called: bool,
    /// How many sleeps in a row were ended for a single job.
    single: u8,
}

impl Rhythm {
    /// A job ends the loop's sleep.
    const fn call(&mut self) -> Sleeper {
        self.has_called = true;
        Sleeper {
            one_by_one: self.single >= SINGLE && !self.single.is_multiple_of(ASKED_AGAIN),
        }
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
}

/// The queue by which other threads reach the loop.
pub struct Injector<J> {
    inbox: Mutex<Inbox<J>>,
    /// Whether `jobs` may be non-empty: lets the loop look without taking the lock.
    pending: AtomicBool,
    waker: Waker,
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
            }),
            pending: AtomicBool::new(false),
            waker,
        }
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
        let mut inbox = self.lock();
        if inbox.closed {
            return Err(job);
        }
        if inbox.jobs.len() >= MANY
            && let Some(last) = inbox.jobs.last_mut()
        {
            pack(last);
        }
        inbox.jobs.push(job);
        self.pending.store(true, Ordering::Release);
        Ok(std::mem::take(&mut inbox.asleep).then(|| inbox.rhythm.call()))
    }

    /// Ends the sleep in which [`inject_packing`](Self::inject_packing) has found the loop.
    pub fn rouse(&self) {
        self.waker.wake_by_ref();
    }

    /// Ends the loop's present or next sleep, without a job.
    pub fn wake(&self) {
        self.lock().asleep = false;
        self.waker.wake_by_ref();
    }

    /// Whether jobs wait; cheap enough to ask at each `call_soon`.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Declares that the loop is about to sleep. `false` means that jobs wait and it must not.
    pub fn before_sleep(&self) -> bool {
        let mut inbox = self.lock();
        inbox.asleep = inbox.jobs.is_empty();
        inbox.asleep
    }

    /// Declares that the loop is awake, so that nobody needs to wake it.
    pub fn after_sleep(&self) {
        self.lock().asleep = false;
    }

    /// Moves the waiting jobs behind those in `jobs`, in the order in which they were injected.
    pub fn drain_into(&self, jobs: &mut impl Extend<J>) {
        if !self.has_pending() {
            return;
        }
        let mut inbox = self.lock();
        self.pending.store(false, Ordering::Release);
        let found = inbox.jobs.len();
        inbox.rhythm.found(found);
        // Moving a job runs no foreign code, so the lock may be held, and the vector keeps its room.
        jobs.extend(inbox.jobs.drain(..));
    }

    /// Refuses jobs from now on and takes those that wait; their owner drops them outside of the lock.
    pub fn close(&self) -> Vec<J> {
        let mut inbox = self.lock();
        inbox.closed = true;
        self.pending.store(false, Ordering::Release);
        std::mem::take(&mut inbox.jobs)
    }

    /// Whether the loop was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    #[cfg(not(loom))]
    fn lock(&self) -> MutexGuard<'_, Inbox<J>> {
        // Nothing under the lock can panic half-way through a change.
        self.inbox
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[cfg(loom)]
    fn lock(&self) -> MutexGuard<'_, Inbox<J>> {
        self.inbox
            .lock()
            .expect("invariant: no holder of the lock panics")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted() -> (Injector<u32>, Arc<Counter>) {
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
}
