//! The floor: an echo server that does what every loop must do, and nothing else.
//!
//! Level-triggered epoll, one `recv` per ready socket into one buffer, one `send` at once; what a
//! socket refuses waits in a vector for its `EPOLLOUT`, and nothing more is read from that socket
//! until it has drained. A listener is asked by `poll` whether more connections wait, which costs a
//! tenth of an `accept4` that finds none, for which the kernel makes a socket first.

use std::io::{self, ErrorKind, Read, Write};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::OwnedFd;

use crate::address::{Address, Listener, Socket};
use crate::drive::{BUFFER_BYTES, EVENTS};
use crate::error::Error;

/// The event data of the first listener; connections have their index.
const LISTENERS: usize = 1 << 32;

#[derive(Debug)]
struct Peer {
    socket: Socket,
    unsent: Vec<u8>,
}

/// Listeners and the connections that they accepted.
#[derive(Debug)]
pub(crate) struct Server {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

/// Listens, prints the address, and echoes until it is killed.
pub(crate) fn serve(address: &Address) -> Result<(), Error> {
    let (listener, bound) = address.listen()?;
    let mut server = Server::new(vec![listener])?;
    writeln!(io::stdout(), "{bound}")?;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(server.epoll(), spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &events {
            server.handle(event.data.u64())?;
        }
    }
}

impl Server {
    /// A server without connections.
    pub(crate) fn new(listeners: Vec<Listener>) -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, listener) in listeners.iter().enumerate() {
            let data = epoll::EventData::new_u64((LISTENERS + number) as u64);
            epoll::add(&epoll, listener, data, epoll::EventFlags::IN)?;
        }
        Ok(Self {
            epoll,
            listeners,
            peers: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Where its events come from. Who adds sockets to it keeps clear of the data of ours.
    pub(crate) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// Does what an event of this data is about.
    pub(crate) fn handle(&mut self, data: u64) -> Result<(), Error> {
        let index = usize::try_from(data).unwrap_or(usize::MAX);
        match index.checked_sub(LISTENERS) {
            Some(listener) => self.accept(listener),
            None => self.answer(index),
        }
    }

    fn accept(&mut self, listener: usize) -> Result<(), Error> {
        loop {
            let socket = match self.listeners[listener].accept() {
                Ok(socket) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.peers.push(None);
                self.peers.len() - 1
            });
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
            self.peers[index] = Some(Peer {
                socket,
                unsent: Vec::new(),
            });
            if !self.listeners[listener].has_more()? {
                return Ok(());
            }
        }
    }

    fn answer(&mut self, index: usize) -> Result<(), Error> {
        let Some(peer) = &mut self.peers[index] else {
            return Ok(());
        };
        let drained_before = peer.unsent.is_empty();
        let lives = if drained_before {
            peer.echo(&mut self.buffer)
        } else {
            peer.drain()
        };
        if lives.is_err() {
            // A peer that reset its connection is as gone as one that closed it.
            self.peers[index] = None;
            self.free.push(index);
            return Ok(());
        }
        if peer.unsent.is_empty() != drained_before {
            let interest = if drained_before {
                epoll::EventFlags::OUT
            } else {
                epoll::EventFlags::IN
            };
            let data = epoll::EventData::new_u64(index as u64);
            epoll::modify(&self.epoll, &peer.socket, data, interest)?;
        }
        Ok(())
    }
}

impl Peer {
    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let count = match self.socket.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let taken = self.offer(&buffer[..count])?;
        self.unsent.extend_from_slice(&buffer[taken..count]);
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        let taken = self.offer(&unsent)?;
        self.unsent = unsent;
        self.unsent.drain(..taken);
        Ok(())
    }

    fn offer(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket.write(bytes) {
            Ok(taken) => Ok(taken),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}
