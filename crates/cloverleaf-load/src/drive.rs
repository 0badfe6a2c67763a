//! The closed loop over connections that last.
//!
//! All connections are in one edge-triggered epoll set and are never changed in it: a read that
//! filled the buffer goes on, and a write that the socket cut short waits for the next edge.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::arguments::{Dialogue, Load};
use crate::clock;
use crate::connection::{Answers, Connection};
use crate::error::Error;
use crate::histogram::Histogram;
use crate::http::{self, Responses};
use crate::outcome::Outcome;
use crate::ring::Ring;
use crate::websocket;

/// A server that answers nothing for this long has lost something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What is read from a socket at once.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// At most this many events come from one wait.
pub(crate) const EVENTS: usize = 1024;

/// Open connections, none of which has a message in flight between two runs.
#[derive(Debug)]
pub(crate) struct Driver {
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    depth: usize,
    buffer: Vec<u8>,
}

impl Driver {
    /// Opens every connection of the load.
    pub(crate) fn connect(load: &Load) -> Result<Self, Error> {
        let (sent, expected) = messages(load);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(load.connections);
        for index in 0..load.connections {
            let mut socket = load.address.connect()?;
            let echo = || Answers::Echo {
                expected: Rc::clone(&expected),
                position: expected.start(index),
            };
            let answers = match &load.dialogue {
                Dialogue::Echo { .. } => echo(),
                Dialogue::WebSocket => {
                    websocket::shake_hands(&mut socket)?;
                    echo()
                }
                Dialogue::Http { body, .. } => Answers::Http(Responses::expecting(body)),
            };
            let connection = Connection::new(socket, Rc::clone(&sent), index, answers);
            let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, connection.socket(), data, interest)?;
            connections.push(connection);
        }
        Ok(Self {
            epoll,
            connections,
            depth: load.depth,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Loads the server for `window`, then waits for the answers that are still missing.
    pub(crate) fn run(&mut self, window: Duration) -> Result<Outcome, Error> {
        let cpu = clock::cpu_time();
        let begin = clock::now();
        let end = begin + window;
        let mut latency = Histogram::new();
        let mut waits = 0;
        let mut in_flight = self.connections.len() * self.depth;
        for connection in &mut self.connections {
            connection.issue(self.depth)?;
        }
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        while in_flight > 0 {
            wait(&self.epoll, &mut events)?;
            waits += 1;
            if events.is_empty() {
                return Err(Error::Silent { in_flight });
            }
            let issuing = clock::now() < end;
            for event in &events {
                let answered = self.serve(event, issuing, &mut latency)?;
                if !issuing {
                    in_flight -= answered;
                }
            }
        }
        Ok(Outcome {
            latency,
            wall: since(begin),
            cpu: clock::cpu_time().saturating_sub(cpu),
            waits,
        })
    }

    fn serve(
        &mut self,
        event: &epoll::Event,
        issuing: bool,
        latency: &mut Histogram,
    ) -> Result<usize, Error> {
        let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
        let connection = &mut self.connections[index];
        let flags = event.flags;
        if flags.contains(epoll::EventFlags::OUT) {
            connection.send()?;
        }
        if !flags
            .intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR)
            || connection.in_flight() == 0
        {
            return Ok(0);
        }
        let answered = connection.receive(&mut self.buffer, latency)?;
        if issuing && answered > 0 {
            connection.issue(answered)?;
        }
        Ok(answered)
    }
}

/// What the connections send, and what comes back where that is known byte for byte.
fn messages(load: &Load) -> (Rc<Ring>, Rc<Ring>) {
    let sent = match &load.dialogue {
        Dialogue::Echo { lines } => Ring::random(load.size, load.depth, *lines),
        Dialogue::Http { path, .. } => Ring::repeated(&http::request(path), load.depth),
        Dialogue::WebSocket => {
            let plain = Ring::random(load.size, load.depth, false);
            return (
                Rc::new(plain.dressed(load.depth, websocket::question)),
                Rc::new(plain.dressed(load.depth, websocket::answer)),
            );
        }
    };
    let sent = Rc::new(sent);
    (Rc::clone(&sent), sent)
}

/// Waits for events, at most `PATIENCE`; none then.
pub(crate) fn wait(
    epoll: &rustix::fd::OwnedFd,
    events: &mut Vec<epoll::Event>,
) -> Result<(), Error> {
    events.clear();
    let patience = Timespec::try_from(PATIENCE).ok();
    match epoll::wait(epoll, spare_capacity(events), patience.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The time from `begin` to now.
pub(crate) fn since(begin: Instant) -> Duration {
    clock::now().saturating_duration_since(begin)
}
