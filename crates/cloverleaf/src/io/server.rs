//! Listeners whose connections are awaited.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};

use super::address::{Address, family_of, unix_address};
use super::listener::{Accepted, accept};
use super::nonblocking;
use super::stream::{TcpStream, UnixStream};
use crate::event_loop::{Direction, Watched, sleep};
use crate::limits::{ACCEPT_PAUSE_MS, LISTEN_BACKLOG};

/// A TCP socket that listens, closed when dropped.
///
/// # Examples
/// ```
/// use cloverleaf::{EventLoop, TcpListener, TcpStream};
///
/// let event_loop = EventLoop::new()?;
/// event_loop.run_until_complete(async {
///     let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
///     let client = TcpStream::connect_to(listener.local_addr()?).await?;
///     let (server, peer) = listener.accept().await?;
///     assert_eq!(peer, client.local_addr()?);
///     client.write_all(b"hello").await?;
///     drop(client);
///     let mut bytes = Vec::new();
///     server.read_to_end(&mut bytes).await?;
///     assert_eq!(bytes, b"hello");
///     std::io::Result::Ok(())
/// })??;
/// # Ok::<(), cloverleaf::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpListener {
    watched: Watched,
}

impl TcpListener {
    /// Listens at this address, whether or not connections of a former listener linger (`SO_REUSEADDR`, `socket(7)`);
    /// port 0 asks the system for one.
    ///
    /// # Errors
    /// Those of `socket(2)`, `bind(2)` and `listen(2)`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = nonblocking(family_of(&address), SocketType::STREAM)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, LISTEN_BACKLOG)?;
        Ok(Self {
            watched: Watched::new(socket),
        })
    }

    /// Takes a client, and tells its address.
    ///
    /// # Errors
    /// Those of `accept4(2)` that are not one client's own affair. If descriptors or memory run out, the answer comes
    /// after a pause and the client keeps waiting, so a server that goes on accepting neither spins nor loses it.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, peer) = next_client(&self.watched).await?;
        Ok((
            TcpStream::from_watched(Watched::new(fd)),
            peer.require_ip()?,
        ))
    }

    /// This listener's address.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Address::from(rustix::net::getsockname(&self.watched)?).require_ip()
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}

/// A Unix stream socket that listens, closed when dropped; its file stays.
#[derive(Debug)]
pub struct UnixListener {
    watched: Watched,
}

impl UnixListener {
    /// Listens at a path, which must not exist, or with a leading NUL, at a name in the abstract name space.
    ///
    /// # Errors
    /// Those of `socket(2)`, `bind(2)` and `listen(2)`.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = unix_address(path.as_ref())?;
        let socket = nonblocking(AddressFamily::UNIX, SocketType::STREAM)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, LISTEN_BACKLOG)?;
        Ok(Self {
            watched: Watched::new(socket),
        })
    }

    /// Takes a client, and tells its name, which is usually empty.
    ///
    /// # Errors
    /// As [`TcpListener::accept`].
    pub async fn accept(&self) -> io::Result<(UnixStream, Address)> {
        let (fd, peer) = next_client(&self.watched).await?;
        Ok((UnixStream::from_watched(Watched::new(fd)), peer))
    }

    /// This listener's name.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Address> {
        Ok(rustix::net::getsockname(&self.watched)?.into())
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}

async fn next_client(listener: &Watched) -> io::Result<(OwnedFd, Address)> {
    listener.begin().await;
    loop {
        match accept(listener) {
            Accepted::Connection(fd, peer) => return Ok((fd, peer)),
            Accepted::WouldBlock => listener.ready(Direction::Read).await?,
            Accepted::Transient(_) => {}
            Accepted::OutOfResources(error) => {
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                return Err(error);
            }
            Accepted::Failed(error) => return Err(error),
        }
    }
}
