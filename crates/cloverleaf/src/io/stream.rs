//! TCP and Unix byte streams, read and written by futures.
//!
//! Every method takes `&self`, so one task may read while another writes; share the stream by [`Rc`](std::rc::Rc). An
//! operation that is dropped before it ends has taken nothing from the stream (but [`write_all`](ByteStream::write_all)
//! and [`read_exact`](ByteStream::read_exact) may have done a part).

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{RecvFlags, SendFlags, sockopt};

use super::address::{Address, unix_address};
use super::connector::{connect, connect_any};
use super::nonblocking;
use crate::event_loop::{Direction, Watched};
use crate::resolve::lookup;
use crate::sys::system_call;

/// What TCP and Unix streams have in common.
#[derive(Debug)]
pub struct ByteStream {
    watched: Watched,
}

impl ByteStream {
    /// Receives some bytes into `buffer`, and tells how many; 0 is the end of the stream, or an empty buffer.
    ///
    /// # Errors
    /// Those of `recv(2)`.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            // The kernel would wait for a byte that there is no room for.
            return Ok(0);
        }
        let receive = |fd: BorrowedFd<'_>| {
            system_call(|| rustix::net::recv(fd, &mut *buffer, RecvFlags::empty()))
        };
        Ok(self.watched.attempt(Direction::Read, receive).await?.1)
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    /// Those of `recv(2)`, and `UnexpectedEof` if the stream ends before that.
    pub async fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    /// Appends all bytes up to the end of the stream.
    ///
    /// # Errors
    /// Those of `recv(2)`; what came before is in `bytes`.
    pub async fn read_to_end(&self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let before = bytes.len();
        let mut chunk = vec![0; 16 * 1024];
        loop {
            match self.read(&mut chunk).await? {
                0 => return Ok(bytes.len() - before),
                count => bytes.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Sends some of `bytes`, and tells how many.
    ///
    /// # Errors
    /// Those of `send(2)`; a closed peer is `BrokenPipe`, never a signal.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let send =
            |fd: BorrowedFd<'_>| system_call(|| rustix::net::send(fd, bytes, SendFlags::NOSIGNAL));
        self.watched.attempt(Direction::Write, send).await
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// Those of `send(2)`; how much has gone is not known then.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Ends one direction or both; the peer reads an end after what was sent.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        Ok(rustix::net::shutdown(&self.watched, how)?)
    }

    pub(super) fn from_watched(watched: Watched) -> Self {
        Self { watched }
    }

    fn local(&self) -> io::Result<Address> {
        Ok(rustix::net::getsockname(&self.watched)?.into())
    }

    fn peer(&self) -> io::Result<Address> {
        Ok(rustix::net::getpeername(&self.watched)?.map_or(Address::Other, Address::from))
    }
}

impl AsFd for ByteStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}

/// A TCP connection, closed when dropped; reading and writing are [`ByteStream`]'s.
#[derive(Debug)]
pub struct TcpStream(ByteStream);

impl Deref for TcpStream {
    type Target = ByteStream;

    fn deref(&self) -> &ByteStream {
        &self.0
    }
}

impl TcpStream {
    /// Connects to a host by name or literal address, trying each of its addresses in turn.
    ///
    /// # Errors
    /// Those of the last address, or that the name has none.
    pub async fn connect(host: &str, port: u16) -> io::Result<Self> {
        let addresses = lookup(host, port).await?;
        Ok(Self(ByteStream::from_watched(
            connect_any(&addresses).await?,
        )))
    }

    /// Connects to one address.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub async fn connect_to(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(ByteStream::from_watched(
            connect_any(&[address]).await?,
        )))
    }

    /// Sends small writes at once (`TCP_NODELAY`, `tcp(7)`), or lets the kernel gather them.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        Ok(sockopt::set_tcp_nodelay(&self.0, nodelay)?)
    }

    /// Whether small writes are sent at once.
    ///
    /// # Errors
    /// Those of `getsockopt(2)`.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(sockopt::tcp_nodelay(&self.0)?)
    }

    /// This end's address.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local()?.require_ip()
    }

    /// The other end's address.
    ///
    /// # Errors
    /// Those of `getpeername(2)`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peer()?.require_ip()
    }

    pub(super) fn from_watched(watched: Watched) -> Self {
        Self(ByteStream::from_watched(watched))
    }
}

/// A connection of a Unix stream socket, closed when dropped; reading and writing are [`ByteStream`]'s.
#[derive(Debug)]
pub struct UnixStream(ByteStream);

impl Deref for UnixStream {
    type Target = ByteStream;

    fn deref(&self) -> &ByteStream {
        &self.0
    }
}

impl UnixStream {
    /// Connects to a path, or with a leading NUL, to a name in the abstract name space.
    ///
    /// # Errors
    /// Those of `connect(2)`; `WouldBlock` if as many wait for the listener already as its backlog allows.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = unix_address(path.as_ref())?;
        let socket = nonblocking(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
        )?;
        Ok(Self(ByteStream::from_watched(
            connect(socket, &address).await?,
        )))
    }

    /// Two streams that are connected to each other.
    ///
    /// # Errors
    /// Those of `socketpair(2)`.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        Ok((Self::try_from(ours)?, Self::try_from(theirs)?))
    }

    /// This end's name.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.local()
    }

    /// The other end's name.
    ///
    /// # Errors
    /// Those of `getpeername(2)`.
    pub fn peer_addr(&self) -> io::Result<Address> {
        self.peer()
    }

    pub(super) fn from_watched(watched: Watched) -> Self {
        Self(ByteStream::from_watched(watched))
    }
}

impl TryFrom<std::net::TcpStream> for TcpStream {
    type Error = io::Error;

    fn try_from(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::from_watched(Watched::new(stream.into())))
    }
}

impl TryFrom<std::os::unix::net::UnixStream> for UnixStream {
    type Error = io::Error;

    fn try_from(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::from_watched(Watched::new(stream.into())))
    }
}

impl From<TcpStream> for OwnedFd {
    /// Takes the descriptor out of the loop; it stays non-blocking.
    fn from(stream: TcpStream) -> Self {
        stream.0.watched.into_fd()
    }
}

impl From<UnixStream> for OwnedFd {
    /// Takes the descriptor out of the loop; it stays non-blocking.
    fn from(stream: UnixStream) -> Self {
        stream.0.watched.into_fd()
    }
}
