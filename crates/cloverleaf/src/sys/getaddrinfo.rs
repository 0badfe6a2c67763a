//! `getaddrinfo(3)`, which no crate offers in a safe form with all of its parameters.
#![expect(unsafe_code, reason = "a C library call that hands out a linked list")]

use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

/// What to look for: family, socket type, protocol and flags, as the C library numbers them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hints {
    pub(crate) family: i32,
    pub(crate) socktype: i32,
    pub(crate) protocol: i32,
    pub(crate) flags: i32,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) family: i32,
    pub(crate) socktype: i32,
    pub(crate) protocol: i32,
    pub(crate) canonname: Option<String>,
    pub(crate) address: SocketAddr,
}

/// A code of `getaddrinfo(3)`, and `errno` where the code says `EAI_SYSTEM`.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) errno: Option<i32>,
}

/// Asks the C library, which may block for as long as a name server does.
pub(crate) fn getaddrinfo(
    host: Option<&CStr>,
    service: Option<&CStr>,
    hints: Hints,
) -> Result<Vec<Entry>, Failure> {
    let wanted = libc::addrinfo {
        ai_flags: hints.flags,
        ai_family: hints.family,
        ai_socktype: hints.socktype,
        ai_protocol: hints.protocol,
        ai_addrlen: 0,
        ai_addr: ptr::null_mut(),
        ai_canonname: ptr::null_mut(),
        ai_next: ptr::null_mut(),
    };
    let mut first = ptr::null_mut();
    // SAFETY: both strings are NUL-terminated or null, and they and `wanted` live through the call, which only reads
    // them; the pointers of `wanted` are null, as the manual asks of hints. `first` is a place for one pointer.
    let code = unsafe {
        libc::getaddrinfo(
            host.map_or(ptr::null(), CStr::as_ptr),
            service.map_or(ptr::null(), CStr::as_ptr),
            &raw const wanted,
            &raw mut first,
        )
    };
    if code != 0 {
        let errno = (code == libc::EAI_SYSTEM)
            .then(|| io::Error::last_os_error().raw_os_error())
            .flatten();
        return Err(Failure { code, errno });
    }
    let list = List {
        first,
        nodes: PhantomData,
    };
    Ok(list.iter().filter_map(entry).collect())
}

/// What the C library says about a code.
pub(crate) fn gai_strerror(code: i32) -> String {
    // SAFETY: any number may be asked for; the answer for an unknown one is a text as well.
    let text = unsafe { libc::gai_strerror(code) };
    if text.is_null() {
        return format!("unknown error {code}");
    }
    // SAFETY: a non-null answer is a NUL-terminated string that is never freed or changed (a translation of the C
    // library's message catalogue at worst), and it is copied before this function ends.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// The list that a successful call has handed over, freed when dropped.
struct List<'list> {
    first: *mut libc::addrinfo,
    nodes: PhantomData<&'list libc::addrinfo>,
}

impl<'list> List<'list> {
    fn iter(&'list self) -> impl Iterator<Item = &'list libc::addrinfo> {
        let mut next = self.first.cast_const();
        std::iter::from_fn(move || {
            // SAFETY: `next` is null or a node of the list, which lives, unchanged, until `self` is dropped; the
            // iterator's lifetime keeps `self` borrowed.
            let node = unsafe { next.as_ref() }?;
            next = node.ai_next.cast_const();
            Some(node)
        })
    }
}

impl Drop for List<'_> {
    fn drop(&mut self) {
        if self.first.is_null() {
            return;
        }
        // SAFETY: `first` came from a successful getaddrinfo and is freed only here; no borrow of a node outlives
        // `self`.
        unsafe { libc::freeaddrinfo(self.first) };
    }
}

fn entry(node: &libc::addrinfo) -> Option<Entry> {
    let canonname = (!node.ai_canonname.is_null()).then(|| {
        // SAFETY: not null, and then a NUL-terminated string that belongs to the list and lives as long as `node`.
        let name = unsafe { CStr::from_ptr(node.ai_canonname) };
        name.to_string_lossy().into_owned()
    });
    Some(Entry {
        family: node.ai_family,
        socktype: node.ai_socktype,
        protocol: node.ai_protocol,
        canonname,
        address: address(node)?,
    })
}

fn address(node: &libc::addrinfo) -> Option<SocketAddr> {
    let len = node.ai_addrlen as usize;
    match node.ai_family {
        libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: getaddrinfo gives AF_INET entries a `sockaddr_in`, and the guard has checked that so many bytes
            // are there; an unaligned read asks for no alignment.
            let raw = unsafe { node.ai_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above, with AF_INET6 and `sockaddr_in6`.
            let raw = unsafe { node.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            let flow = u32::from_be(raw.sin6_flowinfo);
            Some(SocketAddrV6::new(ip, port, flow, raw.sin6_scope_id).into())
        }
        _ => None,
    }
}
