//! How a task or a blocking call ends, and how that end reaches who waits for it.
//!
//! Every end is told exactly once: a value, a panic's payload, or [`JoinError::Aborted`] when what was to tell it is
//! dropped untold. The two halves may be on different threads.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Why a task has no value.
pub enum JoinError {
    /// It was aborted, or its loop or pool was closed before it had ended.
    Aborted,
    /// It panicked; this is the panic's payload.
    Panicked(Box<dyn Any + Send>),
}

impl JoinError {
    /// Goes on with the task's panic.
    ///
    /// # Panics
    /// With the task's payload; and if the task was aborted, with a message that says so.
    pub fn resume(self) -> ! {
        match self {
            Self::Aborted => panic!("the task was aborted"),
            Self::Panicked(payload) => resume_unwind(payload),
        }
    }

    fn message(&self) -> Option<&str> {
        match self {
            Self::Aborted => None,
            Self::Panicked(payload) => payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str)),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => f.write_str("Aborted"),
            Self::Panicked(_) => f.debug_tuple("Panicked").field(&self.message()).finish(),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.message()) {
            (Self::Aborted, _) => f.write_str("the task was aborted"),
            (Self::Panicked(_), Some(message)) => write!(f, "the task panicked: {message}"),
            (Self::Panicked(_), None) => f.write_str("the task panicked"),
        }
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for std::io::Error {
    fn from(error: JoinError) -> Self {
        Self::other(error.to_string())
    }
}

/// The value of a task, or why there is none.
pub(crate) type Outcome<T> = Result<T, JoinError>;

enum End<T> {
    Awaited(Option<Waker>),
    Told(Outcome<T>),
    Taken,
}

/// The half that tells the end.
pub(crate) struct Teller<T>(Arc<Mutex<End<T>>>);

/// The half that waits for the end.
pub(crate) struct Listener<T>(Arc<Mutex<End<T>>>);

/// Two halves of one end.
pub(crate) fn end<T>() -> (Teller<T>, Listener<T>) {
    let shared = Arc::new(Mutex::new(End::Awaited(None)));
    (Teller(Arc::clone(&shared)), Listener(shared))
}

fn lock<T>(shared: &Mutex<End<T>>) -> MutexGuard<'_, End<T>> {
    // Under the lock values are moved and wakers cloned; a waker whose clone panics leaves the end as it was.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> fmt::Debug for Teller<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller(..)")
    }
}

impl<T> Teller<T> {
    /// Tells the end.
    pub(crate) fn tell(self, outcome: Outcome<T>) {
        self.tell_once(outcome);
    }

    fn tell_once(&self, outcome: Outcome<T>) {
        let mut end = lock(&self.0);
        if !matches!(*end, End::Awaited(_)) {
            return;
        }
        let End::Awaited(waker) = std::mem::replace(&mut *end, End::Told(outcome)) else {
            return;
        };
        drop(end);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Runs a closure and tells how it ended.
    pub(crate) fn tell_result_of(self, call: impl FnOnce() -> T) {
        let outcome = catch_unwind(AssertUnwindSafe(call)).map_err(JoinError::Panicked);
        self.tell(outcome);
    }

    /// Awaits a future, drops it, and tells how it ended.
    pub(crate) async fn tell_end_of(self, future: impl Future<Output = T>) {
        let outcome = {
            let mut future = pin!(future);
            poll_fn(
                |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                    Ok(poll) => poll.map(Ok),
                    Err(payload) => Poll::Ready(Err(JoinError::Panicked(payload))),
                },
            )
            .await
        };
        self.tell(outcome);
    }
}

impl<T> Drop for Teller<T> {
    fn drop(&mut self) {
        self.tell_once(Err(JoinError::Aborted));
    }
}

impl<T> Listener<T> {
    /// Whether the end was told.
    pub(crate) fn is_told(&self) -> bool {
        !matches!(*lock(&self.0), End::Awaited(_))
    }

    /// The end, once; `Pending` for ever after.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Outcome<T>> {
        let mut end = lock(&self.0);
        if let End::Awaited(waker) = &mut *end {
            let former = waker.replace(cx.waker().clone());
            drop(end);
            drop(former);
            return Poll::Pending;
        }
        match std::mem::replace(&mut *end, End::Taken) {
            End::Told(outcome) => Poll::Ready(outcome),
            End::Awaited(_) | End::Taken => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<T>(listener: &Listener<T>) -> Option<Outcome<T>> {
        match listener.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    #[test]
    fn an_end_is_told_once() {
        let (teller, listener) = end();
        assert!(told(&listener).is_none());
        teller.tell(Ok(5));
        assert!(listener.is_told());
        assert!(matches!(told(&listener), Some(Ok(5))));
        assert!(told(&listener).is_none());
    }

    #[test]
    fn what_is_dropped_untold_was_aborted() {
        let (teller, listener) = end::<()>();
        drop(teller);
        assert!(matches!(told(&listener), Some(Err(JoinError::Aborted))));
    }

    #[test]
    fn a_panic_is_told_with_its_payload() {
        let (teller, listener) = end::<()>();
        teller.tell_result_of(|| panic!("on purpose"));
        let Some(Err(error)) = told(&listener) else {
            panic!("it has ended");
        };
        assert_eq!(error.to_string(), "the task panicked: on purpose");
    }
}
