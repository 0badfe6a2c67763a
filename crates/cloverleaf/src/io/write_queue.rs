//! Bytes that the kernel has not taken, in the order in which they were written.
//!
//! [`WriteQueue::send_to`] offers as many pieces as one gathered send can take and forgets what the kernel took; a
//! piece that went only in part stays with its rest. Small pieces are copied together, so that a thousand short writes
//! to a slow peer do not become a thousand allocations.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use crate::limits::{COALESCE_BYTES, PIECES_PER_SEND};
use crate::sys::system_call;

/// Never a signal; and never a wait, even if another process has told the socket, which it has inherited, to wait.
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// What became of one attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel took this many bytes.
    Bytes(usize),
    /// The kernel takes nothing now; ask again when the descriptor is writable.
    WouldBlock,
}

/// Bytes that stay where they are, with whoever keeps them there.
pub trait SharedBytes: AsRef<[u8]> + Send + Sync + std::fmt::Debug {}

impl<T: AsRef<[u8]> + Send + Sync + std::fmt::Debug> SharedBytes for T {}

/// Bytes that were written together.
#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared(Box<dyn SharedBytes>),
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

/// Bytes in order, waiting for the kernel.
///
/// Begins, by `repr(C)`, with what tells whether there are any, which is all that most writes ask.
#[derive(Debug, Default)]
#[repr(C)]
pub struct WriteQueue {
    len: usize,
    pieces: VecDeque<Piece>,
    /// How much of the first piece has gone.
    offset: usize,
    /// The descriptor is known not to be a socket.
    plain: bool,
}

