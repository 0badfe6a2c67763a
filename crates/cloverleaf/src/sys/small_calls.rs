//! Many small sends, or receives, in one system call, through a ring of `io_uring(7)` that has nothing else to do.
//!
//! None of them waits (`MSG_DONTWAIT`), so the kernel answers each before the call returns. We take its word for none:
//! each answer is counted, and nothing is in flight between two calls. To have only failures answered
//! (`IOSQE_CQE_SKIP_SUCCESS`) would save 10 ns a send, and leave memory to the kernel on trust.
#![expect(
    unsafe_code,
    reason = "the queue takes addresses, and trusts that what lies there stays until the kernel is done with it"
)]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, Probe, opcode, types};
use rustix::io::Errno;

use super::fork::forks;
use crate::limits::{ROOM_BYTES, ROOM_STRIDE_BYTES, SOCKETS_PER_CALL};

/// Sockets, and what is to be sent through each.
type Outgoing<'a> = (BorrowedFd<'a>, &'a [u8]);

/// A ring for sends and receives.
pub(crate) struct SmallCalls {
    uring: IoUring,
    forks: u32,
}

impl fmt::Debug for SmallCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmallCalls")
            .field("fd", &self.uring.as_raw_fd())
            .finish_non_exhaustive()
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

impl SmallCalls {
    /// A ring, if the kernel has one and knows sends and receives.
    ///
    /// # Errors
    /// `EPERM`, `ENOSYS`, `EOPNOTSUPP`, `ENOMEM`, `EMFILE`, `ENFILE`.
    pub(crate) fn new() -> Result<Self, Errno> {
        let entries = u32::try_from(SOCKETS_PER_CALL).unwrap_or(u32::MAX);
        let uring = IoUring::new(entries).map_err(|error| errno(&error))?;
        let mut probe = Probe::new();
        uring
            .submitter()
            .register_probe(&mut probe)
            .map_err(|error| errno(&error))?;
        let codes = [opcode::Send::CODE, opcode::Recv::CODE];
        if !codes.iter().all(|code| probe.is_supported(*code)) {
            return Err(Errno::OPNOTSUPP);
        }
        Ok(Self {
            uring,
            forks: forks(),
        })
    }

