//! `recvmmsg(2)` and `sendmmsg(2)`: many datagrams in one call.
#![expect(
    unsafe_code,
    reason = "rustix has sendmmsg only for what it can borrow already, and recvmmsg not at all"
)]

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::SocketAddrAny;
use rustix::net::addr::SocketAddrStorage;

use super::call::{call, number, system_call};
use crate::limits::DATAGRAMS_PER_CALL;

/// A datagram that one call has received.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes of its slot it fills; what did not fit is lost.
    pub(crate) len: usize,
    /// Who sent it; `None` if the kernel does not say.
    pub(crate) from: Option<SocketAddrAny>,
}

/// Receives as many datagrams as wait and there are slots for, each into its own slot from the front.
///
/// # Errors
/// Those of `recvmmsg(2)`, which come only if there is no datagram before them.
pub(crate) fn recvmmsg<'a>(
    fd: BorrowedFd<'_>,
    slots: impl Iterator<Item = &'a mut [u8]>,
    received: &mut Vec<Received>,
) -> Result<(), Errno> {
    // Few slots are the rule, and to fill room for all would take longer than the rest.
    let mut names = [MaybeUninit::<SocketAddrStorage>::uninit(); DATAGRAMS_PER_CALL];
    let mut vectors = [MaybeUninit::<libc::iovec>::uninit(); DATAGRAMS_PER_CALL];
    let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); DATAGRAMS_PER_CALL];
    let mut count = 0_usize;
    let places = names.iter_mut().zip(&mut vectors).zip(&mut headers);
    for (slot, ((name, vector), header)) in slots.zip(places) {
        let vector = vector.write(libc::iovec {
            iov_base: slot.as_mut_ptr().cast(),
            iov_len: slot.len(),
        });
        let header = header.write(empty_header());
        header.msg_hdr.msg_name = name.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = NAME_ROOM;
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    let headers_at = headers.as_mut_ptr().expose_provenance();
    let arguments = [
        number(fd.as_raw_fd()),
        headers_at,
        count,
        number(libc::MSG_DONTWAIT),
        0,
        0,
    ];
    // SAFETY: the first `count` headers lead to names and vectors on this frame, which stay where they are until it
    // ends, and the vectors to slots that are borrowed for `'a`. None overlap, and nobody looks at them meanwhile. A
    // null timeout means none, and the call does not wait.
    let done = system_call(|| unsafe { call(libc::SYS_recvmmsg, arguments) });
    let done = done.map_err(Errno::from_raw_os_error)?;
    for (header, name) in headers.iter().zip(&names).take(done) {
        // SAFETY: the kernel fills headers from the front, and none beyond the first `count`, which were written.
        let header = unsafe { header.assume_init_ref() };
        // SAFETY: the kernel has filled this header, and so has written that much of the name to which it leads.
        let from = unsafe { name_of(name, header.msg_hdr.msg_namelen) };
        received.push(Received {
            len: header.msg_len as usize,
            from,
        });
    }
    Ok(())
}

/// Sends datagrams, each to its address, and returns how many of them the kernel took, from the front.
///
/// # Errors
/// Those of `sendmmsg(2)`, all of which are about the first datagram.
pub(crate) fn sendmmsg<'a>(
    fd: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = (&'a [u8], &'a SocketAddrAny)>,
) -> Result<usize, Errno> {
    let mut vectors = [MaybeUninit::<libc::iovec>::uninit(); DATAGRAMS_PER_CALL];
    let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); DATAGRAMS_PER_CALL];
    let mut count = 0_usize;
    for ((bytes, to), (vector, header)) in datagrams.zip(vectors.iter_mut().zip(&mut headers)) {
        let vector = vector.write(libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        });
        let header = header.write(empty_header());
        header.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = to.addr_len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    let headers_at = headers.as_mut_ptr().expose_provenance();
    let flags = number(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    let arguments = [number(fd.as_raw_fd()), headers_at, count, flags, 0, 0];
    // SAFETY: the first `count` headers lead to vectors on this frame, and to bytes and addresses that are borrowed for
    // `'a`; the kernel only reads those, and writes nothing but the headers' `msg_len`.
    system_call(|| unsafe { call(libc::SYS_sendmmsg, arguments) }).map_err(Errno::from_raw_os_error)
}

/// How much room the kernel has for a name; the size of the largest that it knows.
const NAME_ROOM: libc::socklen_t = 128;
const _: () = assert!(NAME_ROOM as usize == size_of::<SocketAddrStorage>());

fn empty_header() -> libc::mmsghdr {
    let header = MaybeUninit::<libc::mmsghdr>::zeroed();
    // SAFETY: the structure has numbers and pointers only, for all of which zero is a value. It cannot be written
    // field by field, as some C libraries have padding of their own in it.
    unsafe { header.assume_init() }
}

/// What the kernel has written into the room for a name.
///
/// # Safety
/// The kernel has written an address of `len` bytes there, or says by a `len` that does not fit that it has written none.
unsafe fn name_of(
    name: &MaybeUninit<SocketAddrStorage>,
    len: libc::socklen_t,
) -> Option<SocketAddrAny> {
    if (len as usize) < size_of::<libc::sa_family_t>() || len > NAME_ROOM {
        // Nothing was written: a Unix socket without a name, for one.
        return None;
    }
    // SAFETY: as the caller promises, and the guard above has checked the bounds that would make this panic.
    Some(unsafe { SocketAddrAny::read(name.as_ptr(), len) })
}
