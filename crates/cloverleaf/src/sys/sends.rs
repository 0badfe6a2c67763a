//! Many small sends in one system call, through a ring of `io_uring(7)` that has nothing else to do.
//!
//! No send waits for room, so the kernel answers each before the call returns. We take its word for none: each answer is
//! counted, and nothing is in flight between two calls. To have only failures answered (`IOSQE_CQE_SKIP_SUCCESS`) would
//! save 10 ns a send, and leave memory to the kernel on trust.
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
use crate::limits::SENDS_PER_CALL;

/// Sockets, and what is to be sent through each.
type Outgoing<'a> = (BorrowedFd<'a>, &'a [u8]);

/// A ring for sends.
pub(crate) struct Sends {
    uring: IoUring,
    forks: u32,
}

impl fmt::Debug for Sends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sends")
            .field("fd", &self.uring.as_raw_fd())
            .finish_non_exhaustive()
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

impl Sends {
    /// A ring, if the kernel has one and knows sends.
    ///
    /// # Errors
    /// `EPERM`, `ENOSYS`, `EOPNOTSUPP`, `ENOMEM`, `EMFILE`, `ENFILE`.
    pub(crate) fn new() -> Result<Self, Errno> {
        let entries = u32::try_from(SENDS_PER_CALL).unwrap_or(u32::MAX);
        let uring = IoUring::new(entries).map_err(|error| errno(&error))?;
        let mut probe = Probe::new();
        uring
            .submitter()
            .register_probe(&mut probe)
            .map_err(|error| errno(&error))?;
        if !probe.is_supported(opcode::Send::CODE) {
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
            .chunks(SENDS_PER_CALL)
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
        let first = answers.len();
        answers.resize_with(first + chunk.len(), || Err(Errno::AGAIN.into()));
        let mut missing = chunk.len();
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
    use std::io::Read;
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
        let Ok(mut sends) = Sends::new() else { return };
        let mut pairs: Vec<_> = (0..2 * SENDS_PER_CALL + 3).map(|_| pair()).collect();
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
            sends.send(&outgoing, &mut answers).unwrap();
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
    fn a_full_socket_and_a_lost_peer_hold_nobody_up() {
        let Ok(mut sends) = Sends::new() else { return };
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
        sends.send(&outgoing, &mut answers).unwrap();
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
