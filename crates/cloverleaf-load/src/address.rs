//! Where a server listens: `tcp:HOST:PORT` or `unix:PATH`, and sockets to and from it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with, sockopt};

use crate::error::Error;

/// The address of a stream socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => address
                .parse()
                .map(Self::Tcp)
                .map_err(|_| Error::Usage(format!("tcp:IP:PORT, not {text:?}"))),
            _ => Err(Error::Usage(format!(
                "tcp:IP:PORT or unix:PATH, not {text:?}"
            ))),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "tcp:{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// A connected socket that does not block any more.
    pub(crate) fn connect(&self) -> io::Result<Socket> {
        let socket = match self {
            Self::Tcp(address) => Socket::Tcp(TcpStream::connect(address)?),
            Self::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        socket.prepare()?;
        Ok(socket)
    }

    /// A listener that does not block, and the address that it really has. Its connections inherit
    /// that they send without delay.
    pub(crate) fn listen(&self) -> io::Result<(Listener, Self)> {
        match self {
            Self::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                sockopt::set_tcp_nodelay(&listener, true)?;
                let bound = Self::Tcp(listener.local_addr()?);
                Ok((Listener::Tcp(listener), bound))
            }
            Self::Unix(path) => {
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok((Listener::Unix(listener), self.clone()))
            }
        }
    }
}

/// A connected stream socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Over IP.
    Tcp(TcpStream),
    /// Within the machine.
    Unix(UnixStream),
}

impl Socket {
    fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)
            }
            Self::Unix(stream) => stream.set_nonblocking(true),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A listening stream socket.
#[derive(Debug)]
pub(crate) enum Listener {
    /// Over IP.
    Tcp(TcpListener),
    /// Within the machine.
    Unix(UnixListener),
}

impl Listener {
    /// The next connection, ready for use; an error of kind `WouldBlock` when there is none.
    pub(crate) fn accept(&self) -> io::Result<Socket> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = accept_with(self, flags)?;
        Ok(match self {
            Self::Tcp(_) => Socket::Tcp(socket.into()),
            Self::Unix(_) => Socket::Unix(socket.into()),
        })
    }

    /// Whether a connection waits to be accepted.
    pub(crate) fn has_more(&self) -> io::Result<bool> {
        let mut asked = [PollFd::new(self, PollFlags::IN)];
        Ok(poll(&mut asked, Some(&Timespec::default()))? > 0)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for text in ["tcp:127.0.0.1:80", "tcp:[::1]:9", "unix:/tmp/a:b"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_name_is_refused_with_what_to_write_instead() {
        let error = "tcp:localhost:80".parse::<Address>().unwrap_err();
        assert!(error.to_string().contains("tcp:IP:PORT"), "{error}");
    }
}
