//! The name of a Unix socket, byte for byte.
#![expect(
    unsafe_code,
    reason = "rustix shows the bytes of an address only through a pointer, and its own reading of a Unix name panics \
              when a peer has bound to one that fills `sun_path` without a NUL, which unix(7) allows"
)]

use std::mem::offset_of;

use rustix::net::SocketAddrAny;

/// The name in a Unix socket's address: a path without its NUL, an abstract name with its leading one, or nothing.
pub(crate) fn unix_name(address: &SocketAddrAny) -> Vec<u8> {
    let len = address.addr_len() as usize;
    // SAFETY: `SocketAddrAny` promises that its first `addr_len()` bytes are initialized; they live as long as the
    // borrow of `address`, which nobody changes meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), len) };
    let name = bytes
        .get(offset_of!(libc::sockaddr_un, sun_path)..)
        .unwrap_or_default();
    let end = match name.iter().position(|byte| *byte == 0) {
        None | Some(0) => name.len(),
        Some(end) => end,
    };
    name[..end].to_vec()
}