    /// Sends what the sockets have room for now, and appends the answer to each, in order. A closed peer is an error,
    /// never a `SIGPIPE`.
    ///
    /// # Errors
    /// What the kernel says if it takes no more. The ring is of no use then, and what has no answer was not sent; nor was
    /// what is answered by "would block".
    pub(crate) fn send(
        &mut self,
        outgoing: &[Outgoing<'_>],
        answers: &mut Vec<io::Result<usize>>,
    ) -> Result<(), Errno> {
        if self.forks != forks() {
            return Err(Errno::BADF);
        }
        outgoing
            .chunks(SOCKETS_PER_CALL)
            .try_for_each(|chunk| self.send_chunk(chunk, answers))
    }

    fn send_chunk(
        &mut self,
        chunk: &[Outgoing<'_>],
        answers: &mut Vec<io::Result<usize>>,
    ) -> Result<(), Errno> {
        for (index, (fd, bytes)) in chunk.iter().enumerate() {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let entry = opcode::Send::new(types::Fd(fd.as_raw_fd()), bytes.as_ptr(), len)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(index as u64);
            // SAFETY: the bytes are borrowed until this call has seen the answer to every entry that the kernel took;
            // one that it did not take is never handed over, as `Err` makes the caller drop the ring.
            let pushed = unsafe { self.uring.submission().push(&entry) };
            assert!(
                pushed.is_ok(),
                "invariant: the queue is empty between calls"
            );
        }
        self.finish(chunk.len(), answers)
    }

    /// Receives what the sockets have now, up to [`ROOM_BYTES`] each, to the beginning of each [`ROOM_STRIDE_BYTES`] of
    /// `rooms`, and appends the answer to each, in order. Sockets for which there is no room, and those beyond
    /// [`SOCKETS_PER_CALL`], have no answer.
    ///
    /// # Errors
    /// What the kernel says if it takes no more. The ring is of no use then, and what is answered by "would block" was not
    /// received.
    pub(crate) fn receive(
        &mut self,
        sockets: &[BorrowedFd<'_>],
        rooms: &mut [u8],
        answers: &mut Vec<io::Result<usize>>,
    ) -> Result<(), Errno> {
        if self.forks != forks() {
            return Err(Errno::BADF);
        }
        let rooms = rooms.chunks_exact_mut(ROOM_STRIDE_BYTES);
        let mut count = 0;
        for (index, (fd, room)) in sockets.iter().zip(rooms).take(SOCKETS_PER_CALL).enumerate() {
            let room = &mut room[..ROOM_BYTES];
            let len = u32::try_from(room.len()).unwrap_or(0);
            let entry = opcode::Recv::new(types::Fd(fd.as_raw_fd()), room.as_mut_ptr(), len)
                .flags(libc::MSG_DONTWAIT)
                .build()
                .user_data(index as u64);
            // SAFETY: the rooms are borrowed until this call has seen the answer to every entry that the kernel took, no
            // two of them overlap, and one that it did not take is never handed over, as `Err` makes the caller drop the
            // ring.
            let pushed = unsafe { self.uring.submission().push(&entry) };
            assert!(
                pushed.is_ok(),
                "invariant: the queue is empty between calls"
            );
            count += 1;
        }
        self.finish(count, answers)
    }

    /// Has the kernel answer every entry.
    fn finish(&mut self, count: usize, answers: &mut Vec<io::Result<usize>>) -> Result<(), Errno> {
        let first = answers.len();
        answers.resize_with(first + count, || Err(Errno::AGAIN.into()));
        let mut missing = count;
        while missing > 0 {
            let entered = self.uring.submit_and_wait(missing);
            missing -= self.take_answers(&mut answers[first..]);
            match entered.map_err(|error| errno(&error)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(self.give_up(&mut answers[first..], missing, error)),
            }
        }
        Ok(())
    }

    fn take_answers(&mut self, answers: &mut [io::Result<usize>]) -> usize {
        let mut taken = 0;
        for answer in self.uring.completion() {
            let place = usize::try_from(answer.user_data())
                .ok()
                .and_then(|index| answers.get_mut(index));
            if let Some(place) = place {
                *place = usize::try_from(answer.result())
                    .map_err(|_| io::Error::from_raw_os_error(answer.result().wrapping_neg()));
                taken += 1;
            }
        }
        taken
    }

    /// Waits for the answers to what the kernel did take.
    fn give_up(
        &mut self,
        answers: &mut [io::Result<usize>],
        mut missing: usize,
        error: Errno,
    ) -> Errno {
        while missing > self.uring.submission().len() {
            missing -= self.take_answers(answers);
            std::hint::spin_loop();
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    #[test]
    fn each_socket_gets_its_bytes_and_each_send_its_answer() {
        let Ok(mut calls) = SmallCalls::new() else {
            return;
        };
        let mut pairs: Vec<_> = (0..2 * SOCKETS_PER_CALL + 3).map(|_| pair()).collect();
        let bytes: Vec<String> = (0..pairs.len())
            .map(|index| format!("for {index}"))
            .collect();
        for _ in 0..3 {
            let outgoing: Vec<Outgoing<'_>> = pairs
                .iter()
                .zip(&bytes)
                .map(|((ours, _), bytes)| (ours.as_fd(), bytes.as_bytes()))
                .collect();
            let mut answers = Vec::new();
            calls.send(&outgoing, &mut answers).unwrap();
            let lengths: Vec<_> = bytes.iter().map(String::len).collect();
            let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
            assert_eq!(answers, lengths);
            for ((_, theirs), bytes) in pairs.iter_mut().zip(&bytes) {
                let mut received = [0; 64];
                let count = theirs.read(&mut received).unwrap();
                assert_eq!(&received[..count], bytes.as_bytes());
            }
        }
    }

    #[test]
    fn each_receive_fills_its_own_room_and_none_waits() {
        let Ok(mut calls) = SmallCalls::new() else {
            return;
        };
        let pairs: Vec<_> = (0..SOCKETS_PER_CALL + 3).map(|_| pair()).collect();
        let sockets: Vec<_> = pairs.iter().map(|(ours, _)| ours.as_fd()).collect();
        let mut rooms = vec![0; SOCKETS_PER_CALL * ROOM_STRIDE_BYTES];
        let message = |index: usize| vec![u8::try_from(index).unwrap(); 1 + index * 97];
        for (index, (_, theirs)) in pairs.iter().enumerate() {
            let mut theirs = theirs;
            match index {
                1 => {}
                2 => theirs.shutdown(std::net::Shutdown::Write).unwrap(),
                _ => theirs.write_all(&message(index)).unwrap(),
            }
        }
        let mut answers = Vec::new();
        calls.receive(&sockets, &mut rooms, &mut answers).unwrap();
        assert_eq!(answers.len(), SOCKETS_PER_CALL);
        for (index, (answer, room)) in answers
            .iter()
            .zip(rooms.chunks(ROOM_STRIDE_BYTES))
            .enumerate()
        {
            match (index, answer) {
                (1, Err(error)) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                (2, Ok(count)) => assert_eq!(*count, 0),
                (_, Ok(count)) => {
                    let message = message(index);
                    assert_eq!(*count, message.len().min(ROOM_BYTES));
                    assert_eq!(room[..*count], message[..*count]);
                    assert!(room[*count..].iter().all(|byte| *byte == 0));
                }
                (_, Err(error)) => panic!("{error}"),
            }
        }
        // What there was no room for is there still.
        let mut rest = [0; 8192];
        let mut last = &pairs[SOCKETS_PER_CALL - 1].0;
        let count = last.read(&mut rest).unwrap();
        assert_eq!(count, message(SOCKETS_PER_CALL - 1).len() - ROOM_BYTES);
    }

    #[test]
    fn a_full_socket_and_a_lost_peer_hold_nobody_up() {
        let Ok(mut calls) = SmallCalls::new() else {
            return;
        };
        let ((full, mut reader), (lost, gone), (fine, mut other)) = (pair(), pair(), pair());
        drop(gone);
        let much = vec![7; 1 << 22];
        let outgoing: [Outgoing<'_>; 4] = [
            (full.as_fd(), &much),
            (full.as_fd(), b"no room"),
            (lost.as_fd(), b"nobody"),
            (fine.as_fd(), b"fine"),
        ];
        let mut answers = Vec::new();
        calls.send(&outgoing, &mut answers).unwrap();
        let short = *answers[0].as_ref().unwrap();
        assert!(0 < short && short < much.len());
        let kinds: Vec<_> = answers[1..3]
            .iter()
            .map(|answer| answer.as_ref().unwrap_err().kind())
            .collect();
        assert_eq!(
            kinds,
            [io::ErrorKind::WouldBlock, io::ErrorKind::BrokenPipe]
        );
        assert_eq!(*answers[3].as_ref().unwrap(), 4);
        let mut received = [0; 4];
        other.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"fine");
        let mut rest = vec![0; short];
        reader.read_exact(&mut rest).unwrap();
        assert_eq!(rest, much[..short]);
    }
}
