//! Datagrams of a non-blocking socket, one or many in a call, for a transport that is told when there are any.

use std::io;
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, recvfrom, sendto};

use super::address::{Address, unix_address_of};
use crate::limits::{DATAGRAM_BATCH_BYTES, DATAGRAMS_PER_CALL, SLOT_STAGGER_BYTES};
use crate::sys::{Received, cuts_when_asked, recvmmsg, sendmmsg, sendmsg_segments, system_call};

/// Room for the datagrams of one receive, and those that the last one brought.
///
/// The memory is asked for at the first receive, and the system gives it page by page as datagrams fill it.
#[derive(Debug)]
pub struct DatagramBatch {
    room: Vec<u8>,
    slot: usize,
    received: Vec<Received>,
}

impl Default for DatagramBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl DatagramBatch {
    /// Nothing received, and no memory used.
    pub const fn new() -> Self {
        Self {
            room: Vec::new(),
            slot: 1,
            received: Vec::new(),
        }
    }

    /// Receives up to `most` of the datagrams that wait, in place of what was here, and returns their number: fewer
    /// than `most`, and fewer than [`room_for`](Self::room_for) says, only if no more waited.
    ///
    /// What a datagram has beyond `longest` bytes is lost.
    ///
    /// # Errors
    /// Those of `recvmmsg(2)`, "would block" among them. One that follows a datagram is kept for the next call.
    pub fn receive(&mut self, fd: impl AsFd, longest: usize, most: usize) -> io::Result<usize> {
        self.received.clear();
        if self.room.is_empty() {
            self.room = vec![0; DATAGRAM_BATCH_BYTES];
        }
        self.slot = longest + SLOT_STAGGER_BYTES;
        let slots = self.room.chunks_exact_mut(self.slot).take(most);
        recvmmsg(
            fd.as_fd(),
            slots.map(|slot| &mut slot[..longest]),
            &mut self.received,
        )?;
        Ok(self.received.len())
    }

    /// How many datagrams of up to `longest` bytes one receive can bring.
    pub const fn room_for(longest: usize) -> usize {
        let slots = DATAGRAM_BATCH_BYTES / (longest + SLOT_STAGGER_BYTES);
        if slots < DATAGRAMS_PER_CALL {
            slots
        } else {
            DATAGRAMS_PER_CALL
        }
    }

    /// What was received last, in order, with who sent it.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = (&[u8], Address)> {
        let slots = self.room.chunks_exact(self.slot);
        slots.zip(&self.received).map(|(slot, received)| {
            let from = received.from.clone().map_or(Address::Other, Address::from);
            (&slot[..received.len.min(slot.len())], from)
        })
    }
}

/// Receives one datagram, and returns its size and who sent it; what does not fit into `buffer` is lost.
///
/// # Errors
/// Those of `recvfrom(2)`, "would block" among them.
pub fn recv_datagram(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Address)> {
    let (_, len, from) = system_call(|| recvfrom(fd, &mut *buffer, RecvFlags::DONTWAIT))?;
    Ok((
        len.min(buffer.len()),
        from.map_or(Address::Other, Address::from),
    ))
}

/// Sends one datagram to an address.
///
/// # Errors
/// Those of `sendto(2)`, "would block" among them; `InvalidInput` if the kernel has no form of the address.
pub fn send_datagram(fd: impl AsFd, bytes: &[u8], to: &Address) -> io::Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match to {
        Address::Ip(to) => system_call(|| sendto(fd, bytes, flags, to))?,
        Address::Unix(_) | Address::Other => {
            let to = kernel_form(to)?;
            system_call(|| sendto(fd, bytes, flags, &to))?
        }
    };
    Ok(())
}

/// Sends datagrams in order, each to its address, and returns how many of them the kernel took.
///
/// # Errors
/// Those of [`send_datagram`], all of which are about the first datagram.
pub fn send_datagrams(fd: impl AsFd, datagrams: &[(&[u8], &Address)]) -> io::Result<usize> {
    let mut names = Vec::with_capacity(datagrams.len());
    for (_, to) in datagrams {
        match kernel_form(to) {
            Ok(name) => names.push(name),
            Err(error) if names.is_empty() => return Err(error),
            // What comes before it is sent first.
            Err(_) => break,
        }
    }
    let bytes = datagrams.iter().map(|(bytes, _)| *bytes);
    Ok(sendmmsg(fd.as_fd(), bytes.zip(&names))?)
}

/// Whether [`send_segments`] is for this socket: a UDP socket, which nobody has told to cut or to join what it sends.
pub fn cuts_datagrams(fd: impl AsFd) -> bool {
    cuts_when_asked(fd.as_fd())
}

/// Sends the datagrams of `size` bytes that `bytes` is made of, the last of which may be shorter, in one call: to `to`,
/// or else to the socket's peer.
///
/// All of them are sent, or none. The network sees what it sees when they are sent one by one.
///
/// # Errors
/// Those of [`send_datagram`], of which `EINVAL`, `EIO` and `EMSGSIZE` may be about the way and not about any datagram:
/// there are devices that cannot, and paths too narrow for a datagram of that size in one piece.
pub fn send_segments(
    fd: impl AsFd,
    bytes: &[u8],
    size: u16,
    to: Option<&Address>,
) -> io::Result<()> {
    let name = to.map(kernel_form).transpose()?;
    Ok(sendmsg_segments(fd.as_fd(), bytes, size, name.as_ref())?)
}

