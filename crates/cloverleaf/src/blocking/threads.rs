//! The threads of a pool: what they share, and the life of each.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::pace::Pace;
use crate::error::ignore;

pub(super) type Task = Box<dyn FnOnce() + Send>;

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// A thread has ended; in tests, also, it has become free.
    pub(super) rest: Condvar,
    /// Whether a task has come since a thread began to look for one.
    pub(super) has_come: AtomicBool,
    pub(super) pace: Pace,
    pub(super) max_threads: usize,
    pub(super) idle_for: Duration,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) tasks: VecDeque<Task>,
    pub(super) threads: HashMap<u64, JoinHandle<()>>,
    /// Threads that have nothing to do any more but to exit.
    pub(super) ended: Vec<JoinHandle<()>>,
    /// How many threads have nothing to do, or have not woken yet.
    pub(super) idle: usize,
    /// Whether one of these does not sleep yet, but looks for a task.
    pub(super) one_looks: bool,
    /// What wakes those that nobody has woken; the last one became free last.
    pub(super) sleepers: Vec<Arc<Condvar>>,
    next_id: u64,
    pub(super) closed: bool,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock, and no change under it can stop half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start_thread(shared: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let id = state.next_id;
        let its_shared = Arc::clone(shared);
        let handle = thread::Builder::new()
            .name(format!("cloverleaf-blocking-{id}"))
            .spawn(move || its_shared.work(id))?;
        state.next_id += 1;
        state.threads.insert(id, handle);
        Ok(())
    }

    /// Looks for a task before the thread sleeps, if one is likely to come at once.
    fn look<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        // One is enough, whatever comes.
        if !state.tasks.is_empty() || state.closed || state.one_looks {
            return state;
        }
        let patience = self.pace.patience_for_tasks();
        if patience.is_zero() {
            return state;
        }
        state.one_looks = true;
        state.idle += 1;
        self.has_come.store(false, Ordering::Relaxed);
        drop(state);
        self.pace
            .look_for_task(patience, || self.has_come.load(Ordering::Acquire));
        let mut state = self.lock();
        state.one_looks = false;
        state.idle -= 1;
        state
    }

    /// The life of one thread.
    fn work(&self, id: u64) {
        let own_wake = Arc::new(Condvar::new());
        let mut state = self.lock();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                drop(state);
                // The panic hook has reported it; whoever waits for the answer sees that the closure is gone.
                self.pace
                    .run(|| ignore(catch_unwind(AssertUnwindSafe(task))));
                state = self.look(self.lock());
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            // Only tests wait for that, and telling nobody is a system call, too.
            #[cfg(test)]
            self.rest.notify_all();
            state.sleepers.push(Arc::clone(&own_wake));
            let (rested, timeout) = own_wake
                .wait_timeout(state, self.idle_for)
                .unwrap_or_else(PoisonError::into_inner);
            state = rested;
            state.sleepers.retain(|wake| !Arc::ptr_eq(wake, &own_wake));
            state.idle -= 1;
            if timeout.timed_out() && state.tasks.is_empty() {
                break;
            }
        }
        // There is no handle if `close` was not willing to wait any longer.
        let own = state.threads.remove(&id);
        state.ended.extend(own);
        drop(state);
        self.rest.notify_all();
    }
}
