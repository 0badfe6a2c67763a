//! Futures as tasks, and who waits for them.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::core::Core;
use super::waker::TaskWaker;
use crate::driver::Token;
use crate::task::{JoinError, Listener, end};

pub(super) type BoxedFuture = Pin<Box<dyn Future<Output = ()>>>;

/// A spawned future in its place in the loop.
pub(super) struct Task {
    /// `None` while it is polled.
    future: Option<BoxedFuture>,
    waker: Arc<TaskWaker>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("polled", &self.future.is_none())
            .finish_non_exhaustive()
    }
}

impl Task {
    pub(super) fn new(future: BoxedFuture, waker: Arc<TaskWaker>) -> Self {
        Self {
            future: Some(future),
            waker,
        }
    }
}

/// Waits for a task, and can abort it.
///
/// Dropping the handle detaches the task, which goes on. The handle is a future whose output is the task's value, or a
/// [`JoinError`] if it panicked or was aborted.
pub struct JoinHandle<T> {
    listener: Listener<T>,
    task: Option<(Weak<Core>, Token)>,
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

impl<T> JoinHandle<T> {
    /// Drops the task's future, now, or if it is just being polled, when that returns. Does nothing if the task has
    /// ended. A blocking call goes on; [`spawn_blocking`](crate::spawn_blocking) says why.
    pub fn abort(&self) {
        let Some((core, token)) = &self.task else {
            return;
        };
        if let Some(core) = core.upgrade() {
            // The future's destructors run here, after the loop's state is whole again.
            drop(core.remove_task(*token));
        }
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.listener.is_told()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.listener.poll(cx)
    }
}

/// Makes a future a task of this loop.
pub(crate) fn spawn_on<F>(core: &Rc<Core>, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let (teller, listener) = end();
    let task = if core.is_closed() {
        // The future and the teller end here, and the handle says that the task was aborted.
        None
    } else {
        let (token, waker) = core.add_task(Box::pin(teller.tell_end_of(future)));
        waker.wake();
        Some((Rc::downgrade(core), token))
    };
    JoinHandle { listener, task }
}

/// Runs a closure on the loop's pool.
pub(crate) fn spawn_blocking_on<T>(
    core: &Core,
    call: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T>
where
    T: Send + 'static,
{
    let (teller, listener) = end();
    // A refused closure is dropped with its teller, and the handle says that the call was aborted.
    crate::error::ignore(core.pool().submit(move || teller.tell_result_of(call)));
    JoinHandle {
        listener,
        task: None,
    }
}

/// Polls a task, if it is there still.
pub(super) fn poll_task(core: &Core, token: Token) {
    let Some((mut future, waker)) = take_future(&core.state, token) else {
        return;
    };
    waker.begin_poll();
    let waker = Waker::from(waker);
    let mut cx = Context::from_waker(&waker);
    // The task's own panics are told to its handle; what arrives here comes from a destructor.
    let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
    if matches!(polled, Ok(Poll::Pending)) {
        // A task that was aborted meanwhile gets its future back, to be dropped here.
        drop(put_back(&core.state, token, future));
        return;
    }
    drop(core.remove_task(token));
    drop(future);
    if let Err(payload) = polled {
        resume_unwind(payload);
    }
}

fn take_future(
    state: &RefCell<super::core::State>,
    token: Token,
) -> Option<(BoxedFuture, Arc<TaskWaker>)> {
    let mut state = state.borrow_mut();
    let task = state.tasks.get_mut(token)?;
    let waker = Arc::clone(&task.waker);
    Some((task.future.take()?, waker))
}

fn put_back(
    state: &RefCell<super::core::State>,
    token: Token,
    future: BoxedFuture,
) -> Option<BoxedFuture> {
    match state.borrow_mut().tasks.get_mut(token) {
        Some(task) => {
            task.future = Some(future);
            None
        }
        None => Some(future),
    }
}

#[cfg(test)]
mod tests {
    use crate::{EventLoop, yield_now};

    #[test]
    fn a_task_that_has_ended_leaves_its_place() {
        let event_loop = EventLoop::new().unwrap();
        let tasks = || event_loop.core.state.borrow().tasks.len();
        drop(event_loop.spawn(async {}));
        let aborted = event_loop.spawn(std::future::pending::<()>());
        let waiting = event_loop.spawn(std::future::pending::<()>());
        assert_eq!(tasks(), 3);
        event_loop.run_until_complete(yield_now()).unwrap();
        aborted.abort();
        assert_eq!(tasks(), 1);
        assert!(!waiting.is_finished());
    }
}
