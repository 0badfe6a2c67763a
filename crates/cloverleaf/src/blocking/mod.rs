//! Threads for calls that can only block.
//!
//! A closure is run once, on some thread of the pool, in the order of [`BlockingPool::submit`]; how its answer reaches
//! the loop is its own affair, and usually an [injected](crate::Injector::inject) job. A thread is started only when
//! no other is free, and ends when it has had nothing to do for a while, so a program that never blocks has none. The
//! one that became free last is given work first: its memory is in a cache, and the others come to their end.
//!
//! [`BlockingPool::close`] drops the closures that have not begun, and ends the threads and waits for them. A thread
//! inside a call cannot be interrupted: after a short grace it is detached, finishes its closure and ends.

mod pace;
mod threads;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::pace::Pace;
use self::threads::Shared;
use crate::error::{Error, Result, ignore};
use crate::limits::{BLOCKING_GRACE_MS, BLOCKING_IDLE, BLOCKING_THREADS};
use crate::sys::forks;

/// Threads that run closures, each of which may block.
pub struct BlockingPool {
    shared: Arc<Shared>,
    /// How often the process had forked when the pool was made.
    forks: u32,
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("BlockingPool")
            .field("threads", &state.threads.len())
            .field("idle", &state.idle)
            .field("waiting", &state.tasks.len())
            .finish_non_exhaustive()
    }
}

impl Default for BlockingPool {
    fn default() -> Self {
        Self::new()
    }
}

impl BlockingPool {
    /// A pool with no thread yet, and the bounds of [`limits`](crate::limits).
    pub fn new() -> Self {
        Self::with_limits(BLOCKING_THREADS, BLOCKING_IDLE)
    }

    /// A pool of at most `max_threads` threads (at least one), each of which ends after `idle_for` without work.
    pub fn with_limits(max_threads: usize, idle_for: Duration) -> Self {
        Self::of(max_threads, idle_for, Pace::new())
    }

