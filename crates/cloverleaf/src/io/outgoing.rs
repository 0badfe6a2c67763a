//! Bytes that are on their way.

use std::os::fd::BorrowedFd;

use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::sys::outgoing;

/// Whether a TCP socket has bytes that its peer has not acknowledged. They may have arrived: an acknowledgement may be
/// delayed (`tcp(7)`). Everything else hands its bytes over in the call that sends them, or keeps no count.
pub fn is_on_the_way(fd: BorrowedFd<'_>) -> bool {
    let is_stream = sockopt::socket_type(fd).is_ok_and(|kind| kind == SocketType::STREAM);
    is_stream
        && sockopt::socket_domain(fd)
            .is_ok_and(|family| matches!(family, AddressFamily::INET | AddressFamily::INET6))
        && outgoing(fd).is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn bytes_for_which_a_peer_has_no_room_are_on_the_way_until_it_has_taken_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        assert!(!is_on_the_way(near.as_fd()));
        let mut sent = 0;
        while let Ok(count) = near.write(&[0; 4_096]) {
            sent += count;
        }
        assert!(is_on_the_way(near.as_fd()));
        far.set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        far.read_exact(&mut vec![0; sent]).unwrap();
        // The last acknowledgement may be delayed.
        while is_on_the_way(near.as_fd()) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_no_tcp_socket_has_nothing_on_the_way() {
        let (mut near, _far) = UnixStream::pair().unwrap();
        near.write_all(b"unread").unwrap();
        assert!(!is_on_the_way(near.as_fd()));
        assert!(!is_on_the_way(std::io::stdin().as_fd()));
    }
}
