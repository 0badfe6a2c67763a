//! What tells a socket's transport from a pipe's: the few rules of asyncio's in which they differ.

use std::os::fd::BorrowedFd;

use cloverleaf::system_call;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use rustix::buffer::Buffer;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::state::Phase;

/// What the descriptor of a transport is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A connected socket, read and written.
    Socket,
    /// A pipe, a socket, a terminal or a file that is only read.
    ReadPipe,
    /// A pipe, a socket or a terminal that is only written.
    WritePipe {
        /// The kernel tells, as readiness to read, when the reader has gone; of terminals it does not.
        hears_reader: bool,
    },
}

impl Kind {
    /// Takes what the kernel has.
    ///
    /// # Errors
    /// Those of `recv(2)` or `read(2)`.
    #[inline]
    pub(super) fn receive<B: Buffer<u8>>(
        self,
        fd: BorrowedFd<'_>,
        room: B,
    ) -> Result<B::Output, Errno> {
        system_call(|| match self {
            Self::Socket => {
                rustix::net::recv(fd, room, RecvFlags::empty()).map(|(output, _)| output)
            }
            Self::ReadPipe | Self::WritePipe { .. } => rustix::io::read(fd, room),
        })
    }

    /// Offers bytes to the kernel.
    ///
    /// # Errors
    /// Those of `send(2)` or `write(2)`. A socket's closed peer is never a `SIGPIPE`; a pipe's is, unless the process
    /// ignores it, as Python does from the start.
    #[inline]
    pub(super) fn send(self, fd: BorrowedFd<'_>, data: &[u8]) -> Result<usize, Errno> {
        system_call(|| match self {
            Self::Socket => rustix::net::send(fd, data, SendFlags::NOSIGNAL),
            Self::ReadPipe | Self::WritePipe { .. } => rustix::io::write(fd, data),
        })
    }

    /// The same for a part of what is to be sent together: the kernel holds it back until the rest comes.
    ///
    /// # Errors
    /// Those of `send(2)`.
    pub(super) fn send_part(fd: BorrowedFd<'_>, data: &[u8]) -> Result<usize, Errno> {
        let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
        system_call(|| rustix::net::send(fd, data, flags))
    }

    /// The phase from which on nothing that is written is taken any more.
    #[inline]
    pub(super) const fn writes_end_at(self) -> Phase {
        match self {
            Self::Socket => Phase::Lost,
            Self::ReadPipe | Self::WritePipe { .. } => Phase::Closing,
        }
    }

    /// The futile write from which on a warning is logged; on a pipe, one that fails counts too.
    pub(super) const fn first_warned_write(self) -> u32 {
        match self {
            Self::Socket => 5,
            Self::ReadPipe | Self::WritePipe { .. } => 6,
        }
    }

    /// The warning about futile writes.
    pub(super) const fn futile_write(self) -> &'static str {
        match self {
            Self::Socket => "socket.send() raised exception.",
            Self::ReadPipe | Self::WritePipe { .. } => {
                "pipe closed by peer or os.write(pipe, data) raised exception."
            }
        }
    }

    /// What a handler reads about a read that failed.
    pub(super) const fn read_failed(self) -> &'static str {
        match self {
            Self::Socket => "Fatal read error on socket transport",
            Self::ReadPipe | Self::WritePipe { .. } => "Fatal read error on pipe transport",
        }
    }

    /// What a handler reads about a write that failed.
    pub(super) const fn write_failed(self) -> &'static str {
        match self {
            Self::Socket => "Fatal write error on socket transport",
            Self::ReadPipe | Self::WritePipe { .. } => "Fatal write error on pipe transport",
        }
    }

    /// Whether a failure is no more than the other side's going, of which no handler needs to hear: any `OSError`, but
    /// in reading a pipe only `EIO`, by which a terminal's end shows.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn is_routine(self, py: Python<'_>, error: &PyErr) -> PyResult<bool> {
        if !error.is_instance_of::<PyOSError>(py) {
            return Ok(false);
        }
        match self {
            Self::Socket | Self::WritePipe { .. } => Ok(true),
            Self::ReadPipe => error
                .value(py)
                .getattr(intern!(py, "errno"))?
                .eq(Errno::IO.raw_os_error()),
        }
    }
}