    fn of(max_threads: usize, idle_for: Duration, pace: Pace) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                rest: Condvar::new(),
                has_come: AtomicBool::new(false),
                pace,
                max_threads: max_threads.max(1),
                idle_for,
            }),
            forks: forks(),
        }
    }

    /// Runs `task` on a thread of the pool, as soon as one is free. A panic in it ends only the task.
    ///
    /// # Errors
    /// [`Error::Closed`] after [`close`](Self::close), and [`Error::Io`] if the pool has no thread and none can be
    /// started. The closure is dropped then.
    pub fn submit(&self, task: impl FnOnce() + Send + 'static) -> Result<()> {
        let ended = std::mem::take(&mut self.shared.lock().ended);
        join(ended);
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        self.shared.pace.submit();
        state.tasks.push_back(Box::new(task));
        self.shared.has_come.store(true, Ordering::Release);
        if state.tasks.len() <= usize::from(state.one_looks) {
            // That one needs not to be woken.
            return Ok(());
        }
        if state.tasks.len() <= state.idle {
            let last = state.sleepers.pop();
            drop(state);
            if let Some(wake) = last {
                self.shared.pace.wake(|| wake.notify_one());
            }
            return Ok(());
        }
        if state.threads.len() >= self.shared.max_threads {
            return Ok(());
        }
        match Shared::start_thread(&self.shared, &mut state) {
            Ok(()) => Ok(()),
            // A thread that is busy now takes the closure later.
            Err(_) if !state.threads.is_empty() => Ok(()),
            Err(error) => {
                let refused = state.tasks.pop_back();
                self.shared.pace.take_back();
                drop(state);
                drop(refused);
                Err(Error::Io(error))
            }
        }
    }

    /// For how long a loop that would sleep now may as well look for what comes of a task: it is likely to be there sooner,
    /// and to cost less, than the loop could be woken for it. Zero if not, or if no task is under way.
    #[inline]
    pub fn patience(&self) -> Duration {
        self.shared.pace.patience_for_answer()
    }

    /// Keeps this thread awake until `has_come`, but no longer than its [`patience`](Self::patience) allows; whether it
    /// has. It is asked ten or twenty times in a microsecond, and may as well look for what else ends a sleep.
    pub fn look_for_answer(&self, patience: Duration, has_come: impl FnMut() -> bool) -> bool {
        self.shared.pace.look_for_answer(patience, has_come)
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.shared.lock().threads.len()
    }

    /// Whether a closure waits or runs. It may say so for a moment after the last one has ended.
    pub fn is_busy(&self) -> bool {
        let state = self.shared.lock();
        !state.tasks.is_empty() || state.threads.len() > state.idle
    }

    /// Refuses closures from now on, drops those that have not begun, ends the threads and waits for them.
    ///
    /// A thread that is inside a closure for longer than a short grace is left to end with it.
    pub fn close(&self) {
        if self.forks != forks() {
            // A forked child has none of the threads, and a lock that one of them may have held.
            return;
        }
        let mut state = self.shared.lock();
        state.closed = true;
        if state.threads.is_empty() && state.tasks.is_empty() && state.ended.is_empty() {
            // Nobody to tell, and nobody to wait for: most pools are never used.
            return;
        }
        let dropped = std::mem::take(&mut state.tasks);
        let sleepers = std::mem::take(&mut state.sleepers);
        drop(state);
        for wake in sleepers {
            wake.notify_one();
        }
        // Foreign destructors run here, under no lock.
        drop(dropped);
        let grace = Duration::from_millis(BLOCKING_GRACE_MS);
        let (mut state, _) = self
            .shared
            .rest
            .wait_timeout_while(self.shared.lock(), grace, |state| !state.threads.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let detached = std::mem::take(&mut state.threads);
        let ended = std::mem::take(&mut state.ended);
        drop(state);
        drop(detached);
        join(ended);
    }

    /// Blocks until no closure waits, and as many threads exist and are free as is asked for.
    #[cfg(test)]
    fn wait_until(&self, mut reached: impl FnMut(usize, usize) -> bool) {
        let mut state = self.shared.lock();
        while !(state.tasks.is_empty() && reached(state.threads.len(), state.idle)) {
            state = self
                .shared
                .rest
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        self.close();
    }
}

fn join(ended: Vec<JoinHandle<()>>) {
    for thread in ended {
        // A panic of a worker outside of its closures would have reached the panic hook already.
        ignore(thread.join());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    /// Longer than any machine stands still.
    const LONG: Duration = Duration::from_secs(120);

    #[test]
    fn a_pool_that_was_given_nothing_has_no_thread() {
        assert_eq!(BlockingPool::new().threads(), 0);
    }

    #[test]
    fn every_closure_runs_once_and_threads_stay_within_the_bound() {
        let pool = BlockingPool::with_limits(3, DAY);
        let (sender, receiver) = channel();
        for number in 0..200 {
            let sender = sender.clone();
            pool.submit(move || sender.send(number).unwrap()).unwrap();
            assert!(pool.threads() <= 3);
        }
        drop(sender);
        let mut seen: Vec<i32> = receiver.iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn a_free_thread_is_used_before_another_is_started() {
        let pool = BlockingPool::with_limits(8, DAY);
        for _ in 0..5 {
            pool.submit(|| ()).unwrap();
            pool.wait_until(|_, idle| idle == 1);
        }
        assert_eq!(pool.threads(), 1);
    }

    #[test]
    fn the_thread_that_became_free_last_is_used_first() {
        let pool = BlockingPool::with_limits(3, DAY);
        let (sender, begun) = channel();
        let mut holds = Vec::new();
        for _ in 0..3 {
            let (hold, release) = channel::<()>();
            let sender = sender.clone();
            pool.submit(move || {
                sender.send(std::thread::current().id()).unwrap();
                ignore(release.recv());
            })
            .unwrap();
            holds.push((begun.recv().unwrap(), hold));
        }
        let mut last = None;
        for (count, (id, hold)) in holds.into_iter().enumerate() {
            drop(hold);
            pool.wait_until(|_, idle| idle == count + 1);
            last = Some(id);
        }
        for _ in 0..5 {
            let sender = sender.clone();
            pool.submit(move || sender.send(std::thread::current().id()).unwrap())
                .unwrap();
            assert_eq!(begun.recv().ok(), last);
            pool.wait_until(|_, idle| idle == 3);
        }
    }

    #[test]
    fn a_thread_that_looks_for_a_task_misses_none() {
        let pool = BlockingPool::of(3, DAY, pace::tests::apart());
        let (sender, receiver) = channel();
        let mut found_looking = 0;
        for number in 0..1_000_000 {
            pool.shared.pace.have_looked_for();
            pool.shared.pace.end_rest();
            let sender = sender.clone();
            pool.submit(move || sender.send(number).unwrap()).unwrap();
            assert_eq!(receiver.recv_timeout(LONG).ok(), Some(number));
            if number % 3 == 0 {
                // The look is at its end, or the thread asleep, now and then.
                pool.wait_until(|_, idle| idle > 0);
            }
            found_looking += u32::from(pool.shared.lock().one_looks);
            if found_looking == 1_000 {
                return;
            }
        }
        // On one processor that others want, hardly anybody is seen looking.
        assert!(found_looking > 0, "nobody has looked");
    }

    #[test]
    fn more_tasks_than_one_go_to_more_threads_although_one_looks() {
        let pool = BlockingPool::of(2, DAY, pace::tests::apart());
        for _ in 0..1_000 {
            pool.shared.pace.have_looked_for();
            pool.shared.pace.end_rest();
            let (sender, receiver) = channel();
            let (answer, question) = channel();
            // Each waits for the other.
            pool.submit(move || receiver.recv_timeout(LONG).unwrap())
                .unwrap();
            pool.submit(move || {
                sender.send(()).unwrap();
                answer.send(()).unwrap();
            })
            .unwrap();
            assert!(question.recv_timeout(LONG).is_ok());
        }
        assert_eq!(pool.threads(), 2);
    }

    #[test]
    fn an_idle_thread_ends() {
        let pool = BlockingPool::with_limits(8, Duration::ZERO);
        let (sender, receiver) = channel();
        pool.submit(move || sender.send(()).unwrap()).unwrap();
        receiver.recv().unwrap();
        pool.wait_until(|threads, _| threads == 0);
        let (sender, receiver) = channel();
        pool.submit(move || sender.send(()).unwrap()).unwrap();
        receiver.recv().unwrap();
    }

    #[test]
    fn a_panic_does_not_cost_a_thread() {
        let pool = BlockingPool::with_limits(1, DAY);
        pool.submit(|| panic!("on purpose")).unwrap();
        let (sender, receiver) = channel();
        pool.submit(move || sender.send(()).unwrap()).unwrap();
        receiver.recv().unwrap();
        assert_eq!(pool.threads(), 1);
    }

    #[test]
    fn a_pool_is_busy_until_the_last_closure_has_ended() {
        let pool = BlockingPool::with_limits(1, DAY);
        assert!(!pool.is_busy());
        let (hold, release) = channel::<()>();
        pool.submit(move || ignore(release.recv())).unwrap();
        assert!(pool.is_busy());
        drop(hold);
        pool.wait_until(|_, idle| idle == 1);
        assert!(!pool.is_busy());
    }

    #[test]
    fn close_drops_what_has_not_begun_and_refuses_more() {
        let pool = BlockingPool::with_limits(1, DAY);
        let (hold, release) = channel::<()>();
        let (sender, begun) = channel();
        pool.submit(move || {
            sender.send(()).unwrap();
            ignore(release.recv());
        })
        .unwrap();
        begun.recv().unwrap();
        let (sender, receiver) = channel::<()>();
        pool.submit(move || sender.send(()).unwrap()).unwrap();
        pool.close();
        assert!(receiver.recv().is_err(), "the closure was dropped, not run");
        assert!(matches!(pool.submit(|| ()), Err(Error::Closed)));
        drop(hold);
    }

    #[test]
    fn close_waits_for_threads_that_can_end() {
        let pool = BlockingPool::with_limits(2, DAY);
        let (sender, receiver) = channel();
        pool.submit(|| ()).unwrap();
        pool.wait_until(|_, idle| idle == 1);
        pool.submit(move || sender.send(()).unwrap()).unwrap();
        receiver.recv().unwrap();
        let shared = Arc::clone(&pool.shared);
        pool.close();
        // Each thread has let its share go, even the one that still looked busy.
        assert_eq!(Arc::strong_count(&shared), 2);
    }
}
