//! The floor of datagrams: so many there and back at a time, over loopback.
//!
//! One goes by `sendto` and comes by `recvfrom`. A burst goes by one `sendmsg`, which has the kernel cut
//! it (`UDP_SEGMENT`), and comes by one `recvmmsg`: the cheapest calls after which each datagram can
//! still be told from the next by whoever has the socket.

use std::net::UdpSocket;

use cloverleaf::{DatagramBatch, recv_datagram, send_datagram, send_segments};
use rustix::event::epoll;
use rustix::fd::OwnedFd;

use crate::both_ends::BothEnds;
use crate::error::Error;
use crate::ring::Ring;

const ANSWERING: u64 = 0;
const ASKING: u64 = 1;

/// As many as one call takes.
pub(crate) const LARGEST_BURST: usize = 64;

/// An end that asks and one that answers.
#[derive(Debug)]
pub(crate) struct Datagrams {
    epoll: OwnedFd,
    answering: UdpSocket,
    asking: UdpSocket,
    ring: Ring,
    burst: usize,
    begun: usize,
    answered: usize,
    batch: DatagramBatch,
    buffer: Vec<u8>,
}

impl Datagrams {
    /// Two sockets, for `burst` datagrams of `size` bytes at a time.
    pub(crate) fn new(burst: usize, size: usize) -> Result<Self, Error> {
        if burst > LARGEST_BURST {
            let text = format!("bursts of at most {LARGEST_BURST}, not {burst}");
            return Err(Error::Usage(text));
        }
        let answering = UdpSocket::bind("127.0.0.1:0")?;
        let asking = UdpSocket::bind("127.0.0.1:0")?;
        asking.connect(answering.local_addr()?)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (socket, data) in [(&answering, ANSWERING), (&asking, ASKING)] {
            socket.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(data);
            epoll::add(&epoll, socket, data, epoll::EventFlags::IN)?;
        }
        Ok(Self {
            epoll,
            answering,
            asking,
            ring: Ring::random(size, burst, false),
            burst,
            begun: 0,
            answered: 0,
            batch: DatagramBatch::new(),
            buffer: vec![0; (size + 1) * burst],
        })
    }

    fn answer_one(&mut self) -> Result<(), Error> {
        let (len, from) = recv_datagram(&self.answering, &mut self.buffer)?;
        send_datagram(&self.answering, &self.buffer[..len], &from)?;
        Ok(())
    }

    fn answer_burst(&mut self) -> Result<(), Error> {
        let (size, longest) = (self.ring.message(), self.ring.message() + 1);
        self.batch.receive(&self.answering, longest, self.burst)?;
        self.buffer.clear();
        let mut asker = None;
        for (bytes, from) in self.batch.datagrams() {
            if bytes.len() != size || asker.replace(from.clone()).is_some_and(|one| one != from) {
                let text = "a datagram that nobody here has sent";
                return Err(Error::Mismatch(text.into()));
            }
            self.buffer.extend_from_slice(bytes);
        }
        let size = u16::try_from(size).map_err(|_| Error::Usage("smaller datagrams".into()))?;
        send_segments(&self.answering, &self.buffer, size, asker.as_ref())?;
        Ok(())
    }

    fn check(&self, number: usize, bytes: &[u8]) -> Result<(), Error> {
        let position = self.ring.start(self.begun - 1) + number * self.ring.message();
        if bytes.len() == self.ring.message() && self.ring.matches(position, bytes) {
            return Ok(());
        }
        let text = format!("datagram {number} of {}", self.burst);
        Err(Error::Mismatch(text))
    }

    fn receive_one(&mut self) -> Result<usize, Error> {
        let (len, _) = recv_datagram(&self.asking, &mut self.buffer)?;
        self.check(0, &self.buffer[..len])?;
        Ok(1)
    }

    fn receive_burst(&mut self) -> Result<usize, Error> {
        let longest = self.ring.message() + 1;
        let count = self.batch.receive(&self.asking, longest, self.burst)?;
        for (place, (bytes, _)) in self.batch.datagrams().enumerate() {
            self.check(self.answered + place, bytes)?;
        }
        self.answered += count;
        Ok(count)
    }
}

impl BothEnds for Datagrams {
    fn batch(&self) -> usize {
        self.burst
    }

    fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    fn begin(&mut self) -> Result<(), Error> {
        let size = self.ring.message();
        let bytes = self.ring.at(self.ring.start(self.begun), size * self.burst);
        if self.burst == 1 {
            self.asking.send(bytes)?;
        } else {
            let size = u16::try_from(size).map_err(|_| Error::Usage("smaller datagrams".into()))?;
            send_segments(&self.asking, bytes, size, None)?;
        }
        self.begun += 1;
        self.answered = 0;
        Ok(())
    }

    fn handle(&mut self, data: u64) -> Result<usize, Error> {
        match (data, self.burst) {
            (ANSWERING, 1) => self.answer_one().map(|()| 0),
            (ANSWERING, _) => self.answer_burst().map(|()| 0),
            (_, 1) => self.receive_one(),
            (_, _) => self.receive_burst(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::both_ends::run;

    #[test]
    fn datagrams_come_back_alone_and_in_bursts() {
        for burst in [1, 2, LARGEST_BURST] {
            let mut datagrams = Datagrams::new(burst, 64).unwrap();
            let work = run(&mut datagrams, Duration::from_millis(1)).unwrap();
            assert_eq!(work.operations, datagrams.begun * burst);
        }
        assert!(Datagrams::new(LARGEST_BURST + 1, 64).is_err());
    }

    #[test]
    fn another_order_is_an_error() {
        for burst in [1, 4] {
            let mut datagrams = Datagrams::new(burst, 64).unwrap();
            datagrams.begin().unwrap();
            datagrams.begun += 1;
            datagrams.handle(ANSWERING).unwrap();
            let error = datagrams.handle(ASKING).unwrap_err();
            assert!(matches!(error, Error::Mismatch(_)), "{error}");
        }
    }
}
