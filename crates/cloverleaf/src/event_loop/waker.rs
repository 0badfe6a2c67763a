//! The waker of a task: any thread may ask that it be polled.
//!
//! However often a task is woken before it is polled, it has one entry in the queue. Waking from the loop's own thread
//! goes straight into the ready queue, and from elsewhere through the injector.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use super::current::push_if_current;
use super::job::Job;
use crate::driver::Token;
use crate::error::ignore;
use crate::injector::Injector;

/// Which future a waker belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// The one that `run_until_complete` was given.
    Main,
    /// A spawned one.
    Task(Token),
}

/// Asks that a future be polled.
#[derive(Debug)]
pub(super) struct TaskWaker {
    target: Target,
    queued: AtomicBool,
    injector: Arc<Injector<Job>>,
}

impl TaskWaker {
    pub(super) fn new(target: Target, injector: Arc<Injector<Job>>) -> Arc<Self> {
        Arc::new(Self {
            target,
            queued: AtomicBool::new(false),
            injector,
        })
    }

    /// The future is about to be polled: whoever wakes it from now on means another poll.
    ///
    /// What was written before a wake-up that found the future queued is visible to this poll: the swap here reads
    /// from the swap there.
    pub(super) fn begin_poll(&self) {
        self.queued.swap(false, Ordering::AcqRel);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let job = match self.target {
            Target::Main => Job::Main,
            Target::Task(token) => Job::Poll(token),
        };
        if let Err(job) = push_if_current(&self.injector, job) {
            // A closed loop has dropped the future: there is nobody to wake.
            ignore(self.injector.inject(job));
        }
    }
}
