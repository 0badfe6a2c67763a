//! What a loop owns, and the short changes to it.
//!
//! Every method borrows the state, changes it and ends the borrow before it returns; none runs foreign code while it
//! holds it. What a change removes is returned, so that its destructor runs under no borrow.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;

use super::job::{Call, Job};
use super::spawn::{BoxedFuture, Task};
use super::waiters::Source;
use super::waker::{Target, TaskWaker};
use crate::blocking::BlockingPool;
use crate::clock::{Clock, Time};
use crate::driver::{AnyDriver, Token};
use crate::injector::Injector;
use crate::reactor::Reactor;
use crate::registry::Registry;
use crate::scheduler::Scheduler;
use crate::stats::{Metrics, Stats};
use crate::timers::TimerKey;

/// The state of one loop.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) state: RefCell<State>,
    injector: Arc<Injector<Job>>,
    stats: Arc<Stats>,
    pool: BlockingPool,
    turn: Cell<u64>,
    closed: Cell<bool>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) scheduler: Scheduler<Job>,
    pub(super) reactor: Reactor<AnyDriver, Source>,
    pub(super) calls: Registry<Call>,
    pub(super) tasks: Registry<Task>,
}

impl Core {
    pub(super) fn new(driver: AnyDriver, clock: Clock) -> Rc<Self> {
        let reactor = Reactor::new(driver);
        let scheduler = Scheduler::new(clock, reactor.waker());
        Rc::new(Self {
            injector: Arc::clone(scheduler.injector()),
            stats: Arc::clone(scheduler.stats()),
            state: RefCell::new(State {
                scheduler,
                reactor,
                calls: Registry::new(),
                tasks: Registry::new(),
            }),
            pool: BlockingPool::new(),
            turn: Cell::new(0),
            closed: Cell::new(false),
        })
    }

    pub(super) fn injector(&self) -> &Arc<Injector<Job>> {
        &self.injector
    }

    pub(super) fn clock(&self) -> Clock {
        self.state.borrow().scheduler.clock().clone()
    }

    pub(super) fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// What the loop has done, and what it has before it now.
    pub(super) fn metrics(&self) -> Metrics {
        let state = self.state.borrow();
        state.scheduler.note_waiting(state.reactor.len());
        self.stats.metrics(|| state.scheduler.now())
    }

    pub(super) fn pool(&self) -> &BlockingPool {
        &self.pool
    }

    pub(crate) fn now(&self) -> Time {
        self.state.borrow().scheduler.now()
    }

    /// The number of the present turn.
    pub(crate) fn turn(&self) -> u64 {
        self.turn.get()
    }

    pub(super) fn begin_turn(&self) {
        self.turn.set(self.turn.get() + 1);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether this is the loop that `other` leads to.
    pub(super) fn is(&self, other: &Weak<Self>) -> bool {
        std::ptr::eq(self, other.as_ptr())
    }

    /// Takes the job and queues it, unless the state is being changed.
    pub(super) fn try_push(&self, job: &mut Option<Job>) -> Option<()> {
        let mut state = self.state.try_borrow_mut().ok()?;
        state.scheduler.push(job.take()?);
        Some(())
    }

    pub(super) fn call_soon(&self, call: Call) -> Token {
        let mut state = self.state.borrow_mut();
        let token = state.calls.insert(call);
        state.scheduler.push(Job::Call(token));
        token
    }

    pub(super) fn call_at(&self, deadline: Time, call: Call) -> (TimerKey, Token) {
        let mut state = self.state.borrow_mut();
        let token = state.calls.insert(call);
        (state.scheduler.push_at(deadline, Job::Call(token)), token)
    }

    /// Takes a call back; its job, if it is queued already, does nothing.
    pub(super) fn cancel_call(&self, timer: Option<TimerKey>, token: Token) -> Option<Call> {
        let mut state = self.state.borrow_mut();
        if let Some(timer) = timer {
            state.scheduler.cancel(timer);
        }
        state.calls.remove(token)
    }

    /// Whether a call waits still.
    pub(super) fn has_call(&self, token: Token) -> bool {
        self.state.borrow().calls.get(token).is_some()
    }

    /// Changes whom a timer wakes. `None` if it has fired.
    pub(super) fn rewake(&self, token: Token, waker: &Waker) -> Option<()> {
        let waker = waker.clone();
        let former = std::mem::replace(
            self.state.borrow_mut().calls.get_mut(token)?,
            Call::Wake(waker),
        );
        drop(former);
        Some(())
    }

    pub(super) fn add_task(&self, future: BoxedFuture) -> (Token, Arc<TaskWaker>) {
        let mut state = self.state.borrow_mut();
        let mut waker = None;
        let token = state.tasks.insert_with(|token| {
            let its_waker = TaskWaker::new(Target::Task(token), Arc::clone(&self.injector));
            waker = Some(Arc::clone(&its_waker));
            Task::new(future, its_waker)
        });
        drop(state);
        (
            token,
            waker.expect("invariant: the registry makes what it inserts"),
        )
    }

    pub(super) fn remove_task(&self, token: Token) -> Option<Task> {
        self.state.borrow_mut().tasks.remove(token)
    }

    pub(super) fn stop(&self) {
        self.state.borrow_mut().scheduler.stop();
    }

    pub(super) fn clear_stop(&self) {
        self.state.borrow_mut().scheduler.clear_stop();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state.borrow().scheduler.is_stopping()
    }

    /// Drops every task, call and job, and refuses more. Destructors may still ask the loop for things; what they get
    /// is dropped as well.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.pool.close();
        loop {
            let mut state = self.state.borrow_mut();
            let jobs = state.scheduler.close();
            let tasks = state.tasks.take_all();
            let calls = state.calls.take_all();
            let waiters = state.reactor.take_all();
            drop(state);
            if jobs.is_empty() && tasks.is_empty() && calls.is_empty() && waiters.is_empty() {
                break;
            }
        }
        // Wakers may be about for longer than the loop, and hold nothing of it from here on.
        self.state.borrow_mut().reactor.driver_mut().close();
    }
}
