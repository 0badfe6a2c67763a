//! Rust futures that are polled on the loop's thread.
//!
//! A task is kept by whoever will wake it, and by the job that polls it next. If nobody does, it ends: its awaitable
//! hears of that, and nobody waits for ever.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::event_loop::{self, Closed, EventLoop, ignore};
use crate::offer::{Job, caught, drop_caught};
use crate::outcome::{Completion, Outcome, into_object, settle, unanswered};

/// An awaitable, an `asyncio.Future` of the loop that runs, of what a Rust future brings.
///
/// The future is polled first in the loop's next turn, as a task's coroutine is, and whenever one of its wakers asks for it:
/// on the loop's thread, attached to Python, in a copy of the caller's `contextvars` context. So it may use Python at any
/// time, and must not take long. It is dropped, in that context, when Python cancels the awaitable.
///
/// # Errors
/// `RuntimeError` if no loop runs in this thread, or the loop takes nothing any more.
pub fn future_into_py<F, T>(py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    let event_loop = event_loop::running(py)?;
    let awaitable = event_loop.call_method0(intern!(py, "create_future"))?;
    let task = Arc::new(Task {
        event_loop: EventLoop::of(&event_loop)?,
        context: event_loop::copy_context(py)?.unbind(),
        awaitable: Some(awaitable.clone().unbind()),
        future: Mutex::new(Some(Box::pin(future))),
        is_queued: AtomicBool::new(true),
        is_given_up: AtomicBool::new(false),
    });
    let weak = Arc::downgrade(&task);
    let watcher = Bound::new(py, TaskWatcher(weak))?;
    let names = PyDict::new(py);
    names.set_item(intern!(py, "context"), &task.context)?;
    let add_done_callback = intern!(py, "add_done_callback");
    awaitable.call_method(add_done_callback, (watcher,), Some(&names))?;
    task.queue()
        .map_err(|closed| PyRuntimeError::new_err(closed.to_string()))?;
    Ok(awaitable)
}

type Polled<F> = Option<Pin<Box<F>>>;

struct Task<F> {
    event_loop: EventLoop,
    context: Py<PyAny>,
    /// None when the task is dropped.
    awaitable: Option<Py<PyAny>>,
    /// None when it has ended.
    future: Mutex<Polled<F>>,
    /// Whether a job that polls it is on its way.
    is_queued: AtomicBool,
    /// Whether Python has cancelled it while it was polled.
    is_given_up: AtomicBool,
}

impl<F, T> Task<F>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    fn queue(self: Arc<Self>) -> Result<(), Closed> {
        let task = Arc::clone(&self);
        task.event_loop.post(self, Some(&task.context))
    }

    /// Polls it once, in its context.
    fn poll(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let Ok(mut polled) = self.future.try_lock() else {
            return Ok(());
        };
        let Some(future) = polled.as_mut() else {
            return Ok(());
        };
        let waker = Waker::from(Arc::clone(self));
        let answer = match caught(|| Ok(future.as_mut().poll(&mut Context::from_waker(&waker)))) {
            Ok(Poll::Pending) if self.is_given_up.load(Ordering::Acquire) => None,
            Ok(Poll::Pending) => return Ok(()),
            Ok(Poll::Ready(answer)) => Some(answer),
            Err(panic) => Some(Err(panic)),
        };
        let future = polled.take();
        drop(polled);
        drop_caught(future);
        match (answer, &self.awaitable) {
            (Some(answer), Some(awaitable)) => {
                settle(awaitable.bind(py), |py| into_object(py, answer?))
            }
            (None, _) | (_, None) => Ok(()),
        }
    }
}

impl<F, T> Job for Arc<Task<F>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    fn run(self, py: Python<'_>) -> PyResult<()> {
        // Before it is polled: who wakes it from now on wants it polled again.
        self.is_queued.store(false, Ordering::SeqCst);
        let context = self.context.bind(py);
        self.event_loop.call_in(context, || self.poll(py))
    }
}

impl<F, T> Wake for Task<F>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::SeqCst) {
            // Of a closed loop nobody awaits it, and the future goes with its last waker.
            ignore(self.queue());
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::SeqCst) {
            ignore(Arc::clone(self).queue());
        }
    }
}

impl<F> Drop for Task<F> {
    fn drop(&mut self) {
        let future = self.future.get_mut();
        let future = future.unwrap_or_else(PoisonError::into_inner).take();
        let (Some(future), Some(awaitable)) = (future, self.awaitable.take()) else {
            return;
        };
        drop_caught(future);
        let completion = Completion {
            future: awaitable,
            outcome: Outcome::<()>::Value(Err(unanswered())),
        };
        // Of a closed loop nobody awaits it.
        ignore(self.event_loop.post(Box::new(completion), None));
    }
}

/// What a task does when Python has ended its awaitable.
trait GiveUp: Send + Sync {
    fn give_up(&self);
}

impl<F: Send> GiveUp for Task<F> {
    fn give_up(&self) {
        let future = match self.future.try_lock() {
            Ok(mut polled) => polled.take(),
            Err(TryLockError::Poisoned(polled)) => polled.into_inner().take(),
            // It is being polled, by this thread.
            Err(TryLockError::WouldBlock) => {
                self.is_given_up.store(true, Ordering::Release);
                None
            }
        };
        drop_caught(future);
    }
}

/// What the awaitable calls when it has ended. It keeps no task alive.
#[pyclass(
    frozen,
    immutable_type,
    name = "RustWatcher",
    module = "cloverleaf_futures"
)]
struct TaskWatcher(Weak<dyn GiveUp>);

#[pymethods]
impl TaskWatcher {
    fn __call__(&self, _awaitable: &Bound<'_, PyAny>) {
        if let Some(task) = self.0.upgrade() {
            task.give_up();
        }
    }
}
