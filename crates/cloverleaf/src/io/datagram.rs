//! UDP sockets, used by futures.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{RecvFlags, SendFlags, SocketType, sockopt};

use super::address::{Address, family_of};
use super::nonblocking;
use crate::event_loop::{Direction, Watched};
use crate::sys::system_call;

/// A UDP socket, closed when dropped. Every method takes `&self`: one task may receive while another sends.
///
/// # Examples
/// ```
/// use cloverleaf::{EventLoop, UdpSocket};
///
/// let event_loop = EventLoop::new()?;
/// event_loop.run_until_complete(async {
///     let ours = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
///     let theirs = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
///     ours.send_to(b"hello", theirs.local_addr()?).await?;
///     let mut buffer = [0; 16];
///     let (len, peer) = theirs.recv_from(&mut buffer).await?;
///     assert_eq!((&buffer[..len], peer), (&b"hello"[..], ours.local_addr()?));
///     std::io::Result::Ok(())
/// })??;
/// # Ok::<(), cloverleaf::Error>(())
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    watched: Watched,
}

impl UdpSocket {
    /// A socket with this address; port 0 asks the system for one.
    ///
    /// # Errors
    /// Those of `socket(2)` and `bind(2)`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = nonblocking(family_of(&address), SocketType::DGRAM)?;
        rustix::net::bind(&socket, &address)?;
        Ok(Self {
            watched: Watched::new(socket),
        })
    }

    /// Sends to this peer and hears of no other from now on.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        // A datagram socket only notes its peer: nothing is sent, and nothing can block.
        Ok(rustix::net::connect(&self.watched, &peer)?)
    }

    /// Sends one datagram to `peer`.
    ///
    /// # Errors
    /// Those of `sendto(2)`.
    pub async fn send_to(&self, bytes: &[u8], peer: SocketAddr) -> io::Result<usize> {
        let send = |fd: BorrowedFd<'_>| {
            system_call(|| rustix::net::sendto(fd, bytes, SendFlags::NOSIGNAL, &peer))
        };
        self.watched.attempt(Direction::Write, send).await
    }

    /// Receives one datagram; what does not fit into `buffer` is lost.
    ///
    /// # Errors
    /// Those of `recvfrom(2)`.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let receive = |fd: BorrowedFd<'_>| {
            system_call(|| rustix::net::recvfrom(fd, &mut *buffer, RecvFlags::empty()))
        };
        let (_, len, peer) = self.watched.attempt(Direction::Read, receive).await?;
        let peer = peer.map_or(Address::Other, Address::from).require_ip()?;
        Ok((len, peer))
    }

    /// Sends one datagram to the peer that the socket is connected to.
    ///
    /// # Errors
    /// Those of `send(2)`; `ConnectionRefused` says that an earlier datagram found nobody.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let send =
            |fd: BorrowedFd<'_>| system_call(|| rustix::net::send(fd, bytes, SendFlags::NOSIGNAL));
        self.watched.attempt(Direction::Write, send).await
    }

    /// Receives one datagram; what does not fit into `buffer` is lost.
    ///
    /// # Errors
    /// Those of `recv(2)`; `ConnectionRefused` says that an earlier datagram found nobody.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let receive = |fd: BorrowedFd<'_>| {
            system_call(|| rustix::net::recv(fd, &mut *buffer, RecvFlags::empty()))
        };
        Ok(self.watched.attempt(Direction::Read, receive).await?.1)
    }

    /// Allows sending to a broadcast address (`SO_BROADCAST`, `socket(7)`), or forbids it.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        Ok(sockopt::set_socket_broadcast(&self.watched, broadcast)?)
    }

    /// This socket's address.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Address::from(rustix::net::getsockname(&self.watched)?).require_ip()
    }

    /// The address that this socket is connected to.
    ///
    /// # Errors
    /// Those of `getpeername(2)`; `NotConnected` if it is connected to none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let peer = rustix::net::getpeername(&self.watched)?;
        peer.map_or(Address::Other, Address::from).require_ip()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}
