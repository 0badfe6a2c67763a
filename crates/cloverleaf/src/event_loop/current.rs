//! The loop that runs in this thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::core::Core;
use super::job::Job;
use crate::error::{Error, Result};
use crate::injector::Injector;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The running loop of this thread, if there is one.
pub(crate) fn try_current() -> Option<Rc<Core>> {
    CURRENT
        .try_with(|current| current.borrow().clone())
        .ok()
        .flatten()
}

/// The running loop of this thread.
///
/// # Panics
/// If there is none.
pub(crate) fn current() -> Rc<Core> {
    try_current().expect(
        "no event loop runs in this thread; call this from within `EventLoop::run_until_complete`",
    )
}

/// Puts a job into the ready queue of the loop that this injector belongs to, if that loop runs in this thread and
/// nothing holds its state. Gives the job back otherwise.
pub(super) fn push_if_current(
    injector: &Arc<Injector<Job>>,
    job: Job,
) -> std::result::Result<(), Job> {
    let mut job = Some(job);
    // Both fail only where the injector is the right way: in a dying thread, and while the loop changes.
    let pushed = CURRENT.try_with(|current| {
        let current = current.borrow();
        let core = current
            .as_ref()
            .filter(|core| Arc::ptr_eq(core.injector(), injector))?;
        core.try_push(&mut job)
    });
    match (pushed, job) {
        (Ok(Some(())), _) | (_, None) => Ok(()),
        (_, Some(job)) => Err(job),
    }
}

/// Makes a loop the current one for as long as it lives.
#[derive(Debug)]
pub(super) struct Running(Rc<Core>);

impl Running {
    /// # Errors
    /// [`Error::Running`] if a loop, this or another, runs in this thread.
    pub(super) fn enter(core: &Rc<Core>) -> Result<Self> {
        CURRENT.with(|current| {
            let mut current = current.borrow_mut();
            if current.is_some() {
                return Err(Error::Running);
            }
            *current = Some(Rc::clone(core));
            Ok(Self(Rc::clone(core)))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.clear_stop();
        CURRENT.with(|current| current.borrow_mut().take());
    }
}
