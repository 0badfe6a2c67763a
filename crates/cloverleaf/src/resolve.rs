//! From names to addresses: literals at once, all else by `getaddrinfo(3)`.
//!
//! [`Query::numeric`] answers for a literal address with a numeric port, without a system call, exactly as the C
//! library would. [`Query::resolve`] asks the C library, which may block for long: run it on a
//! [`BlockingPool`](crate::BlockingPool).

use std::ffi::{CString, NulError};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::event_loop::spawn_blocking;
use crate::sys::{Hints, gai_strerror, getaddrinfo};

/// Flags that change nothing about the answer for a literal address with a numeric port.
const HARMLESS: i32 = libc::AI_PASSIVE | libc::AI_NUMERICHOST | libc::AI_NUMERICSERV;

/// A question to the resolver; numbers are those of the C library (`AF_INET`, `SOCK_STREAM`, `AI_PASSIVE`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// A name or a literal address; without one, the wildcard or the loopback address.
    pub host: Option<CString>,
    /// A service's name or a port's number.
    pub service: Option<CString>,
    /// An address family, or 0 for any.
    pub family: i32,
    /// A socket type, or 0 for any.
    pub socktype: i32,
    /// A protocol, or 0 for any.
    pub protocol: i32,
    /// `AI_…` flags.
    pub flags: i32,
}

