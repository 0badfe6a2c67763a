//! The jobs of one turn: those that have not begun when it ends go back to where they were.
//!
//! A run within the turn (`nested.rs`) takes what is left of it, to go on with that first. So where the jobs are is noted
//! for the thread. They are touched for a few instructions, in which no Python code runs and no object is dropped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ptr;
use std::rc::{Rc, Weak};

use super::Loop;
use crate::job::Job;
use crate::state::LoopState;

type Jobs = RefCell<VecDeque<Job>>;

thread_local! {
    /// Of which loop each turn is that has begun in this thread, and its jobs; the innermost comes last.
    static TURNS: RefCell<Vec<(*const Loop, Weak<Jobs>)>> = const { RefCell::new(Vec::new()) };
}

/// The jobs of one turn, of the loop that this thread runs.
pub(super) struct Batch<'a> {
    pub(super) this: &'a Loop,
    jobs: Rc<Jobs>,
    /// Whether the loop serves so many that what an event needs is no more in the processor's cache.
    pub(super) has_many_sources: bool,
}

impl<'a> Batch<'a> {
    /// Begins with these jobs.
    pub(super) fn new(this: &'a Loop, jobs: VecDeque<Job>) -> Self {
        let jobs = Rc::new(RefCell::new(jobs));
        // A thread that is about to end runs no loop.
        cloverleaf::ignore(TURNS.try_with(|turns| {
            let noted = (ptr::from_ref(this), Rc::downgrade(&jobs));
            turns.borrow_mut().push(noted);
        }));
        Self {
            this,
            jobs,
            has_many_sources: false,
        }
    }

    /// The next job, if there is one, and how many are behind it.
    #[inline]
    pub(super) fn pop(&self) -> Option<(Job, usize)> {
        let mut jobs = self.jobs.borrow_mut();
        let job = jobs.pop_front()?;
        Some((job, jobs.len()))
    }

    /// Looks at the jobs that have not begun, or gives them others.
    #[inline]
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut VecDeque<Job>) -> R) -> R {
        look(&mut self.jobs.borrow_mut())
    }

    /// How many have not begun.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.jobs.borrow().len()
    }

    /// Takes those that have not begun.
    pub(super) fn take(&self) -> VecDeque<Job> {
        self.jobs.take()
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        cloverleaf::ignore(TURNS.try_with(|turns| {
            let is_own =
                |(_, jobs): &(_, Weak<Jobs>)| ptr::eq(jobs.as_ptr(), Rc::as_ptr(&self.jobs));
            turns.borrow_mut().retain(|noted| !is_own(noted));
        }));
        let jobs = self.take();
        if !jobs.is_empty() {
            let give = |state: &mut LoopState, jobs| state.scheduler.put_back(jobs);
            // Not borrowed: a turn ends between two jobs. Were it refused, they would go with nothing borrowed.
            drop(self.this.state().give(jobs, give));
        }
    }
}

/// Takes what is left of the turn in which this thread runs the loop; nothing, if it runs none of it.
pub(super) fn take_rest(this: &Loop) -> VecDeque<Job> {
    let innermost = TURNS.try_with(|turns| {
        let turns = turns.borrow();
        let mut own = turns.iter().filter(|(of, _)| ptr::eq(*of, this));
        own.next_back().and_then(|(_, jobs)| jobs.upgrade())
    });
    let jobs = innermost.ok().flatten();
    jobs.map(|jobs| jobs.take()).unwrap_or_default()
}
