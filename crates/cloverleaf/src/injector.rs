//! Jobs that other threads hand to the loop.
//!
//! A job injected before the loop sleeps is seen by it, and one injected while it sleeps wakes it. Whether the loop
//! sleeps and which jobs wait are one value behind one lock, held for a few instructions and never while foreign code
//! runs, so no order of events lets a wake-up slip between them; `tests/loom_injector.rs` tries them all. A burst wakes
//! the loop once, and a loop that is awake is not woken.

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

struct Inbox<J> {
    jobs: Vec<J>,
    asleep: bool,
    closed: bool,
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
        self.inject_packing(job, |_| {})
    }

    /// The same, and if many jobs wait, has the one before it made smaller by `pack`, which runs no foreign code.
    ///
    /// # Errors
    /// Gives the job back if the loop was closed.
    pub fn inject_packing(&self, job: J, pack: impl FnOnce(&mut J)) -> Result<(), J> {
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
        let wake = std::mem::take(&mut inbox.asleep);
        drop(inbox);
        if wake {
            self.waker.wake_by_ref();
        }
        Ok(())
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
            injector.inject_packing(0, pack).expect("open");
        }
        let mut jobs = Vec::new();
        injector.drain_into(&mut jobs);
        assert_eq!(jobs[MANY - 2..], [0, 1, 1, 0]);
    }

    #[test]
    fn a_closed_injector_gives_the_job_back() {
        let (injector, _) = counted();
        injector.inject(1).expect("open");
        assert_eq!(injector.close(), [1]);
        assert_eq!(injector.inject(2), Err(2));
    }
}
