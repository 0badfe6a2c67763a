//! The descriptor of a transport: ours alone, or that of a Python socket or file.

use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use cloverleaf::Address;
use pyo3::prelude::*;

use crate::ffi::{Owned, Socket};

/// Who owns the descriptor.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// This transport; no Python socket has been asked for.
    Native(OwnedFd),
    /// A Python socket, or a file that is one end of a pipe.
    Socket(Socket),
    /// Nobody: it was closed. The number that it had, and the closed Python socket, if there was one.
    Closed(RawFd, Option<Owned>),
}

/// Whom the transport talks to, as far as it was known when it was made.
#[derive(Debug)]
pub(crate) enum Peer {
    /// Ask when somebody wants to know.
    Ask,
    /// What `accept4(2)` said, if it is what it mostly says.
    V4(SocketAddrV4),
    /// What it said else.
    Other(Box<Address>),
}

impl From<Address> for Peer {
    fn from(address: Address) -> Self {
        match address {
            Address::Ip(SocketAddr::V4(address)) => Self::V4(address),
            other => Self::Other(Box::new(other)),
        }
    }
}

impl Peer {
    /// Whether it is known to have an IP address.
    pub(super) fn is_ip(&self) -> bool {
        match self {
            Self::Ask => false,
            Self::V4(_) => true,
            Self::Other(address) => matches!(**address, Address::Ip(_)),
        }
    }

    /// The address, if it is known.
    pub(super) fn address(&self) -> Option<Address> {
        match self {
            Self::Ask => None,
            Self::V4(address) => Some(Address::Ip((*address).into())),
            Self::Other(address) => Some((**address).clone()),
        }
    }
}

/// Turns off Nagle's algorithm, which would hold a small send back until the last one is acknowledged.
pub(crate) fn send_without_delay(fd: BorrowedFd<'_>) {
    // Only TCP has the option (ENOPROTOOPT, EOPNOTSUPP), and a connection may be gone already (EINVAL).
    cloverleaf::ignore(rustix::net::sockopt::set_tcp_nodelay(fd, true));
}

impl Endpoint {
    /// Takes a Python socket over.
    ///
    /// # Errors
    /// `OSError` if it is closed; what the socket's methods raise.
    pub(crate) fn of_socket(sock: &Bound<'_, PyAny>) -> PyResult<Self> {
        Socket::of(sock).map(Self::Socket)
    }

    /// The descriptor, unless it was closed.
    #[inline]
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Native(fd) => Some(fd.as_fd()),
            Self::Socket(socket) => socket.fd(),
            Self::Closed(..) => None,
        }
    }

    /// Lets small sends go at once, on a TCP socket.
    pub(crate) fn send_without_delay(&self) {
        if let Some(fd) = self.fd() {
            send_without_delay(fd);
        }
    }

    /// The number that the descriptor has, or -1.
    pub(crate) fn number(&self) -> RawFd {
        self.fd().map_or(-1, |fd| fd.as_raw_fd())
    }

    /// The number under which the loop knows the descriptor, also when the program has closed it, or has known it.
    pub(crate) fn registered_number(&self) -> RawFd {
        match self {
            Self::Socket(socket) => socket.number(),
            Self::Native(fd) => fd.as_raw_fd(),
            Self::Closed(number, _) => *number,
        }
    }

    /// What is left when it is closed.
    pub(crate) fn remains(&self, py: Python<'_>) -> Self {
        let sock = match self {
            Self::Native(_) => None,
            Self::Socket(socket) => Some(socket.object().clone_ref(py)),
            Self::Closed(_, sock) => sock.as_ref().map(|sock| sock.clone_ref(py)),
        };
        Self::Closed(self.registered_number(), sock)
    }

    /// What a transport's repr tells of it: its number, also when it is closed, and whether it is.
    pub(crate) fn shown(&self) -> (RawFd, bool) {
        (self.registered_number(), matches!(self, Self::Closed(..)))
    }

    /// Closes the descriptor, and its Python socket if it has one.
    ///
    /// # Errors
    /// What closing the socket raises.
    pub(crate) fn close(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Native(fd) => drop(fd),
            Self::Socket(socket) => socket.close(py)?,
            Self::Closed(..) => {}
        }
        Ok(())
    }
}
