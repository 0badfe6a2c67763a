//! Descriptors as the loop sees them: streams, datagrams, listeners, and bytes that wait for the kernel.
//!
//! [`accept`], [`WriteQueue`] and [`DatagramBatch`] know of no loop. The rest are a Rust program's asynchronous sockets: each is registered
//! with the loop that runs when one of its operations first has to wait, and needs no loop before that.

mod address;
mod batch;
mod connector;
mod datagram;
mod listener;
mod outgoing;
mod server;
mod stream;
mod write_queue;

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

pub use address::Address;
pub use batch::{
    DatagramBatch, cuts_datagrams, recv_datagram, send_datagram, send_datagrams, send_segments,
};
pub use datagram::UdpSocket;
pub use listener::{Accepted, accept, may_accept, try_accept};
pub use outgoing::is_on_the_way;
pub use server::{TcpListener, UnixListener};
pub use stream::{ByteStream, TcpStream, UnixStream};
pub use write_queue::{Sent, SharedBytes, WriteQueue};

fn nonblocking(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(family, kind, flags, None)?)
}
