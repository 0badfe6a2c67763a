//! Connecting without blocking.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{SocketType, sockopt};

use super::address::family_of;
use super::nonblocking;
use crate::event_loop::{Direction, Watched};

/// Connects a non-blocking socket (`connect(2)`, `EINPROGRESS`).
pub(super) async fn connect(socket: OwnedFd, address: &impl SocketAddrArg) -> io::Result<Watched> {
    let started = rustix::net::connect(&socket, address);
    let watched = Watched::new(socket);
    match started {
        Ok(()) => return Ok(watched),
        // An interrupted connect goes on by itself.
        Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    watched.ready(Direction::Write).await?;
    sockopt::socket_error(&watched)??;
    Ok(watched)
}

/// Connects to the first of these addresses that answers.
pub(super) async fn connect_any(addresses: &[SocketAddr]) -> io::Result<Watched> {
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        let socket = match nonblocking(family_of(address), SocketType::STREAM) {
            Ok(socket) => socket,
            Err(error) => {
                refusal = error;
                continue;
            }
        };
        match connect(socket, address).await {
            Ok(watched) => return Ok(watched),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::EventLoop;

    #[test]
    fn addresses_are_tried_in_turn_until_one_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let live = listener.local_addr().unwrap();
        // Bound and not listening, so that the system refuses, and gives the port to nobody else.
        let socket = nonblocking(family_of(&live), SocketType::STREAM).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let dead = rustix::net::getsockname(&socket).unwrap();
        let dead = SocketAddr::try_from(dead).unwrap();
        let event_loop = EventLoop::new().unwrap();
        let connect = |addresses: &[SocketAddr]| {
            let watched = event_loop
                .run_until_complete(connect_any(addresses))
                .unwrap()?;
            io::Result::Ok(SocketAddr::try_from(
                rustix::net::getpeername(&watched)?.unwrap(),
            )?)
        };
        assert_eq!(connect(&[dead, live]).unwrap(), live);
        assert_eq!(connect(&[live, dead]).unwrap(), live);
        let refused = connect(&[dead, dead]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let none = connect(&[]).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }
}