/// One answer of the resolver: what to open a socket with, and where to connect it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// `AF_INET` or `AF_INET6`.
    pub family: i32,
    /// A socket type.
    pub socktype: i32,
    /// A protocol.
    pub protocol: i32,
    /// The official name, in the first answer, if `AI_CANONNAME` asked for it.
    pub canonname: Option<String>,
    /// The address; an IPv6 one has its flow label and scope.
    pub address: SocketAddr,
}

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError {
    /// The `EAI_…` code.
    pub code: i32,
    /// What the C library says about the code.
    pub message: String,
    /// The system's own error, if the code is `EAI_SYSTEM`.
    pub errno: Option<i32>,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            Some(errno) => write!(f, "{}", io::Error::from_raw_os_error(errno)),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ResolveError {}

impl From<ResolveError> for io::Error {
    fn from(error: ResolveError) -> Self {
        match error.errno {
            Some(errno) => Self::from_raw_os_error(errno),
            None => Self::other(error),
        }
    }
}

/// The answer for a literal address, with family, socket type, protocol and flags as in a [`Query`]; `None` for whatever
/// the resolver must be asked about.
///
/// # Examples
/// ```
/// let answer = cloverleaf::literal("127.0.0.1", 80, [0, libc::SOCK_STREAM, 0, 0]).expect("a literal");
/// assert_eq!(answer.address, "127.0.0.1:80".parse().unwrap());
/// assert_eq!(cloverleaf::literal("localhost", 80, [0, libc::SOCK_STREAM, 0, 0]), None);
/// ```
pub fn literal(
    host: &str,
    port: u16,
    [family, socktype, protocol, flags]: [i32; 4],
) -> Option<Resolved> {
    if flags & !HARMLESS != 0 {
        return None;
    }
    let protocol = match (socktype, protocol) {
        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => libc::IPPROTO_TCP,
        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => libc::IPPROTO_UDP,
        _ => return None,
    };
    // A scope ("%eth0") is no part of what `IpAddr` parses, nor are the old short forms of IPv4.
    let ip: IpAddr = host.parse().ok()?;
    let own_family = match ip {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    if family != libc::AF_UNSPEC && family != own_family {
        return None;
    }
    Some(Resolved {
        family: own_family,
        socktype,
        protocol,
        canonname: None,
        address: SocketAddr::new(ip, port),
    })
}

impl Query {
    /// Asks for the stream addresses of a host.
    ///
    /// # Errors
    /// If there is a NUL in the name.
    ///
    /// # Examples
    /// ```
    /// let query = cloverleaf::Query::stream("127.0.0.1", 80)?;
    /// let answers = query.numeric().expect("a literal");
    /// assert_eq!(answers[0].address, "127.0.0.1:80".parse().unwrap());
    /// # Ok::<(), std::ffi::NulError>(())
    /// ```
    pub fn stream(host: &str, port: u16) -> Result<Self, NulError> {
        Ok(Self {
            host: Some(CString::new(host)?),
            service: Some(CString::new(port.to_string())?),
            socktype: libc::SOCK_STREAM,
            flags: libc::AI_NUMERICSERV,
            ..Self::default()
        })
    }

    /// The answer for a literal address with a numeric port and a known socket type; `None` for every other question.
    pub fn numeric(&self) -> Option<Vec<Resolved>> {
        let host = self.host.as_ref()?.to_str().ok()?;
        let sort = [self.family, self.socktype, self.protocol, self.flags];
        Some(vec![literal(host, self.numeric_port()?, sort)?])
    }

    fn numeric_port(&self) -> Option<u16> {
        let Some(service) = &self.service else {
            return Some(0);
        };
        let digits = service.to_bytes();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        service.to_str().ok()?.parse().ok()
    }

    /// Answers at once if [`numeric`](Self::numeric) can, and asks the C library otherwise, which may block.
    ///
    /// # Errors
    /// If there is no such name or service, or if the question could not be asked.
    pub fn resolve(&self) -> Result<Vec<Resolved>, ResolveError> {
        if let Some(answers) = self.numeric() {
            return Ok(answers);
        }
        let hints = Hints {
            family: self.family,
            socktype: self.socktype,
            protocol: self.protocol,
            flags: self.flags,
        };
        match getaddrinfo(self.host.as_deref(), self.service.as_deref(), hints) {
            Ok(entries) => Ok(entries
                .into_iter()
                .map(|entry| Resolved {
                    family: entry.family,
                    socktype: entry.socktype,
                    protocol: entry.protocol,
                    canonname: entry.canonname,
                    address: entry.address,
                })
                .collect()),
            Err(failure) => Err(ResolveError {
                code: failure.code,
                message: gai_strerror(failure.code),
                errno: failure.errno,
            }),
        }
    }
}

/// The stream addresses of a host, in the order in which they are best tried.
///
/// A literal address is answered at once; a name is looked up on the loop's pool.
///
/// # Errors
/// If the name has no address, or could not be looked up.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let query = Query::stream(host, port)?;
    let answers = match query.numeric() {
        Some(answers) => answers,
        None => spawn_blocking(move || query.resolve()).await??,
    };
    Ok(answers.into_iter().map(|answer| answer.address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(host: &str, service: Option<&str>, socktype: i32) -> Query {
        Query {
            host: Some(CString::new(host).unwrap()),
            service: service.map(|service| CString::new(service).unwrap()),
            socktype,
            ..Query::default()
        }
    }

    /// What the C library says, without the short way.
    fn asked(query: &Query) -> Vec<Resolved> {
        let detour = Query {
            flags: query.flags | libc::AI_CANONNAME,
            ..query.clone()
        };
        assert_eq!(detour.numeric(), None);
        let mut answers = detour.resolve().unwrap();
        answers[0].canonname = None;
        answers
    }

    #[test]
    fn literals_are_answered_as_the_c_library_does() {
        for host in ["127.0.0.1", "255.1.2.3", "::1", "fe80::1", "::ffff:1.2.3.4"] {
            for service in [None, Some("0"), Some("80"), Some("0080"), Some("65535")] {
                for socktype in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
                    let query = query(host, service, socktype);
                    let answers = query.numeric().expect("a literal");
                    assert_eq!(answers, asked(&query), "{query:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_plainly_numeric_goes_to_the_c_library() {
        for (host, service) in [
            ("localhost", Some("80")),
            ("127.1", Some("80")),
            ("010.0.0.1", Some("80")),
            ("fe80::1%lo", Some("80")),
            ("127.0.0.1", Some("http")),
            ("127.0.0.1", Some("+80")),
            ("127.0.0.1", Some("65536")),
            ("127.0.0.1", Some("")),
        ] {
            assert_eq!(query(host, service, libc::SOCK_STREAM).numeric(), None);
        }
        assert_eq!(query("127.0.0.1", None, 0).numeric(), None);
    }

    #[test]
    fn without_a_type_every_type_is_answered() {
        let answers = query("127.0.0.1", Some("7"), 0).resolve().unwrap();
        let types: Vec<i32> = answers.iter().map(|answer| answer.socktype).collect();
        assert!(types.contains(&libc::SOCK_STREAM) && types.contains(&libc::SOCK_DGRAM));
    }

    #[test]
    fn a_scope_reaches_the_address() {
        let answers = query("fe80::1%lo", Some("7"), libc::SOCK_STREAM)
            .resolve()
            .unwrap();
        let SocketAddr::V6(address) = answers[0].address else {
            panic!("an IPv6 literal");
        };
        assert_ne!(address.scope_id(), 0);
    }

    #[test]
    fn a_failure_has_a_code_and_a_text() {
        let mut query = query("no address", Some("7"), libc::SOCK_STREAM);
        query.flags = libc::AI_NUMERICHOST;
        let error = query.resolve().unwrap_err();
        assert_eq!(error.code, libc::EAI_NONAME);
        assert!(!error.to_string().is_empty());
        assert_eq!(error.errno, None);
    }
}
