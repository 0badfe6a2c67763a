//! `EventLoop`, the loop's face for a Rust program.

mod builder;
mod core;
mod current;
mod handle;
mod job;
mod operate;
mod run;
mod spawn;
mod timer;
mod waiters;
mod waker;
mod watch;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use self::builder::Builder;
use self::core::Core;
use self::current::Running;
pub(crate) use self::current::try_current;
pub use self::handle::{Handle, LoopHandle, TimerHandle};
use self::job::Call;
pub(crate) use self::operate::operate;
pub use self::spawn::JoinHandle;
pub(crate) use self::spawn::{spawn_blocking_on, spawn_on};
pub use self::timer::{Elapsed, Sleep, sleep, sleep_until, timeout, yield_now};
pub(crate) use self::watch::{Direction, Watched};
use crate::clock::{Clock, Time};
use crate::driver::{AnyDriver, InUse};
use crate::error::Result;
use crate::stats::{Metrics, Stats};

/// A single-threaded event loop.
///
/// It belongs to the thread that made it. Other threads reach it through [`handle`](Self::handle). Dropping the loop
/// drops every task and every call that has not run, closes the descriptors that they own, and ends the threads of its
/// pool that are free.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use cloverleaf::{EventLoop, sleep, spawn};
///
/// let event_loop = EventLoop::new()?;
/// let sum = event_loop.run_until_complete(async {
///     let slow = spawn(async {
///         sleep(Duration::from_millis(1)).await;
///         40
///     });
///     slow.await.expect("neither aborted nor panicked") + 2
/// })?;
/// assert_eq!(sum, 42);
/// # Ok::<(), cloverleaf::Error>(())
/// ```
#[derive(Debug)]
pub struct EventLoop {
    core: Rc<Core>,
}

impl EventLoop {
    /// A loop on the kernel's clock, with the driver that suits this kernel; see [`builder`](Self::builder).
    ///
    /// # Errors
    /// Those of [`Builder::build`].
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// A loop that is not made yet, to be told how.
    ///
    /// # Examples
    /// ```
    /// use cloverleaf::{Backend, EventLoop};
    ///
    /// let event_loop = EventLoop::builder().backend(Backend::Epoll).build()?;
    /// assert_eq!(event_loop.backend().map(|backend| backend.to_string()).as_deref(), Some("epoll"));
    /// # Ok::<(), cloverleaf::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Which interfaces of the kernel the loop uses, and why not more; `None` if its driver is a fake.
    ///
    /// A loop that may use io_uring and has not needed it yet finds out now whether it can.
    pub fn backend(&self) -> Option<InUse> {
        self.core.state.borrow_mut().reactor.driver_mut().in_use()
    }

    /// A loop on a driver and a clock of the caller's choice, which a test can steer.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use cloverleaf::{Clock, EventLoop, driver::FakeKernel, sleep};
    ///
    /// // The clock of a fake kernel jumps to the next deadline: an hour takes no time.
    /// let kernel = FakeKernel::new();
    /// let event_loop = EventLoop::with_driver(kernel.driver(), Clock::Manual(kernel.clock()));
    /// event_loop.run_until_complete(sleep(Duration::from_secs(3600)))?;
    /// assert_eq!(event_loop.now().as_secs(), 3600.0);
    /// # Ok::<(), cloverleaf::Error>(())
    /// ```
    pub fn with_driver(driver: impl Into<AnyDriver>, clock: Clock) -> Self {
        Self {
            core: Core::new(driver.into(), clock),
        }
    }

    /// The way to this loop from other threads.
    ///
    /// # Examples
    /// ```
    /// let event_loop = cloverleaf::EventLoop::new()?;
    /// let handle = event_loop.handle();
    /// let thread = std::thread::spawn(move || handle.call_soon_threadsafe(|event_loop| event_loop.stop()));
    /// event_loop.run_forever()?;
    /// thread.join().expect("does not panic")?;
    /// # Ok::<(), cloverleaf::Error>(())
    /// ```
    pub fn handle(&self) -> LoopHandle {
        let (injector, stats) = (self.core.injector(), self.core.stats());
        LoopHandle::new(Arc::clone(injector), Arc::clone(stats), self.core.clock())
    }

