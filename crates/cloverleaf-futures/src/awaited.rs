//! What Python can await, awaited in Rust.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::event_loop::{self, EventLoop, ignore};
use crate::offer::{Job, caught};

/// A Rust future of what `awaitable` brings: a coroutine, which becomes a task of the loop that runs, or a future of it, or
/// whatever else `asyncio.ensure_future` takes.
///
/// It can be awaited in [`future_into_py`](crate::future_into_py), or on any thread and in any runtime. Dropped before its
/// end, it cancels what it waits for.
///
/// # Errors
/// `RuntimeError` if no loop runs in this thread, and what `ensure_future` raises.
pub fn into_future(awaitable: &Bound<'_, PyAny>) -> PyResult<Awaited> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = awaitable.py();
    let event_loop = event_loop::running(py)?;
    let names = PyDict::new(py);
    names.set_item(intern!(py, "loop"), &event_loop)?;
    let ensure_future = FUNCTION.import(py, "asyncio", "ensure_future")?;
    let future = ensure_future.call((awaitable,), Some(&names))?;
    let inbox = Arc::new(Inbox(Mutex::new(State::Waiting(None))));
    let arrival = Bound::new(py, Arrival(Arc::clone(&inbox)))?;
    future.call_method1(intern!(py, "add_done_callback"), (arrival,))?;
    Ok(Awaited {
        future: Some(future.unbind()),
        event_loop: EventLoop::of(&event_loop)?,
        inbox,
    })
}

/// A Rust future of something that Python can await; see [`into_future`].
#[must_use = "dropped, it cancels what it waits for"]
pub struct Awaited {
    /// None when it has ended.
    future: Option<Py<PyAny>>,
    event_loop: EventLoop,
    inbox: Arc<Inbox>,
}

impl fmt::Debug for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaited").finish_non_exhaustive()
    }
}

impl Future for Awaited {
    type Output = PyResult<Py<PyAny>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.inbox.state();
        match mem::replace(&mut *state, State::Taken) {
            State::Waiting(before) => {
                let waker = match before {
                    Some(waker) if waker.will_wake(context.waker()) => (waker, None),
                    before => (context.waker().clone(), before),
                };
                *state = State::Waiting(Some(waker.0));
                drop(state);
                // Another task's last waker, perhaps.
                drop(waker.1);
                Poll::Pending
            }
            State::Arrived(result) => {
                drop(state);
                self.future = None;
                Poll::Ready(result)
            }
            // As a future that is polled after its end may.
            State::Taken => Poll::Pending,
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            // What does not end when it is cancelled would keep the waker's task.
            let before = mem::replace(&mut *self.inbox.state(), State::Taken);
            drop(before);
            // On a closed loop nothing runs that could be cancelled.
            ignore(self.event_loop.post(Box::new(Cancel(future)), None));
        }
    }
}

struct Cancel(Py<PyAny>);

impl Job for Box<Cancel> {
    fn run(self, py: Python<'_>) -> PyResult<()> {
        self.0.call_method0(py, intern!(py, "cancel")).map(drop)
    }
}

enum State {
    Waiting(Option<Waker>),
    Arrived(PyResult<Py<PyAny>>),
    Taken,
}

struct Inbox(Mutex<State>);

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing foreign runs under the lock but the clone of a waker.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the future calls when it has ended.
#[pyclass(
    frozen,
    immutable_type,
    name = "RustArrival",
    module = "cloverleaf_futures"
)]
struct Arrival(Arc<Inbox>);

#[pymethods]
impl Arrival {
    fn __call__(&self, future: &Bound<'_, PyAny>) {
        // PyO3 panics where it fetches a `PanicException`, which is what another Rust future may have ended with.
        let result = caught(|| future.call_method0(intern!(future.py(), "result")));
        let arrived = State::Arrived(result.map(Bound::unbind));
        let before = mem::replace(&mut *self.0.state(), arrived);
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}
