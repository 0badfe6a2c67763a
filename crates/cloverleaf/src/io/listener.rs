//! Accepting: one connection at a time, non-blocking and close-on-exec from the start.
//!
//! [`accept`] tells apart what a listener must do next, so that neither a peer that has gone again nor a full
//! descriptor table ends a server; [`may_accept`] asks without an attempt.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio, retry_on_intr};
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom, acceptfrom_with};

use super::address::Address;
use crate::sys::system_call;

/// What one attempt to accept has brought.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, and who it comes from.
    Connection(OwnedFd, Address),
    /// Nobody waits; ask again when the listener is readable.
    WouldBlock,
    /// Who waited has gone again; ask again at once.
    Transient(io::Error),
    /// The process or the kernel is out of descriptors or memory. Who waits still waits, so the listener stays
    /// readable: pause before the next attempt.
    OutOfResources(io::Error),
    /// The listener is broken.
    Failed(io::Error),
}

/// Accepts one connection, and says what to do otherwise.
pub fn accept(listener: impl AsFd) -> Accepted {
    match try_accept(listener.as_fd()) {
        Ok((connection, peer)) => Accepted::Connection(connection, peer),
        Err(error) => refused(error),
    }
}

/// Accepts one connection (`accept4(2)`), and tells who it comes from.
///
/// # Errors
/// As for `accept4(2)`, but for `EINTR`.
pub fn try_accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, Address), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let accepted = match retry_on_intr(|| system_call(|| acceptfrom_with(listener, flags))) {
        // `accept(2)` of a listener that blocks must find somebody.
        Err(Errno::NOSYS | Errno::PERM) if may_accept(listener) => accept_by_steps(listener),
        Err(Errno::NOSYS | Errno::PERM) => Err(Errno::AGAIN),
        accepted => accepted,
    };
    let (connection, peer) = accepted?;
    Ok((connection, peer.map_or(Address::Other, Address::from)))
}

/// The same where a filter refuses `accept4`. What forks amid the steps hands the connection on.
#[cold]
fn accept_by_steps(listener: BorrowedFd<'_>) -> Result<(OwnedFd, Option<SocketAddrAny>), Errno> {
    let (connection, peer) = retry_on_intr(|| acceptfrom(listener))?;
    fcntl_setfd(&connection, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&connection, true)?;
    Ok((connection, peer))
}

/// Whether [`accept`] may find somebody. To ask costs a tenth of an accept that finds nobody, which makes a socket first.
pub fn may_accept(listener: impl AsFd) -> bool {
    let mut asked = [PollFd::new(&listener, PollFlags::IN)];
    // An error is for `accept` to tell.
    let answer = system_call(|| poll(&mut asked, Some(&Timespec::default())));
    !matches!(answer, Ok(0))
}

/// `accept(2)`, "Error handling": Linux passes on errors of the new connection, which are the peer's own affair.
fn refused(error: Errno) -> Accepted {
    match error {
        Errno::AGAIN => Accepted::WouldBlock,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
            Accepted::OutOfResources(error.into())
        }
        Errno::CONNABORTED
        | Errno::PROTO
        | Errno::PERM
        | Errno::NETDOWN
        | Errno::NOPROTOOPT
        | Errno::HOSTDOWN
        | Errno::NONET
        | Errno::HOSTUNREACH
        | Errno::NETUNREACH => Accepted::Transient(error.into()),
        _ => Accepted::Failed(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::fs::{OFlags, fcntl_getfl};
    use rustix::io::{FdFlags, fcntl_getfd};

    use super::*;

    #[test]
    fn a_connection_comes_without_blocking_and_close_on_exec() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let Accepted::Connection(fd, peer) = accept(&listener) else {
            panic!("a client waits");
        };
        assert_eq!(peer.ip(), Some(client.local_addr().unwrap()));
        assert!(fcntl_getfl(&fd).unwrap().contains(OFlags::NONBLOCK));
        assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
    }

    #[test]
    fn with_nobody_waiting_it_would_block() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        assert!(!may_accept(&listener));
        assert!(matches!(accept(&listener), Accepted::WouldBlock));
    }

    #[test]
    fn it_may_accept_until_the_last_has_come() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        for _ in 0..2 {
            assert!(may_accept(&listener));
            assert!(matches!(accept(&listener), Accepted::Connection(..)));
        }
        assert!(!may_accept(&listener));
    }

    #[test]
    fn every_kind_of_error_asks_for_its_own_answer() {
        assert!(matches!(refused(Errno::MFILE), Accepted::OutOfResources(_)));
        assert!(matches!(
            refused(Errno::CONNABORTED),
            Accepted::Transient(_)
        ));
        let (not_a_listener, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(accept(&not_a_listener), Accepted::Failed(_)));
    }
}
