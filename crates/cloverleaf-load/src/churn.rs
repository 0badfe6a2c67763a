//! The closed loop over connections that carry one message each.
//!
//! An operation is: connect, send one message, receive it back, close. The client closes first, so
//! the server sees the end of a connection that has nothing left to do.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fd::OwnedFd;

use crate::address::{Address, Socket};
use crate::arguments::Load;
use crate::clock;
use crate::drive::{EVENTS, since, wait};
use crate::error::Error;
use crate::histogram::Histogram;
use crate::outcome::Outcome;
use crate::ring::Ring;

#[derive(Debug)]
struct Exchange {
    socket: Socket,
    position: usize,
    received: usize,
    begun: Instant,
}

/// Slots for connections; all are empty between two runs.
#[derive(Debug)]
pub(crate) struct Churn {
    epoll: OwnedFd,
    address: Address,
    ring: Ring,
    slots: Vec<Option<Exchange>>,
    most: usize,
    begun: usize,
    buffer: Vec<u8>,
}

impl Churn {
    /// Slots for the load's connections, without connecting.
    pub(crate) fn new(load: &Load) -> Result<Self, Error> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            address: load.address.clone(),
            ring: Ring::random(load.size, 1, false),
            slots: (0..load.connections).map(|_| None).collect(),
            most: load.most,
            begun: 0,
            buffer: vec![0; load.size],
        })
    }

    /// Opens and closes connections for `window`, or until there were as many as allowed.
    pub(crate) fn run(&mut self, window: Duration) -> Result<Outcome, Error> {
        let cpu = clock::cpu_time();
        let begin = clock::now();
        let end = begin + window;
        let mut latency = Histogram::new();
        let mut waits = 0;
        self.begun = 0;
        for slot in 0..self.slots.len() {
            self.begin(slot)?;
        }
        let mut open = self.slots.len();
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        while open > 0 {
            wait(&self.epoll, &mut events)?;
            waits += 1;
            if events.is_empty() {
                return Err(Error::Silent { in_flight: open });
            }
            let issuing = clock::now() < end;
            for event in &events {
                let slot = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                if !self.advance(slot, &mut latency)? {
                    continue;
                }
                if issuing && self.begun < self.most {
                    self.begin(slot)?;
                } else {
                    open -= 1;
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

    /// Connects and sends; on loopback neither has to wait for the server.
    fn begin(&mut self, slot: usize) -> Result<(), Error> {
        let begun = clock::now();
        let mut socket = self.address.connect()?;
        let position = self.ring.start(self.begun);
        let message = self.ring.at(position, self.ring.message());
        let taken = socket.write(message)?;
        if taken < message.len() {
            let text = format!(
                "a message that a new socket takes whole, not {}",
                message.len()
            );
            return Err(Error::Usage(text));
        }
        let data = epoll::EventData::new_u64(slot as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
        self.slots[slot] = Some(Exchange {
            socket,
            position,
            received: 0,
            begun,
        });
        self.begun += 1;
        Ok(())
    }

    /// Reads; true when the message is complete and the connection closed.
    fn advance(&mut self, slot: usize, latency: &mut Histogram) -> Result<bool, Error> {
        let Some(exchange) = &mut self.slots[slot] else {
            return Ok(false);
        };
        let count = match exchange.socket.read(&mut self.buffer) {
            Ok(0) => return Err(Error::Closed { in_flight: 1 }),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if !self
            .ring
            .matches(exchange.position + exchange.received, &self.buffer[..count])
        {
            return Err(Error::Mismatch(
                "a short connection got other bytes back".into(),
            ));
        }
        exchange.received += count;
        if exchange.received < self.ring.message() {
            return Ok(false);
        }
        let begun = exchange.begun;
        self.slots[slot] = None;
        latency.record(since(begun));
        Ok(true)
    }
}
