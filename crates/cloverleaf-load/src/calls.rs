//! The floor of short connections, one at a time: connect, echo one message, close.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::address::Address;
use crate::both_ends::BothEnds;
use crate::error::Error;
use crate::ring::Ring;
use crate::serve::Server;

/// A connection leaves a port that cannot meet the same address within a second. So there are this
/// many listeners, each of which is called so often in a row.
const LISTENERS: usize = 16;
const IN_A_ROW: usize = 1000;

/// The event data of the client.
const CLIENT: u64 = u64::MAX;

/// The server of `serve`, and its clients, one at a time.
#[derive(Debug)]
pub(crate) struct Calls {
    server: Server,
    addresses: Vec<SocketAddr>,
    ring: Ring,
    begun: usize,
    client: Option<TcpStream>,
    received: usize,
    buffer: Vec<u8>,
}

impl Calls {
    /// Listens, for messages of that size.
    pub(crate) fn new(size: usize) -> Result<Self, Error> {
        let anywhere = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..LISTENERS {
            let (listener, bound) = anywhere.listen()?;
            listeners.push(listener);
            if let Address::Tcp(address) = bound {
                addresses.push(address);
            }
        }
        Ok(Self {
            server: Server::new(listeners)?,
            addresses,
            ring: Ring::random(size, 1, false),
            begun: 0,
            client: None,
            received: 0,
            buffer: vec![0; size],
        })
    }

    /// Receives; whether the message is complete and the connection closed.
    fn receive(&mut self) -> Result<bool, Error> {
        let Some(client) = &mut self.client else {
            return Ok(false);
        };
        let count = match client.read(&mut self.buffer) {
            Ok(0) => return Err(Error::Closed { in_flight: 1 }),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let position = self.ring.start(self.begun - 1) + self.received;
        if !self.ring.matches(position, &self.buffer[..count]) {
            let text = "a short connection got other bytes back";
            return Err(Error::Mismatch(text.into()));
        }
        self.received += count;
        if self.received < self.ring.message() {
            return Ok(false);
        }
        self.client = None;
        Ok(true)
    }
}

impl BothEnds for Calls {
    fn batch(&self) -> usize {
        1
    }

    fn epoll(&self) -> &rustix::fd::OwnedFd {
        self.server.epoll()
    }

    /// Connects and sends; on loopback neither waits for the server.
    fn begin(&mut self) -> Result<(), Error> {
        let address = self.addresses[self.begun / IN_A_ROW % self.addresses.len()];
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match connect(&socket, &address) {
            // The kernel says so although the connection is there already.
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut client = TcpStream::from(socket);
        let message = self
            .ring
            .at(self.ring.start(self.begun), self.ring.message());
        if client.write(message)? < message.len() {
            let text = "a message that a new socket takes whole";
            return Err(Error::Usage(text.into()));
        }
        let data = epoll::EventData::new_u64(CLIENT);
        epoll::add(self.server.epoll(), &client, data, epoll::EventFlags::IN)?;
        self.client = Some(client);
        self.received = 0;
        self.begun += 1;
        Ok(())
    }

    fn handle(&mut self, data: u64) -> Result<usize, Error> {
        if data == CLIENT {
            return Ok(usize::from(self.receive()?));
        }
        self.server.handle(data)?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::both_ends::run;

    #[test]
    fn connections_carry_their_message_there_and_back() {
        let mut calls = Calls::new(64).unwrap();
        let work = run(&mut calls, Duration::from_millis(1)).unwrap();
        assert!(work.operations > 0);
        assert_eq!(work.operations, calls.begun);
    }

    #[test]
    fn other_bytes_than_were_sent_are_an_error() {
        let mut calls = Calls::new(64).unwrap();
        calls.begin().unwrap();
        calls.begun += 1;
        let error = loop {
            let mut events: Vec<epoll::Event> = Vec::with_capacity(8);
            crate::drive::wait(calls.epoll(), &mut events).unwrap();
            let done = events
                .iter()
                .try_for_each(|event| calls.handle(event.data.u64()).map(drop));
            if let Err(error) = done {
                break error;
            }
        };
        assert!(matches!(error, Error::Mismatch(_)), "{error}");
    }
}
