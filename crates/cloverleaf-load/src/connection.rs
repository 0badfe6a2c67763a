//! One connection of a closed loop: what it sent, what is in flight, what came back.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Instant;

use crate::address::Socket;
use crate::clock;
use crate::error::Error;
use crate::histogram::Histogram;
use crate::http::Responses;
use crate::ring::Ring;

/// How the answers of a connection are told apart and checked.
#[derive(Debug)]
pub(crate) enum Answers {
    /// They are known byte for byte.
    Echo {
        /// Every answer in turn: what was sent, or the frames that its messages come back in.
        expected: Rc<Ring>,
        /// The bytes that came back so far, counted from the ring's beginning.
        position: usize,
    },
    /// Each is an HTTP response.
    Http(Responses),
}

/// A connection under load.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    ring: Rc<Ring>,
    sent: usize,
    owed: usize,
    answers: Answers,
    in_flight: VecDeque<Instant>,
}

impl Connection {
    /// A connection that has sent nothing; the `index` spreads connections over the ring.
    pub(crate) fn new(socket: Socket, ring: Rc<Ring>, index: usize, answers: Answers) -> Self {
        let start = ring.start(index);
        Self {
            socket,
            ring,
            sent: start,
            owed: start,
            answers,
            in_flight: VecDeque::new(),
        }
    }

    /// The socket, to register it.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// How many messages have no answer yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Puts `messages` in flight and sends what the socket takes of them.
    pub(crate) fn issue(&mut self, messages: usize) -> Result<(), Error> {
        let now = clock::now();
        self.owed += messages * self.ring.message();
        self.in_flight.extend(std::iter::repeat_n(now, messages));
        self.send()
    }

    /// Sends what is owed, until the socket takes no more.
    pub(crate) fn send(&mut self) -> Result<(), Error> {
        while self.sent < self.owed {
            let bytes = self.ring.at(self.sent, self.owed - self.sent);
            let asked = bytes.len();
            match self.socket.write(bytes) {
                Ok(taken) => {
                    self.sent += taken;
                    if taken < asked {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what there is, records its latencies, and says how many messages were answered.
    ///
    /// A read that does not fill the buffer is the last one: the next edge will tell of more.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        latency: &mut Histogram,
    ) -> Result<usize, Error> {
        let mut answered = 0;
        loop {
            let count = match self.socket.read(buffer) {
                Ok(0) => {
                    return Err(Error::Closed {
                        in_flight: self.in_flight.len(),
                    });
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(answered),
                Err(error) => return Err(error.into()),
            };
            answered += self.check(&buffer[..count], latency)?;
            if count < buffer.len() {
                return Ok(answered);
            }
        }
    }

    fn check(&mut self, bytes: &[u8], latency: &mut Histogram) -> Result<usize, Error> {
        let complete = match &mut self.answers {
            Answers::Echo { expected, position } => {
                if !expected.matches(*position, bytes) {
                    let place = *position;
                    return Err(Error::Mismatch(format!(
                        "an echo differs after byte {place}"
                    )));
                }
                let message = expected.message();
                let before = *position / message;
                *position += bytes.len();
                *position / message - before
            }
            Answers::Http(responses) => responses.take(bytes)?,
        };
        let now = clock::now();
        for _ in 0..complete {
            let Some(issued) = self.in_flight.pop_front() else {
                return Err(Error::Mismatch("an answer that nothing asked for".into()));
            };
            latency.record(now - issued);
        }
        Ok(complete)
    }
}
