//! Running: the four phases of a turn, and when a run ends.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::EventLoop;
use super::core::Core;
use super::current::Running;
use super::job::{Call, Job};
use super::spawn::poll_task;
use super::waker::{Target, TaskWaker};
use crate::driver::Event;
use crate::error::{Error, Result};

impl EventLoop {
    /// Runs until `future` ends, with all that was scheduled and spawned before and meanwhile.
    ///
    /// The future need not be `'static`: it is polled where it is. Tasks that have not ended stay in the loop, for its
    /// next run.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the loop was stopped first, [`Error::Running`] if this thread runs a loop already, and
    /// [`Error::Io`] if the driver fails.
    ///
    /// # Panics
    /// With the payload of a call's or the future's own panic. The loop is whole then, and can be run again.
    ///
    /// # Examples
    /// ```
    /// let event_loop = cloverleaf::EventLoop::new()?;
    /// let word = String::from("borrowed");
    /// let len = event_loop.run_until_complete(async { word.len() })?;
    /// assert_eq!(len, 8);
    /// # Ok::<(), cloverleaf::Error>(())
    /// ```
    pub fn run_until_complete<F: Future>(&self, future: F) -> Result<F::Output> {
        let running = Running::enter(&self.core)?;
        let mut output = None;
        {
            let mut future = pin!(future);
            let task_waker = TaskWaker::new(Target::Main, Arc::clone(self.core.injector()));
            let waker = Waker::from(Arc::clone(&task_waker));
            Arc::clone(&task_waker).wake();
            let mut poll_main = || {
                task_waker.begin_poll();
                let mut cx = Context::from_waker(&waker);
                if output.is_none()
                    && let Poll::Ready(value) = future.as_mut().poll(&mut cx)
                {
                    output = Some(value);
                    self.core.stop();
                }
            };
            self.run(&mut poll_main)?;
        }
        drop(running);
        output.ok_or(Error::Stopped)
    }

    /// Runs until [`stop`](Self::stop) is called.
    ///
    /// # Errors
    /// [`Error::Running`] if this thread runs a loop already, and [`Error::Io`] if the driver fails.
    ///
    /// # Panics
    /// With the payload of a call's panic. The loop is whole then, and can be run again.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let event_loop = cloverleaf::EventLoop::new()?;
    /// event_loop.call_later(Duration::from_millis(1), |event_loop| event_loop.stop());
    /// event_loop.run_forever()?;
    /// # Ok::<(), cloverleaf::Error>(())
    /// ```
    pub fn run_forever(&self) -> Result<()> {
        let _running = Running::enter(&self.core)?;
        // A wake-up left over from a future that was dropped with an earlier run.
        self.run(&mut || ())
    }

    fn run(&self, poll_main: &mut dyn FnMut()) -> Result<()> {
        let mut collected = Collected::default();
        let _counted = Counted::begin(&self.core);
        loop {
            self.core.begin_turn();
            self.core.collect(&mut collected)?;
            let ready = self.core.count_turn();
            for _ in 0..ready {
                let job = self.core.state.borrow_mut().scheduler.pop();
                match job {
                    Some(job) => {
                        self.core.stats().jobs.add(1);
                        self.run_job(job, poll_main);
                    }
                    None => break,
                }
            }
            if self.core.is_stopping() {
                return Ok(());
            }
        }
    }

    fn run_job(&self, job: Job, poll_main: &mut dyn FnMut()) {
        match job {
            Job::Call(token) => {
                let call = self.core.cancel_call(None, token);
                match call {
                    Some(Call::Run(call)) => call(self),
                    Some(Call::Wake(waker)) => waker.wake(),
                    None => {}
                }
            }
            Job::Remote(call) => call(self),
            Job::Poll(token) => poll_task(&self.core, token),
            Job::Main => poll_main(),
        }
    }
}

/// A run, for as long as it counts as one: ends whether by return or by a panic.
struct Counted<'a>(&'a Core);

impl<'a> Counted<'a> {
    fn begin(core: &'a Core) -> Self {
        core.stats().begin_run(core.now());
        Self(core)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.stats().end_run(self.0.now());
    }
}

/// What the kernel said, and whom that wakes: room that every turn uses again.
#[derive(Default)]
struct Collected {
    events: Vec<Event>,
    wakers: Vec<Waker>,
}

impl Core {
    /// Waits, and makes jobs of what has come: from other threads, from the kernel, and of the time.
    fn collect(&self, collected: &mut Collected) -> Result<()> {
        self.wait(&mut collected.events)?;
        for event in collected.events.drain(..) {
            match event {
                Event::Ready(token, readiness) => {
                    self.on_ready(token, readiness, &mut collected.wakers)?;
                }
                Event::Done(token, completion) => self.on_done(token, completion),
            }
        }
        // Waking runs foreign code, so nothing is borrowed here.
        for waker in collected.wakers.drain(..) {
            waker.wake();
        }
        self.state.borrow_mut().scheduler.collect_due();
        Ok(())
    }

    /// A turn begins with so many jobs.
    fn count_turn(&self) -> usize {
        let state = self.state.borrow();
        state.scheduler.begin_turn();
        state.scheduler.note_waiting(state.reactor.len());
        state.scheduler.ready_len()
    }

    fn wait(&self, events: &mut Vec<Event>) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let mut limit = state.scheduler.sleep_limit();
        if limit != Some(Duration::ZERO) && !self.injector().before_sleep() {
            limit = Some(Duration::ZERO);
        }
        let sleeps = limit != Some(Duration::ZERO);
        if sleeps {
            state.scheduler.begin_sleep();
        } else {
            self.stats().polls.add(1);
        }
        let waited = state.reactor.wait(limit);
        if sleeps {
            state.scheduler.end_sleep();
            self.stats().go_on();
            self.injector().after_sleep();
        }
        waited?;
        state.scheduler.collect_injected();
        self.stats().events.add_len(state.reactor.events_len());
        events.extend(state.reactor.take_events());
        Ok(())
    }
}