fn kernel_form(address: &Address) -> io::Result<SocketAddrAny> {
    match address {
        Address::Ip(address) => Ok((*address).into()),
        Address::Unix(name) => Ok(unix_address_of(name)?.into()),
        Address::Other => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;

    use rustix::net::{AddressFamily, SocketType};

    use super::*;

    fn udp() -> (UdpSocket, Address) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = Address::Ip(socket.local_addr().unwrap());
        (socket, address)
    }

    fn texts(batch: &DatagramBatch) -> Vec<(Vec<u8>, Address)> {
        batch
            .datagrams()
            .map(|(bytes, from)| (bytes.to_vec(), from))
            .collect()
    }

    #[test]
    fn many_go_in_one_call_and_come_in_one() {
        let ((ours, our_address), (theirs, their_address)) = (udp(), udp());
        let outgoing: [&[u8]; 4] = [b"one", b"", b"three", &[7; 9000]];
        let addressed = outgoing.map(|bytes| (bytes, &their_address));
        assert_eq!(send_datagrams(&ours, &addressed).unwrap(), 4);
        let mut batch = DatagramBatch::new();
        assert_eq!(batch.receive(&theirs, 65536, 64).unwrap(), 4);
        let expected = outgoing.map(|bytes| (bytes.to_vec(), our_address.clone()));
        assert_eq!(texts(&batch), expected);
        let error = batch.receive(&theirs, 65536, 64).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(texts(&batch), [], "what was received before is gone");
    }

    #[test]
    fn no_more_come_than_are_asked_for() {
        let ((ours, _), (theirs, their_address)) = (udp(), udp());
        for number in 0..5_u8 {
            send_datagram(&ours, &[number], &their_address).unwrap();
        }
        let mut batch = DatagramBatch::new();
        assert_eq!(batch.receive(&theirs, 65536, 3).unwrap(), 3);
        assert_eq!(batch.receive(&theirs, 65536, 3).unwrap(), 2);
        let rest: Vec<u8> = batch.datagrams().map(|(bytes, _)| bytes[0]).collect();
        assert_eq!(rest, [3, 4]);
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let ((ours, _), (theirs, their_address)) = (udp(), udp());
        send_datagram(&ours, b"longer than that", &their_address).unwrap();
        send_datagram(&ours, b"next", &their_address).unwrap();
        let mut batch = DatagramBatch::new();
        assert_eq!(batch.receive(&theirs, 6, 64).unwrap(), 2);
        let found: Vec<Vec<u8>> = texts(&batch).into_iter().map(|(bytes, _)| bytes).collect();
        assert_eq!(found, [&b"longer"[..], &b"next"[..]]);
    }

    #[test]
    fn what_lies_together_is_cut_into_datagrams() {
        let ((ours, our_address), (theirs, their_address)) = (udp(), udp());
        assert!(cuts_datagrams(&ours));
        send_segments(&ours, b"one two six ten", 4, Some(&their_address)).unwrap();
        ours.connect(theirs.local_addr().unwrap()).unwrap();
        send_segments(&ours, b"abab", 2, None).unwrap();
        let mut batch = DatagramBatch::new();
        assert_eq!(batch.receive(&theirs, 65536, 64).unwrap(), 6);
        let expected = ["one ", "two ", "six ", "ten", "ab", "ab"];
        let expected = expected.map(|text| (text.as_bytes().to_vec(), our_address.clone()));
        assert_eq!(texts(&batch), expected);
    }

    #[test]
    fn nothing_is_cut_where_somebody_else_cuts() {
        let nameless = UnixDatagram::unbound().unwrap();
        assert!(!cuts_datagrams(&nameless));
    }

    #[test]
    fn unix_sockets_have_names_or_none() {
        let name = format!("cloverleaf-batch-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let theirs = UnixDatagram::bind(&path).unwrap();
        let to = Address::Unix(path.as_os_str().as_encoded_bytes().to_vec());
        let nameless = UnixDatagram::unbound().unwrap();
        send_datagram(&nameless, b"from nobody", &to).unwrap();
        assert_eq!(send_datagrams(&nameless, &[(b"again", &to)]).unwrap(), 1);
        let mut batch = DatagramBatch::new();
        assert_eq!(batch.receive(&theirs, 65536, 64).unwrap(), 2);
        assert_eq!(texts(&batch)[1], (b"again".to_vec(), Address::Other));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_address_without_a_form_is_refused_in_its_turn() {
        let ((ours, _), (theirs, their_address)) = (udp(), udp());
        let datagrams: [(&[u8], &Address); 2] = [(b"x", &their_address), (b"y", &Address::Other)];
        assert_eq!(send_datagrams(&ours, &datagrams).unwrap(), 1);
        let error = send_datagrams(&ours, &datagrams[1..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let mut buffer = [0; 8];
        assert_eq!(recv_datagram(&theirs, &mut buffer).unwrap().0, 1);
    }

    #[test]
    fn with_a_full_receiver_it_would_block() {
        let name = format!("\0cloverleaf-batch-full-{}", std::process::id());
        let to = Address::Unix(name.into_bytes());
        let theirs = super::super::nonblocking(AddressFamily::UNIX, SocketType::DGRAM).unwrap();
        rustix::net::bind(&theirs, &kernel_form(&to).unwrap()).unwrap();
        let ours = UnixDatagram::unbound().unwrap();
        let mut sent = 0;
        let error = loop {
            match send_datagrams(&ours, &[(&b"x"[..], &to); 3]) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut batch = DatagramBatch::new();
        assert_eq!(batch.receive(&theirs, 64, 64).unwrap(), sent.min(64));
    }
}
