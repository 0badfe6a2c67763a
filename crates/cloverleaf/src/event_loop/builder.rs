//! A loop before it is made.

use super::EventLoop;
use crate::clock::Clock;
use crate::driver::{Backend, Hybrid};
use crate::error::{Error, Result};

/// How a loop is to be made; see [`EventLoop::builder`].
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "nothing is made before `build`"]
pub struct Builder {
    backend: Option<Backend>,
}

impl Builder {
    /// Which interfaces of the kernel the loop may use. If this is not said, the environment variable
    /// `CLOVERLEAF_BACKEND` may say it, and otherwise it is [`Backend::Auto`].
    pub const fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Makes the loop, on the kernel's clock.
    ///
    /// # Errors
    /// [`Error::Io`] if the process is out of descriptors or memory, if [`Backend::IoUring`] is asked for and the kernel
    /// refuses a ring, and if the environment variable names no backend.
    pub fn build(self) -> Result<EventLoop> {
        let backend = match self.backend {
            Some(backend) => backend,
            None => Backend::from_environment().map_err(|error| Error::Io(error.into()))?,
        };
        Ok(EventLoop::with_driver(
            Hybrid::new(backend)?,
            Clock::monotonic(),
        ))
    }
}
