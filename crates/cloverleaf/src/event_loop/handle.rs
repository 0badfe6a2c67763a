//! What the loop's face hands out: calls that can be cancelled, and the way in from other threads.

use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::EventLoop;
use super::core::Core;
use super::job::Job;
use crate::clock::{Clock, Time};
use crate::driver::Token;
use crate::error::{Error, Result};
use crate::injector::Injector;
use crate::stats::{Metrics, Stats};
use crate::timers::TimerKey;

/// A call that [`EventLoop::call_soon`] has put into the queue. Dropping the handle changes nothing.
#[derive(Clone, Debug)]
pub struct Handle {
    core: Weak<Core>,
    token: Token,
}

impl Handle {
    pub(super) fn new(core: &Rc<Core>, token: Token) -> Self {
        Self {
            core: Rc::downgrade(core),
            token,
        }
    }

    /// Drops the call, which will not run; `false` if it has run, or was cancelled already.
    pub fn cancel(&self) -> bool {
        self.cancel_with(None)
    }

    /// Whether the call is still to come.
    pub fn is_pending(&self) -> bool {
        self.core
            .upgrade()
            .is_some_and(|core| core.has_call(self.token))
    }

    fn cancel_with(&self, timer: Option<TimerKey>) -> bool {
        let Some(core) = self.core.upgrade() else {
            return false;
        };
        // The closure's destructor runs when the loop's state is whole again.
        let call = core.cancel_call(timer, self.token);
        call.is_some()
    }
}

/// A call that waits for its time. Dropping the handle changes nothing.
#[derive(Clone, Debug)]
pub struct TimerHandle {
    handle: Handle,
    timer: TimerKey,
    deadline: Time,
}

impl TimerHandle {
    pub(super) fn new(handle: Handle, timer: TimerKey, deadline: Time) -> Self {
        Self {
            handle,
            timer,
            deadline,
        }
    }

    /// Drops the call at once; `false` if it has run, or was cancelled already.
    pub fn cancel(&self) -> bool {
        self.handle.cancel_with(Some(self.timer))
    }

    /// Whether the call is still to come.
    pub fn is_pending(&self) -> bool {
        self.handle.is_pending()
    }

    /// When the call is due.
    pub fn when(&self) -> Time {
        self.deadline
    }
}

/// The way to a loop from other threads; clones lead to the same loop.
#[derive(Clone, Debug)]
pub struct LoopHandle {
    injector: Arc<Injector<Job>>,
    stats: Arc<Stats>,
    clock: Clock,
}

impl LoopHandle {
    pub(super) fn new(injector: Arc<Injector<Job>>, stats: Arc<Stats>, clock: Clock) -> Self {
        Self {
            injector,
            stats,
            clock,
        }
    }

    /// What the loop has done so far, in numbers, also after its end. What it has before it is as it was at the beginning of
    /// the present turn, or of the last one.
    pub fn metrics(&self) -> Metrics {
        self.stats.metrics(|| self.clock.now())
    }

    /// Runs `call` in the loop's thread, behind the jobs that are ready, and wakes the loop if it sleeps.
    ///
    /// # Errors
    /// [`Error::Closed`] if the loop was dropped. `call` is dropped then.
    pub fn call_soon_threadsafe(
        &self,
        call: impl FnOnce(&EventLoop) + Send + 'static,
    ) -> Result<()> {
        match self.injector.inject(Job::Remote(Box::new(call))) {
            Ok(()) => Ok(()),
            Err(refused) => {
                drop(refused);
                Err(Error::Closed)
            }
        }
    }

    /// Whether the loop was dropped.
    pub fn is_closed(&self) -> bool {
        self.injector.is_closed()
    }
}