    /// The present time on the loop's clock.
    pub fn now(&self) -> Time {
        self.core.now()
    }

    /// What the loop has done so far, in numbers. Other threads ask by [`LoopHandle::metrics`].
    ///
    /// # Examples
    /// ```
    /// let event_loop = cloverleaf::EventLoop::new()?;
    /// event_loop.call_soon(|event_loop| event_loop.stop());
    /// event_loop.run_forever()?;
    /// let metrics = event_loop.metrics();
    /// assert_eq!((metrics.turns, metrics.jobs), (1, 1));
    /// assert!(metrics.busy.as_nanos() > 0 && metrics.asleep.is_zero());
    /// # Ok::<(), cloverleaf::Error>(())
    /// ```
    pub fn metrics(&self) -> Metrics {
        self.core.metrics()
    }

    /// The numbers themselves, to be watched by a [`Watcher`](crate::Watcher).
    pub fn stats(&self) -> &Arc<Stats> {
        self.core.stats()
    }

    /// Runs `call` in the next turn, behind the jobs that are ready.
    pub fn call_soon(&self, call: impl FnOnce(&Self) + 'static) -> Handle {
        let token = self.core.call_soon(Call::Run(Box::new(call)));
        Handle::new(&self.core, token)
    }

    /// Runs `call` after `delay`, never earlier.
    pub fn call_later(&self, delay: Duration, call: impl FnOnce(&Self) + 'static) -> TimerHandle {
        self.call_at(self.now() + delay, call)
    }

    /// Runs `call` at `deadline`, never earlier; calls of one deadline run in the order in which they were asked for.
    pub fn call_at(&self, deadline: Time, call: impl FnOnce(&Self) + 'static) -> TimerHandle {
        let (timer, token) = self.core.call_at(deadline, Call::Run(Box::new(call)));
        TimerHandle::new(Handle::new(&self.core, token), timer, deadline)
    }

    /// Makes `future` a task, which is first polled in the next turn. Its panic ends only the task, and is told to
    /// whoever awaits the handle.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn_on(&self.core, future)
    }

    /// Runs `call` on a thread of the loop's pool; see [`spawn_blocking`].
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        spawn_blocking_on(&self.core, call)
    }

    /// Waits for `duration`, counted from now on this loop's clock.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        sleep_until(self.now() + duration)
    }

    /// Ends the present run after the present turn, or the next run after its first turn.
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Whether this loop runs.
    pub fn is_running(&self) -> bool {
        try_current().is_some_and(|core| Rc::ptr_eq(&core, &self.core))
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        // What is dropped now may ask for the running loop, and gets this one, which refuses it; unless another loop
        // runs in this thread.
        let _running = Running::enter(&self.core);
        self.core.close();
    }
}

/// Makes `future` a task of the running loop; see [`EventLoop::spawn`].
///
/// # Panics
/// If no loop runs in this thread.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_on(&current::current(), future)
}

/// Runs `call`, which may block, on a thread of the running loop's pool.
///
/// A call that has begun cannot be interrupted: dropping or aborting the handle only means not to wait for it.
///
/// # Panics
/// If no loop runs in this thread.
///
/// # Examples
/// ```
/// let event_loop = cloverleaf::EventLoop::new()?;
/// let answer = event_loop.run_until_complete(async {
///     cloverleaf::spawn_blocking(|| std::fs::read_to_string("/proc/self/comm")).await
/// })?;
/// assert!(answer.expect("did not panic").is_ok());
/// # Ok::<(), cloverleaf::Error>(())
/// ```
pub fn spawn_blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    spawn_blocking_on(&current::current(), call)
}
