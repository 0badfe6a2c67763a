//! Signal handlers that do nothing but tell a descriptor.
#![expect(
    unsafe_code,
    reason = "what a signal handler may do is beyond what the compiler can check"
)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use signal_hook_registry::{SigId, register, unregister};

use crate::error::ignore;

/// An eventfd that counts the arrivals of one signal, until it is dropped.
///
/// Handlers that others have set are called as well. The last one's end does not bring the signal's default action
/// back: from then on the signal does nothing.
#[derive(Debug)]
pub(crate) struct SignalCounter {
    count: Arc<OwnedFd>,
    id: SigId,
}

impl SignalCounter {
    /// Starts to count.
    ///
    /// # Errors
    /// `InvalidInput` for a signal that no handler may catch (`SIGKILL`, `SIGSTOP`) or return from (`SIGSEGV`,
    /// `SIGILL`, `SIGFPE`), and those of `sigaction(2)` and `eventfd(2)`.
    pub(crate) fn new(signal: i32) -> io::Result<Self> {
        if signal_hook_registry::FORBIDDEN.contains(&signal) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let count = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let its_count = Arc::clone(&count);
        let arrived = move || {
            // A full counter (EAGAIN) says what another arrival would.
            ignore(rustix::io::write(its_count.as_fd(), &1_u64.to_ne_bytes()));
        };
        // SAFETY: the handler only calls `write(2)`, which is async-signal-safe (signal-safety(7)); it takes no lock,
        // allocates and frees nothing and cannot panic. The registry keeps `errno` and drops the closure outside of
        // any handler.
        let id = unsafe { register(signal, arrived) }?;
        Ok(Self { count, id })
    }

    /// The eventfd, readable when the signal has arrived.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.count
    }
}

impl Drop for SignalCounter {
    fn drop(&mut self) {
        unregister(self.id);
    }
}
