//! Who a socket belongs to, or talks to.

use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketAddrV4, SocketAddrV6};

use crate::sys::unix_name;

/// The address of one end of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IPv4 or IPv6 address with its port.
    Ip(SocketAddr),
    /// A Unix socket's path; empty without a name, and with a leading NUL in the abstract name space (`unix(7)`).
    Unix(Vec<u8>),
    /// Of a family that this crate does not know, or without an address.
    Other,
}

impl Address {
    /// The IP address, if it is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) | Self::Other => None,
        }
    }
}

impl Address {
    pub(super) fn require_ip(self) -> io::Result<SocketAddr> {
        self.ip()
            .ok_or_else(|| io::Error::other("the socket has no IP address"))
    }
}

/// The family of the sockets that can have this address.
pub(super) fn family_of(address: &SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

/// The address of a path, or with a leading NUL, of an abstract name (`unix(7)`).
pub(super) fn unix_address(path: &Path) -> io::Result<SocketAddrUnix> {
    unix_address_of(path.as_os_str().as_bytes())
}

/// The address of a name as [`Address::Unix`] has it.
pub(super) fn unix_address_of(name: &[u8]) -> io::Result<SocketAddrUnix> {
    let address = match name {
        [0, name @ ..] => SocketAddrUnix::new_abstract_name(name),
        path => SocketAddrUnix::new(path),
    };
    Ok(address?)
}

impl From<SocketAddrAny> for Address {
    fn from(any: SocketAddrAny) -> Self {
        match any.address_family() {
            AddressFamily::INET => {
                SocketAddrV4::try_from(any).map_or(Self::Other, |v4| Self::Ip(v4.into()))
            }
            AddressFamily::INET6 => {
                SocketAddrV6::try_from(any).map_or(Self::Other, |v6| Self::Ip(v6.into()))
            }
            AddressFamily::UNIX => Self::Unix(unix_name(&any)),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{SocketType, getsockname};

    use super::*;

    fn name_after_binding(address: &SocketAddrUnix) -> Address {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, address).unwrap();
        getsockname(&socket).unwrap().into()
    }

    #[test]
    fn an_abstract_name_keeps_its_leading_nul() {
        let name = format!("cloverleaf-address-{}", std::process::id());
        let unix = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        let bytes = [b"\0", name.as_bytes()].concat();
        assert_eq!(name_after_binding(&unix), Address::Unix(bytes));
    }

    #[test]
    fn a_path_and_no_name_are_told_apart() {
        let path = std::env::temp_dir().join(format!("cloverleaf-address-{}", std::process::id()));
        let bytes = path.as_os_str().as_encoded_bytes().to_vec();
        let unix = SocketAddrUnix::new(&path).unwrap();
        assert_eq!(name_after_binding(&unix), Address::Unix(bytes));
        std::fs::remove_file(&path).unwrap();
        let longest = format!("/tmp/{:a>103}", std::process::id());
        let unix = SocketAddrUnix::new(&longest).unwrap();
        assert_eq!(
            name_after_binding(&unix),
            Address::Unix(longest.clone().into())
        );
        std::fs::remove_file(longest).unwrap();
        let (nameless, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let address = Address::from(getsockname(&nameless).unwrap());
        assert_eq!(address, Address::Unix(Vec::new()));
    }

    #[test]
    fn ip_addresses_survive() {
        for text in ["127.0.0.1:80", "[::1]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(
                Address::from(SocketAddrAny::from(address)).ip(),
                Some(address)
            );
        }
    }
}
