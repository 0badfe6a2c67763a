//! A child's end, by pidfd, else by a thread.
//!
//! A child is reaped exactly once: by [`Child::wait`], or when the [`Child`] is dropped before that, by a task of the
//! loop as soon as the child ends.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, waitpid,
};

use crate::error::ignore;
use crate::event_loop::{Direction, JoinHandle, Watched, spawn_blocking, spawn_on, try_current};

/// A child process whose end can be awaited.
///
/// Dropping it neither kills the child nor waits for it, but sees to it that the running loop reaps it. Without a
/// running loop, a child that has not ended yet is reaped by nobody, as with [`std::process::Child`].
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It has not been reaped, so its number is still its own.
    Running(Watch),
    Reaped(ExitStatus),
    /// Somebody else has reaped it, or will.
    Lost,
}

/// What the end is learnt from.
#[derive(Debug)]
enum Watch {
    /// Readable when the child has ended (`pidfd_open(2)`, since Linux 5.3).
    Pidfd(Watched),
    /// A thread that waits, once it was asked for.
    Thread(Option<JoinHandle<io::Result<Option<ExitStatus>>>>),
}

/// Waits for the end of a child that the standard library has started.
///
/// Its standard input is closed first, as [`std::process::Child::wait`] does. Take its pipes out before, if they are
/// needed.
///
/// # Errors
/// Those of `waitpid(2)`; `ECHILD` says that somebody else has reaped the child.
///
/// # Examples
/// ```
/// let event_loop = cloverleaf::EventLoop::new()?;
/// let status = event_loop.run_until_complete(async {
///     let child = std::process::Command::new("true").spawn()?;
///     cloverleaf::wait_child(child).await
/// })??;
/// assert!(status.success());
/// # Ok::<(), cloverleaf::Error>(())
/// ```
pub async fn wait_child(child: std::process::Child) -> io::Result<ExitStatus> {
    Child::from(child).wait().await
}

impl Child {
    /// A child of this process by its number, which nobody else reaps.
    ///
    /// # Errors
    /// `InvalidInput` if no child can have this number.
    pub fn from_id(id: u32) -> io::Result<Self> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        let watch = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Watch::Pidfd(Watched::new(pidfd)),
            // The kernel or a filter knows no such call, or descriptors have run out.
            Err(_) => Watch::Thread(None),
        };
        let state = State::Running(watch);
        Ok(Self { pid, state })
    }

    /// The child's number; it may name another process once the child was waited for.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Sends a signal to the child.
    ///
    /// # Errors
    /// Those of `kill(2)`, and `InvalidInput` for a number that names no signal, or if the child was waited for.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
        match self.state {
            State::Running(Watch::Pidfd(ref pidfd)) => Ok(pidfd_send_signal(pidfd, signal)?),
            // The thread may be about to reap it, so its number may be another's by now; a program that needs to know
            // has a kernel with pidfds.
            State::Running(Watch::Thread(None)) => Ok(kill_process(self.pid, signal)?),
            State::Running(Watch::Thread(Some(ref thread))) if !thread.is_finished() => {
                Ok(kill_process(self.pid, signal)?)
            }
            State::Running(_) | State::Reaped(_) | State::Lost => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the child was waited for",
            )),
        }
    }

    /// Waits for the child's end, and reaps it. Asked again, it gives the same answer; dropped before the end, it has
    /// changed nothing.
    ///
    /// # Errors
    /// Those of `waitpid(2)`; `ECHILD` says that somebody else has reaped the child.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let watch = match &mut self.state {
            State::Running(watch) => watch,
            State::Reaped(status) => return Ok(*status),
            State::Lost => return Err(rustix::io::Errno::CHILD.into()),
        };
        let ended = watch.wait(self.pid).await;
        self.state = match ended {
            Ok(status) => State::Reaped(status),
            Err(_) => State::Lost,
        };
        ended
    }
}

impl Watch {
    async fn wait(&mut self, pid: Pid) -> io::Result<ExitStatus> {
        match self {
            Self::Pidfd(pidfd) => loop {
                if let Some(status) = reap(pid, WaitOptions::NOHANG)? {
                    return Ok(status);
                }
                pidfd.ready(Direction::Read).await?;
            },
            Self::Thread(thread) => {
                let wait = move || reap(pid, WaitOptions::empty());
                let thread = thread.get_or_insert_with(|| spawn_blocking(wait));
                let status = thread.await??;
                Ok(status.expect("invariant: a wait without NOHANG ends with a status"))
            }
        }
    }
}

fn reap(pid: Pid, options: WaitOptions) -> io::Result<Option<ExitStatus>> {
    let ended = rustix::io::retry_on_intr(|| waitpid(Some(pid), options))?;
    Ok(ended.map(|(_, status)| ExitStatus::from_raw(status.as_raw())))
}

impl From<std::process::Child> for Child {
    /// Closes the child's standard input; take its pipes out before, if they are needed.
    fn from(mut child: std::process::Child) -> Self {
        drop(child.stdin.take());
        Self::from_id(child.id()).expect("invariant: a child has a process number")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut watch = match std::mem::replace(&mut self.state, State::Lost) {
            // A thread that waits already reaps it.
            State::Reaped(_) | State::Lost | State::Running(Watch::Thread(Some(_))) => return,
            State::Running(watch) => watch,
        };
        let pid = self.pid;
        if let Ok(None) = reap(pid, WaitOptions::NOHANG)
            && let Some(core) = try_current()
        {
            // How it ends is of no interest to anybody; that it is reaped is.
            spawn_on(&core, async move { ignore(watch.wait(pid).await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::{EventLoop, timeout};

    #[test]
    fn without_pidfds_a_thread_waits() {
        let event_loop = EventLoop::new().unwrap();
        let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let input = cat.stdin.take();
        let mut child = Child::from(cat);
        child.state = State::Running(Watch::Thread(None));
        let ended = event_loop.run_until_complete(async {
            let early = timeout(Duration::ZERO, child.wait()).await;
            assert!(early.is_err(), "its input is open still");
            drop(input);
            child.wait().await
        });
        assert!(ended.unwrap().unwrap().success());
        assert!(
            reap(child.pid, WaitOptions::NOHANG).is_err(),
            "it was reaped, and no other child has its number"
        );
    }
}
