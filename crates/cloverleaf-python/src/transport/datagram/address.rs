//! Addresses as the socket module has them, to and from those of the kernel.
//!
//! What is converted here is converted exactly as the socket module does it, and what is not, a host's name or an
//! argument that is wrong, is left to the socket module, which also has the words for the error.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use cloverleaf::Address;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};

use super::{DatagramTransport, Datagrams, Domain, Family};
use crate::event_loop::socket_address;
use crate::ffi::Owned;
use crate::transport::info::shown;

/// The largest flow label; the socket module refuses larger ones.
const LARGEST_FLOWINFO: u32 = 0xf_ffff;

/// The room for the name of a Unix socket (`unix(7)`).
const UNIX_NAME_BYTES: usize = 108;

/// Where a datagram goes.
#[derive(Debug)]
pub(super) enum Destination {
    /// To the peer that the kernel knows.
    Connected,
    /// To an address.
    Known(Address),
    /// To something that only the socket module understands.
    Python(Owned),
}

impl DatagramTransport {
    /// Where a datagram for `address` goes, which may be the one address.
    pub(super) fn destination(
        &self,
        address: Option<&Bound<'_, PyAny>>,
        py: Python<'_>,
    ) -> Destination {
        if let Some(known) = self.with(py, |datagrams| datagrams.known_destination(address)) {
            return known;
        }
        let Some(address) = address else {
            return Destination::Python(py.None().into_bound(py).into());
        };
        let native = match self.with(py, |datagrams| datagrams.family) {
            Family::Native { domain, .. } => native(domain, address),
            Family::Foreign => None,
        };
        match native {
            Some(native) => Destination::Known(native),
            None => Destination::Python(address.clone().into()),
        }
    }

    /// An address as the socket module shows it.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn show<'py>(
        &self,
        py: Python<'py>,
        address: &Address,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Address::Ip(ip) = address else {
            return Ok(shown(py, address)?.unwrap_or_else(|| py.None().into_bound(py)));
        };
        if let Some(known) = self.with(py, |datagrams| datagrams.shown(py, address)) {
            return Ok(known.into_bound(py));
        }
        let new = socket_address(py, *ip)?;
        let kept = Owned::from(new.clone());
        let old = self.with(py, |datagrams| datagrams.last_peer.replace((*ip, kept)));
        drop(old);
        Ok(new)
    }
}

impl Datagrams {
    /// Where a datagram for `address` goes, if that takes no look into it.
    #[inline]
    pub(super) fn known_destination(
        &self,
        address: Option<&Bound<'_, PyAny>>,
    ) -> Option<Destination> {
        if self.is_connected {
            return Some(Destination::Connected);
        }
        let (peer, shown) = self.last_peer.as_ref()?;
        // Answers mostly go where the question came from.
        let is_same = address.is_some_and(|address| shown.bind(address.py()).is(address));
        is_same.then_some(Destination::Known(Address::Ip(*peer)))
    }

    /// An address as it was shown before, if it is the one that was seen last.
    #[inline]
    pub(super) fn shown(&self, py: Python<'_>, address: &Address) -> Option<Owned> {
        match (&self.last_peer, address) {
            (Some((peer, shown)), Address::Ip(ip)) if peer == ip => Some(shown.clone_ref(py)),
            _ => None,
        }
    }
}

/// The kernel's address for one of the socket module's, if it is one of the plain kinds.
fn native(domain: Domain, address: &Bound<'_, PyAny>) -> Option<Address> {
    match domain {
        Domain::Ipv4 => {
            let tuple = address.cast_exact::<PyTuple>().ok()?;
            let port = u16::try_from(number(tuple, 1)??).ok()?;
            let host: Ipv4Addr = host(tuple)?;
            (tuple.len() == 2).then_some(Address::Ip((host, port).into()))
        }
        Domain::Ipv6 => {
            let tuple = address.cast_exact::<PyTuple>().ok()?;
            let port = u16::try_from(number(tuple, 1)??).ok()?;
            let flowinfo = number(tuple, 2)?.unwrap_or(0);
            let scope_id = number(tuple, 3)?.unwrap_or(0);
            let host: Ipv6Addr = host(tuple)?;
            let address = SocketAddrV6::new(host, port, flowinfo, scope_id);
            (tuple.len() <= 4 && flowinfo <= LARGEST_FLOWINFO)
                .then_some(Address::Ip(SocketAddr::V6(address)))
        }
        Domain::Unix => unix(address),
    }
}

fn host<T: FromStr>(tuple: &Bound<'_, PyTuple>) -> Option<T> {
    let host = tuple.get_item(0).ok()?;
    let host = host.cast_exact::<PyString>().ok()?;
    host.to_str().ok()?.parse().ok()
}

/// A path, or with a leading NUL, an abstract name, that the kernel has room for.
fn unix(address: &Bound<'_, PyAny>) -> Option<Address> {
    let name = if let Ok(path) = address.cast_exact::<PyString>() {
        // Whatever the encoding of file names is, ASCII is a part of it.
        let path = path.to_str().ok()?;
        path.is_ascii().then(|| path.as_bytes().to_vec())?
    } else {
        address.cast_exact::<PyBytes>().ok()?.as_bytes().to_vec()
    };
    let fits = match name.split_first() {
        Some((0, rest)) => rest.len() < UNIX_NAME_BYTES,
        Some(_) => name.len() < UNIX_NAME_BYTES && !name.contains(&0),
        None => false,
    };
    fits.then_some(Address::Unix(name))
}

/// An item that is a small natural number: `Some(None)` if there is no such item, `None` if it is something else.
#[expect(
    clippy::option_option,
    reason = "three answers, each of which `?` treats as it should"
)]
fn number(tuple: &Bound<'_, PyTuple>, index: usize) -> Option<Option<u32>> {
    if index >= tuple.len() {
        return Some(None);
    }
    let item = tuple.get_item(index).ok()?;
    item.cast_exact::<PyInt>().ok()?.extract().ok().map(Some)
}
