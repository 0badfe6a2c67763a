//! Signals as a stream of arrivals.
//!
//! The handler only adds to the counter of an eventfd, and the loop sees that as it sees any other readiness. So a
//! signal that arrives before the loop sleeps, or while it does, is not lost; but several that arrive before the task
//! goes on are one, as the kernel itself has it (`signal(7)`).

use std::io;

use crate::event_loop::{Direction, Watched};
use crate::sys::SignalCounter;

/// The arrivals of one signal in this process; made by [`signal`].
#[derive(Debug)]
pub struct Signal {
    counter: SignalCounter,
    watched: Watched,
}

/// Catches a signal, by its number, from now on. Any number of streams may catch the same one, and each sees it.
///
/// Dropping the stream ends the catching, but does not bring back what the signal did before: it does nothing then.
///
/// # Errors
/// `InvalidInput` for a signal that cannot be caught (`SIGKILL`, `SIGSTOP`) or not be returned from (`SIGSEGV`,
/// `SIGILL`, `SIGFPE`), and those of `sigaction(2)` and `eventfd(2)`.
///
/// # Examples
/// ```
/// let event_loop = cloverleaf::EventLoop::new()?;
/// event_loop.run_until_complete(async {
///     let mut hangups = cloverleaf::signal(libc::SIGHUP)?;
///     rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP)?;
///     hangups.recv().await
/// })??;
/// # Ok::<(), cloverleaf::Error>(())
/// ```
pub fn signal(number: i32) -> io::Result<Signal> {
    let counter = SignalCounter::new(number)?;
    // The watch has a descriptor of its own for the same counter, so each may be dropped in its own time.
    let watched = Watched::new(counter.descriptor().try_clone()?);
    Ok(Signal { counter, watched })
}

impl Signal {
    /// Waits until the signal has arrived since the last answer.
    ///
    /// # Errors
    /// If no loop runs in this thread.
    pub async fn recv(&mut self) -> io::Result<()> {
        let counter = self.counter.descriptor();
        let mut count = [0; 8];
        let take = |_: std::os::fd::BorrowedFd<'_>| rustix::io::read(counter, &mut count);
        self.watched.attempt(Direction::Read, take).await?;
        Ok(())
    }
}
