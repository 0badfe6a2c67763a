//! Awaitables whose answer comes from any thread.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;

use crate::event_loop::{self, Closed, EventLoop, ignore};
use crate::outcome::{Completion, Outcome, unanswered};

/// An awaitable of the loop that runs, and who gives its answer, from any thread, once.
///
/// # Errors
/// `RuntimeError` if no loop runs in this thread.
pub fn promise(py: Python<'_>) -> PyResult<(Completer, Bound<'_, PyAny>)> {
    let event_loop = event_loop::running(py)?;
    let future = event_loop.call_method0(intern!(py, "create_future"))?;
    let watch = Arc::new(Watch::default());
    let watcher = Bound::new(py, Watcher(Arc::clone(&watch)))?;
    future.call_method1(intern!(py, "add_done_callback"), (watcher,))?;
    let completer = Completer {
        answer: Some(future.clone().unbind()),
        event_loop: EventLoop::of(&event_loop)?,
        watch,
    };
    Ok((completer, future))
}

/// Gives an awaitable its answer; see [`promise`].
///
/// No method needs Python, and on Cloverleaf's loop none waits for it. Dropped unused, it ends the awaitable with a
/// `RuntimeError`.
pub struct Completer {
    /// The future, until it has its answer.
    answer: Option<Py<PyAny>>,
    event_loop: EventLoop,
    watch: Arc<Watch>,
}

impl fmt::Debug for Completer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer")
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Completer {
    /// Ends the awaitable with a value, which becomes an object on the loop's thread, or with an exception. If Python has
    /// ended it meanwhile, nothing happens.
    ///
    /// # Errors
    /// [`Closed`] if the loop is closed.
    pub fn complete<T>(self, answer: PyResult<T>) -> Result<(), Closed>
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        self.end(Outcome::Value(answer))
    }

    /// Cancels the awaitable: whoever awaits it gets `asyncio.CancelledError`.
    ///
    /// # Errors
    /// [`Closed`] if the loop is closed.
    pub fn cancel(self) -> Result<(), Closed> {
        self.end(Outcome::<()>::Cancelled)
    }

    /// Whether Python has cancelled the awaitable, or ended it in another way, so that no answer is wanted any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.watch.state(), State::Ended)
    }

    /// Has `hook` called once if Python cancels the awaitable: on the loop's thread, attached to Python, or at once if it
    /// has done so already. Takes the place of an earlier hook.
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) {
        let mut state = self.watch.state();
        let before = match &mut *state {
            State::Waiting(place) => place.replace(Box::new(hook)),
            State::Answered => None,
            State::Ended => {
                drop(state);
                return hook();
            }
        };
        drop(state);
        drop(before);
    }

    fn end<T>(mut self, outcome: Outcome<T>) -> Result<(), Closed>
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        match self.answer.take() {
            Some(future) => self.post(future, outcome),
            None => Ok(()),
        }
    }

    fn post<T>(&self, future: Py<PyAny>, outcome: Outcome<T>) -> Result<(), Closed>
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        self.watch.answer();
        let completion = Box::new(Completion { future, outcome });
        self.event_loop.post(completion, None)
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        if let Some(future) = self.answer.take() {
            // Of a closed loop nobody awaits it.
            ignore(self.post(future, Outcome::<()>::Value(Err(unanswered()))));
        }
    }
}

type Hook = Box<dyn FnOnce() + Send>;

/// What Python is heard to do with the awaitable.
enum State {
    Waiting(Option<Hook>),
    /// Its answer is on its way.
    Answered,
    /// Python has ended it.
    Ended,
}

struct Watch(Mutex<State>);

impl Default for Watch {
    fn default() -> Self {
        Self(Mutex::new(State::Waiting(None)))
    }
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing foreign runs, and nothing is dropped, under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self) {
        let mut state = self.state();
        let before = match &*state {
            State::Waiting(_) => mem::replace(&mut *state, State::Answered),
            State::Answered | State::Ended => return,
        };
        drop(state);
        drop(before);
    }

    fn end(&self) {
        let mut state = self.state();
        let before = match &*state {
            State::Waiting(_) => mem::replace(&mut *state, State::Ended),
            State::Answered | State::Ended => return,
        };
        drop(state);
        if let State::Waiting(Some(hook)) = before {
            hook();
        }
    }
}

/// What the future calls when it has ended.
#[pyclass(
    frozen,
    immutable_type,
    name = "RustWatcher",
    module = "cloverleaf_futures"
)]
struct Watcher(Arc<Watch>);

#[pymethods]
impl Watcher {
    fn __call__(&self, _future: &Bound<'_, PyAny>) {
        self.0.end();
    }
}