impl WriteQueue {
    /// Nothing to send.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many pieces wait.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Appends bytes without copying them, unless they are so few that copying costs less than a piece of their own.
    pub fn push(&mut self, piece: Vec<u8>) {
        if !self.coalesce(&piece) && !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(Piece::Own(piece));
        }
    }

    /// Appends a copy of these bytes.
    pub fn push_slice(&mut self, bytes: &[u8]) {
        if !self.coalesce(bytes) && !bytes.is_empty() {
            self.len += bytes.len();
            self.pieces.push_back(Piece::Own(bytes.to_vec()));
        }
    }

    /// Appends what follows the first `sent` of these bytes, which must never change, without copying it.
    ///
    /// They are let go when the last of them has been sent, or is forgotten.
    pub fn push_shared(&mut self, bytes: Box<dyn SharedBytes>, sent: usize) {
        let whole = (*bytes).as_ref().len();
        if sent >= whole {
            return;
        }
        if self.is_empty() {
            self.pieces.push_back(Piece::Shared(bytes));
            self.offset = sent;
            self.len = whole - sent;
        } else if sent == 0 {
            self.pieces.push_back(Piece::Shared(bytes));
            self.len += whole;
        } else {
            self.push_slice(&(*bytes).as_ref()[sent..]);
        }
    }

    /// The bytes of the first piece that wait.
    pub fn first(&self) -> &[u8] {
        self.pieces
            .front()
            .map_or(&[], |piece| &piece[self.offset..])
    }

    /// Forgets so many bytes, which were sent by other means.
    ///
    /// # Panics
    /// If fewer wait.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len, "more was sent than waited");
        self.take_sent(count);
    }

    /// Forgets every byte.
    pub fn clear(&mut self) {
        self.pieces = VecDeque::new();
        self.offset = 0;
        self.len = 0;
    }

    /// Offers the kernel as much as one call can take.
    ///
    /// # Errors
    /// Those of `sendmsg(2)` (`writev(2)` for what is not a socket) but "would block", and `EINTR`, upon which it
    /// tries again. A closed peer is an error here, never a `SIGPIPE`, if the descriptor is a socket.
    pub fn send_to(&mut self, fd: impl AsFd) -> io::Result<Sent> {
        if self.is_empty() {
            return Ok(Sent::Bytes(0));
        }
        match self.offer(fd.as_fd()) {
            Ok(count) => {
                self.take_sent(count);
                Ok(Sent::Bytes(count))
            }
            Err(Errno::AGAIN) => Ok(Sent::WouldBlock),
            Err(error) => Err(error.into()),
        }
    }

    /// Offers the kernel these bytes behind those that wait, in one call if it can take them, and keeps what it did not
    /// take. Only that is copied.
    ///
    /// # Errors
    /// Those of [`send_to`](Self::send_to).
    pub fn send_with(&mut self, fd: impl AsFd, last: &[u8]) -> io::Result<Sent> {
        let is_small = last.len() <= COALESCE_BYTES;
        if is_small || self.is_empty() || self.plain || self.pieces.len() >= PIECES_PER_SEND {
            self.push_slice(last);
            return self.send_to(fd);
        }
        let mut slices = self.slices();
        slices.push(IoSlice::new(last));
        let mut nothing = SendAncillaryBuffer::default();
        let socket = fd.as_fd();
        match system_call(|| rustix::net::sendmsg(socket, &slices, &mut nothing, SEND_FLAGS)) {
            Ok(count) => {
                let waited = self.len;
                self.take_sent(count.min(waited));
                self.push_slice(&last[count.saturating_sub(waited)..]);
                Ok(Sent::Bytes(count))
            }
            Err(Errno::AGAIN) => {
                self.push_slice(last);
                Ok(Sent::WouldBlock)
            }
            // Was interrupted, is no socket: the plain way says which, and what comes of it.
            Err(_) => {
                self.push_slice(last);
                self.send_to(fd)
            }
        }
    }

    fn coalesce(&mut self, bytes: &[u8]) -> bool {
        match self.pieces.back_mut() {
            Some(Piece::Own(last)) if last.len() + bytes.len() <= COALESCE_BYTES => {
                last.extend_from_slice(bytes);
                self.len += bytes.len();
                true
            }
            Some(Piece::Own(_) | Piece::Shared(_)) | None => false,
        }
    }

    fn offer(&mut self, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        loop {
            let result = if self.plain {
                let slices = self.slices();
                system_call(|| rustix::io::writev(fd, &slices))
            } else {
                self.offer_socket(fd)
            };
            match result {
                Err(Errno::INTR) => {}
                Err(Errno::NOTSOCK) if !self.plain => self.plain = true,
                result => return result,
            }
        }
    }

    fn offer_socket(&self, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        if self.pieces.len() == 1 {
            let bytes = &self.pieces[0][self.offset..];
            return system_call(|| rustix::net::send(fd, bytes, SEND_FLAGS));
        }
        let mut nothing = SendAncillaryBuffer::default();
        let slices = self.slices();
        system_call(|| rustix::net::sendmsg(fd, &slices, &mut nothing, SEND_FLAGS))
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices: Vec<IoSlice<'_>> = self
            .pieces
            .iter()
            .take(PIECES_PER_SEND)
            .map(|piece| IoSlice::new(piece))
            .collect();
        if let Some(first) = slices.first_mut() {
            first.advance(self.offset);
        }
        slices
    }

    fn take_sent(&mut self, count: usize) {
        self.len -= count;
        self.offset += count;
        while let Some(first) = self.pieces.front() {
            if self.offset < first.len() {
                return;
            }
            self.offset -= first.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    #[test]
    fn shared_bytes_keep_their_place_and_are_let_go() {
        let (ours, mut theirs) = pair();
        let shared = std::sync::Arc::<[u8]>::from(&b"-shared-"[..]);
        let mut queue = WriteQueue::new();
        queue.push_shared(Box::new(std::sync::Arc::clone(&shared)), 1);
        queue.push_slice(b"own");
        queue.push_shared(Box::new(std::sync::Arc::clone(&shared)), 0);
        queue.push_shared(Box::new(std::sync::Arc::clone(&shared)), 7);
        queue.push_shared(Box::new(std::sync::Arc::clone(&shared)), 8);
        assert_eq!(queue.len(), 7 + 3 + 8 + 1);
        assert_eq!(std::sync::Arc::strong_count(&shared), 3);
        assert_eq!(queue.send_to(&ours).unwrap(), Sent::Bytes(19));
        let mut got = [0; 19];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"shared-own-shared--");
        assert_eq!(std::sync::Arc::strong_count(&shared), 1);
        assert!(queue.is_empty());
    }

    #[test]
    fn shared_bytes_go_in_parts() {
        let (ours, mut theirs) = pair();
        let bytes: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut queue = WriteQueue::new();
        queue.push_shared(Box::new(bytes.clone()), 10);
        queue.push_slice(b"end");
        let mut got = Vec::new();
        let mut room = vec![0; 100_000];
        while got.len() < bytes.len() - 10 + 3 {
            queue.send_to(&ours).unwrap();
            let count = theirs.read(&mut room).unwrap();
            got.extend_from_slice(&room[..count]);
        }
        assert!(got.starts_with(&bytes[10..]));
        assert!(got.ends_with(b"end"));
        assert!(queue.is_empty());
    }

    fn piece(number: usize) -> Vec<u8> {
        let byte = u8::try_from(number % 251).unwrap();
        vec![byte; COALESCE_BYTES - 7 + number % 13]
    }

    /// Reads all that is there.
    fn read_some(peer: &mut UnixStream, into: &mut Vec<u8>) {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = peer.read(&mut buffer) {
            into.extend_from_slice(&buffer[..count]);
        }
    }

    #[test]
    fn bytes_arrive_in_order_through_a_full_socket() {
        let (ours, mut theirs) = pair();
        let mut queue = WriteQueue::new();
        let mut expected = Vec::new();
        for number in 0..500 {
            expected.extend(piece(number));
            queue.push(piece(number));
        }
        let (mut received, mut blocked) = (Vec::new(), false);
        while !queue.is_empty() {
            match queue.send_to(&ours).unwrap() {
                Sent::Bytes(count) => assert!(count > 0),
                Sent::WouldBlock => {
                    blocked = true;
                    read_some(&mut theirs, &mut received);
                }
            }
        }
        read_some(&mut theirs, &mut received);
        assert!(blocked, "the socket was never full");
        assert!(received == expected, "bytes were lost or changed places");
        assert_eq!((queue.len(), queue.pieces()), (0, 0));
    }

    #[test]
    fn what_is_sent_with_the_queue_goes_behind_it() {
        let (ours, mut theirs) = pair();
        let mut queue = WriteQueue::new();
        let (mut expected, mut received) = (Vec::new(), Vec::new());
        let mut blocked = 0;
        for number in 0..300 {
            queue.push_slice(b"before");
            let last = vec![u8::try_from(number % 251).unwrap(); 3 * COALESCE_BYTES + number];
            expected.extend_from_slice(b"before");
            expected.extend_from_slice(&last);
            queue.send_with(&ours, &last).unwrap();
            if !queue.is_empty() {
                blocked += 1;
                read_some(&mut theirs, &mut received);
            }
        }
        while !queue.is_empty() {
            queue.send_to(&ours).unwrap();
            read_some(&mut theirs, &mut received);
        }
        read_some(&mut theirs, &mut received);
        assert!(blocked > 1, "the socket was never full");
        assert!(received == expected, "bytes were lost or changed places");
    }

    #[test]
    fn more_pieces_than_one_send_can_gather_all_go() {
        let (ours, mut theirs) = pair();
        let mut queue = WriteQueue::new();
        let mut expected = Vec::new();
        for number in 0..PIECES_PER_SEND + 50 {
            let piece = vec![u8::try_from(number % 256).unwrap(); 1 + COALESCE_BYTES / 2];
            expected.extend_from_slice(&piece);
            queue.push(piece);
        }
        assert!(queue.pieces() > PIECES_PER_SEND);
        let mut received = Vec::new();
        while !queue.is_empty() {
            queue.send_to(&ours).unwrap();
            read_some(&mut theirs, &mut received);
        }
        assert!(received == expected, "bytes were lost or changed places");
    }

    #[test]
    fn short_writes_share_a_piece() {
        let mut queue = WriteQueue::new();
        for _ in 0..1000 {
            queue.push_slice(b"x");
        }
        queue.push(b"y".to_vec());
        queue.push(Vec::new());
        assert_eq!((queue.len(), queue.pieces()), (1001, 1));
    }

    #[test]
    fn a_pipe_is_written_as_well() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut queue = WriteQueue::new();
        queue.push_slice(b"through ");
        queue.push(vec![b'p'; COALESCE_BYTES]);
        let len = queue.len();
        assert_eq!(queue.send_to(&writer).unwrap(), Sent::Bytes(len));
        drop(writer);
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        assert!(received.starts_with(b"through ppp"));
        assert_eq!(received.len(), len);
    }

    #[test]
    fn a_socket_that_waits_is_not_waited_for() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut queue = WriteQueue::new();
            queue.push(vec![b'w'; 64 << 20]);
            while queue.send_to(&ours).unwrap() != Sent::WouldBlock {}
            let with_more = queue.send_with(&ours, &[b'm'; 2 * COALESCE_BYTES]);
            told.send(with_more.unwrap()).unwrap();
        });
        // A thread that waits in the kernel ends with the process.
        let heard = heard.recv_timeout(std::time::Duration::from_secs(120));
        assert_eq!(heard, Ok(Sent::WouldBlock));
    }

    #[test]
    fn a_closed_peer_is_an_error_and_no_signal() {
        let (ours, theirs) = pair();
        drop(theirs);
        let mut queue = WriteQueue::new();
        queue.push_slice(b"lost");
        let error = queue.send_to(&ours).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(queue.len(), 4, "what was not sent is still there");
        queue.clear();
        assert!(queue.is_empty());
    }
}
