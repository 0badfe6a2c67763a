//! Waiting for a time, and waiting no longer than that.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::core::Core;
use super::current::{current, try_current};
use super::job::Call;
use crate::clock::Time;
use crate::driver::Token;
use crate::timers::TimerKey;

/// Ends at its time, never earlier; made by [`sleep`] and [`sleep_until`].
#[derive(Debug)]
pub struct Sleep {
    when: When,
    timer: Option<(Weak<Core>, TimerKey, Token)>,
}

#[derive(Clone, Copy, Debug)]
enum When {
    After(Duration),
    At(Time),
}

/// Waits for `duration`, counted from now, or from the first poll if no loop runs in this thread yet.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let event_loop = cloverleaf::EventLoop::new()?;
/// event_loop.run_until_complete(cloverleaf::sleep(Duration::from_millis(1)))?;
/// # Ok::<(), cloverleaf::Error>(())
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    let when = match try_current() {
        Some(core) => When::At(core.now() + duration),
        None => When::After(duration),
    };
    Sleep { when, timer: None }
}

/// Waits until `deadline` on the loop's clock; see [`EventLoop::now`](crate::EventLoop::now).
pub fn sleep_until(deadline: Time) -> Sleep {
    Sleep {
        when: When::At(deadline),
        timer: None,
    }
}

impl Sleep {
    fn cancel(&mut self) {
        if let Some((core, timer, token)) = self.timer.take()
            && let Some(core) = core.upgrade()
        {
            drop(core.cancel_call(Some(timer), token));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    /// # Panics
    /// If no loop runs in this thread.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let core = current();
        let deadline = match self.when {
            When::At(deadline) => deadline,
            When::After(duration) => core.now() + duration,
        };
        self.when = When::At(deadline);
        if core.now() >= deadline {
            self.cancel();
            return Poll::Ready(());
        }
        if let Some((its_core, _, token)) = &self.timer
            && core.is(its_core)
            && core.rewake(*token, cx.waker()).is_some()
        {
            return Poll::Pending;
        }
        self.cancel();
        let (timer, token) = core.call_at(deadline, Call::Wake(cx.waker().clone()));
        self.timer = Some((Rc::downgrade(&core), timer, token));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// A future did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time allowed has elapsed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Awaits `future` for at most `duration`, counted as by [`sleep`], and drops it then. A future that is ready when its
/// time is over is asked first.
///
/// # Errors
/// [`Elapsed`] if the time was not enough.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use cloverleaf::{Elapsed, EventLoop, timeout};
///
/// let event_loop = EventLoop::new()?;
/// let never = std::future::pending::<()>();
/// let result = event_loop.run_until_complete(timeout(Duration::from_millis(1), never))?;
/// assert_eq!(result, Err(Elapsed));
/// # Ok::<(), cloverleaf::Error>(())
/// ```
pub fn timeout<F: Future>(
    duration: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    let sleep = sleep(duration);
    async move {
        let (mut future, mut sleep) = (pin!(future), pin!(sleep));
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            sleep.as_mut().poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }
}

/// Lets every job that is ready run before the present task goes on.
pub fn yield_now() -> impl Future<Output = ()> {
    let mut yielded = false;
    poll_fn(move |cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::EventLoop;

    #[test]
    fn what_is_dropped_or_over_leaves_no_timer() {
        let event_loop = EventLoop::new().unwrap();
        let timers = || event_loop.core.state.borrow().scheduler.timers().len();
        let hour = Duration::from_secs(3600);
        let main = async {
            assert_eq!(timeout(hour, yield_now()).await, Ok(()));
            assert_eq!(timers(), 0);
            assert!(timeout(Duration::ZERO, sleep(hour)).await.is_err());
            assert_eq!(timers(), 0);
            assert!(
                timeout(Duration::from_micros(1), pending::<()>())
                    .await
                    .is_err()
            );
            assert_eq!(timers(), 0);
            let mut held = pin!(sleep(hour));
            assert!(
                timeout(Duration::from_micros(1), held.as_mut())
                    .await
                    .is_err()
            );
            assert_eq!(timers(), 1);
        };
        event_loop.run_until_complete(main).unwrap();
        assert_eq!(timers(), 0);
        assert!(event_loop.core.state.borrow().calls.is_empty());
    }
}
