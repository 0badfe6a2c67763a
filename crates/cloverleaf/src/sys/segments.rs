//! Datagrams that lie one behind the other, sent in one call: `UDP_SEGMENT`, see `udp(7)`.
#![expect(
    unsafe_code,
    reason = "rustix knows neither the control message nor the options"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::net::SocketAddrAny;

/// A control message with one number, laid out as `cmsg(3)` says.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    size: u16,
    /// Up to the alignment of the next message, which there is not.
    rest: [u8; PADDING_BYTES],
}

const PADDING_BYTES: usize = size_of::<usize>() - size_of::<u16>();

/// Sends the datagrams of `size` bytes that `bytes` is made of, the last of which may be shorter, to `to` or else to the
/// socket's peer: all of them, or none.
///
/// # Errors
/// Those of `sendmsg(2)`. `EINVAL`, `EIO` and `EMSGSIZE` may be about the cutting and not about any datagram.
pub(crate) fn send_segments(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    size: u16,
    to: Option<&SocketAddrAny>,
) -> Result<(), Errno> {
    let header = MaybeUninit::<libc::cmsghdr>::zeroed();
    // SAFETY: the structure has numbers only, for all of which zero is a value.
    let mut header = unsafe { header.assume_init() };
    header.cmsg_level = libc::SOL_UDP;
    header.cmsg_type = libc::UDP_SEGMENT;
    header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u16>()) as _;
    let mut control = Control {
        header,
        size,
        rest: [0; PADDING_BYTES],
    };
    let mut vector = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let message = MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: the structure has numbers and pointers only, for all of which zero is a value.
    let mut message = unsafe { message.assume_init() };
    if let Some(to) = to {
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.addr_len();
    }
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the message leads to the vector and the control message on this frame, and to bytes and an address that
    // are borrowed until it ends; the kernel only reads them.
    let sent = unsafe {
        libc::sendmsg(
            fd.as_raw_fd(),
            &raw const message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map(drop).map_err(|_| last_error())
}

/// Whether this is a UDP socket of a kernel that cuts, and nobody has told it to cut or to join already.
pub(crate) fn cuts_when_asked(fd: BorrowedFd<'_>) -> bool {
    [libc::UDP_SEGMENT, libc::UDP_CORK]
        .into_iter()
        .all(|option| option_of(fd, option) == Some(0))
}

const INT_BYTES: libc::socklen_t = 4;
const _: () = assert!(INT_BYTES as usize == size_of::<libc::c_int>());

fn option_of(fd: BorrowedFd<'_>, option: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len: libc::socklen_t = INT_BYTES;
    // SAFETY: the kernel writes at most `len` bytes to `value`, and their number to `len`, both on this frame.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_UDP,
            option,
            ptr::from_mut(&mut value).cast(),
            &raw mut len,
        )
    };
    (answer == 0).then_some(value)
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
