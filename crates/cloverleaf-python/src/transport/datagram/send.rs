//! The way out: sent at once if nothing waits before it, else queued until the kernel has room.

use std::io;

use cloverleaf::{Address, send_datagram, system_call};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::address::Destination;
use super::outbox::{self, Place};
use super::queue::{Waiting, wait_for_room};
use super::receive::is_not_now;
use super::tell::tell_error;
use super::{DatagramTransport, Datagrams, close};
use crate::error::os_error;
use crate::ffi::{
    Arguments, Bytes, Method, Owned, SINCE_3_13, audit_event, call_method, copied, raw_fastcall,
};
use crate::transport::endpoint::Endpoint;
use crate::transport::held::{flush_before, holds_any};
use crate::transport::info::none;
use crate::transport::kind::Kind;
use crate::transport::state::Phase;
use crate::transport::write::{check_bytes_like, warn_futile};

/// What became of an attempt to send.
pub(super) enum Attempt {
    /// The kernel took it.
    Sent,
    /// There is no room.
    NotNow,
    /// The network, or the kernel, refuses; the protocol hears of it, and the transport goes on.
    Refused(PyErr),
    /// It cannot be sent, and the transport is of no use any more.
    Failed(PyErr),
}

impl Attempt {
    pub(super) fn of_native(py: Python<'_>, result: io::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Sent,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Self::NotNow,
                _ => Self::Refused(os_error(py, &error)),
            },
        }
    }

    fn of_python(py: Python<'_>, result: PyResult<()>) -> Self {
        match result {
            Ok(()) => Self::Sent,
            Err(error) if is_not_now(py, &error) => Self::NotNow,
            Err(error) if error.is_instance_of::<PyOSError>(py) => Self::Refused(error),
            Err(error) => Self::Failed(error),
        }
    }
}

/// The arguments of `sendto`.
fn parse<'a, 'py>(
    args: Arguments<'a, 'py>,
) -> PyResult<(pyo3::Borrowed<'a, 'py, PyAny>, Option<Bound<'py, PyAny>>)> {
    let [Some(data), address] = args.bind("sendto", ["data", "addr"], 1)? else {
        unreachable!("invariant: a required argument is there")
    };
    let address = address.filter(|address| !address.is_none());
    Ok((data, address.map(pyo3::Borrowed::to_owned)))
}

/// `transport.sendto`.
fn sendto(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    let (data, address) = parse(args)?;
    check_bytes_like(&data, |_| "bytes-like")?;
    let bytes = match Bytes::of(&data) {
        Ok(bytes) => bytes,
        Err(error) => {
            close::fatal_error(slf, error, close::WRITE_FAILED)?;
            return Ok(none(py));
        }
    };
    if bytes.is_empty() && !SINCE_3_13 {
        return Ok(none(py));
    }
    // What has been written before this goes before this.
    let is_first = !holds_any(&this.event_loop(py))?;
    let planned = this.with(py, |datagrams| {
        let (to, place) = datagrams.plan(&bytes, address.as_ref())?;
        let is_now = place == Place::Held || (place == Place::AtOnce && is_first);
        let settled = is_now.then(|| datagrams.settle(py, &bytes, &to, place));
        Some((to, place, settled))
    });
    let (to, place, settled, address) = if let Some((to, place, settled)) = planned {
        (to, place, settled, address)
    } else {
        let address = this.permitted(py, address)?;
        let to = this.destination(address.as_ref(), py);
        let place = this.with(py, |datagrams| datagrams.place(bytes.len(), &to));
        (to, place, None, address)
    };
    let settled = match settled {
        Some(settled) => settled,
        None => in_turn(slf, this, (&bytes, &to, place))?,
    };
    let attempt = match settled {
        Settled::Sent(result) => Attempt::of_native(py, result),
        Settled::Waits => Attempt::NotNow,
        Settled::Lost(times) => {
            if times >= Kind::Socket.first_warned_write() {
                warn_futile(py, Kind::Socket)?;
            }
            return Ok(none(py));
        }
        Settled::Announced(sock) => this.announce_and_send(&bytes, &to, place, (sock, address)),
        Settled::ByPython(address) => this.attempt_in_python(&data, &address.into_bound(py)),
    };
    match attempt {
        Attempt::Sent => {}
        Attempt::NotNow => {
            let copy = copied(&bytes)?;
            drop(bytes);
            wait_for_room(slf, this, Waiting { bytes: copy, to })?;
        }
        Attempt::Refused(error) => tell_error(slf, this, error)?,
        Attempt::Failed(error) => {
            close::fatal_error(slf, error, close::WRITE_FAILED)?;
        }
    }
    Ok(none(py))
}

/// Settles a datagram when what has been written before it is on its way.
fn in_turn(
    slf: &Bound<'_, PyAny>,
    this: &DatagramTransport,
    (bytes, to, place): (&[u8], &Destination, Place),
) -> PyResult<Settled> {
    let py = slf.py();
    if place != Place::Held {
        flush_before(&this.event_loop(py))?;
    }
    if place == Place::BehindHeld {
        outbox::flush(slf, this)?;
    }
    Ok(this.with(py, |datagrams| datagrams.settle(py, bytes, to, place)))
}

/// What is done with a datagram.
enum Settled {
    /// It was offered to the kernel, or is held.
    Sent(io::Result<()>),
    /// Others wait before it.
    Waits,
    /// It is not sent, as so many have not been that came after the end.
    Lost(u32),
    /// It goes to an address, of which audit hooks must hear before, together with this socket.
    Announced(Option<Owned>),
    /// The Python socket's own method sends it to this address.
    ByPython(Owned),
}

impl Datagrams {
    /// Where a datagram goes and when, if that takes no look into its address.
    #[inline]
    fn plan(
        &mut self,
        bytes: &[u8],
        address: Option<&Bound<'_, PyAny>>,
    ) -> Option<(Destination, Place)> {
        let is_permitted = match (&self.address, address) {
            (None, _) => true,
            (Some(_), None) => self.is_connected,
            (Some(only), Some(address)) => only.bind(address.py()).is(address),
        };
        let to = self.known_destination(address).filter(|_| is_permitted)?;
        let place = self.place(bytes.len(), &to);
        Some((to, place))
    }

    /// Sends a datagram whose time has come, as far as that needs no Python.
    #[inline]
    fn settle(&mut self, py: Python<'_>, bytes: &[u8], to: &Destination, place: Place) -> Settled {
        if let Some(times) = self.count_lost() {
            return Settled::Lost(times);
        }
        if place != Place::Held && !self.queue.is_empty() {
            return Settled::Waits;
        }
        match to {
            Destination::Connected if place == Place::Held && self.hold(bytes, to) => {
                Settled::Sent(Ok(()))
            }
            Destination::Connected => Settled::Sent(self.send_connected(bytes)),
            Destination::Known(_) => Settled::Announced(match &self.endpoint {
                Endpoint::Socket(socket) => Some(socket.object().clone_ref(py)),
                Endpoint::Native(_) | Endpoint::Closed(..) => None,
            }),
            Destination::Python(address) => Settled::ByPython(address.clone_ref(py)),
        }
    }

    /// Counts a send after the end, and says how many there were; `None` if this one is not.
    ///
    /// As in asyncio, an endpoint that has not one peer only still sends between `close()` and `connection_lost`.
    fn count_lost(&mut self) -> Option<u32> {
        let is_lost = match self.phase {
            Phase::Starting | Phase::Open | Phase::Closing => false,
            Phase::Lost => self.address.is_some(),
            Phase::Closed => true,
        };
        is_lost.then(|| {
            self.lost_sends += 1;
            self.lost_sends
        })
    }
}

impl DatagramTransport {
    /// The address to send to, which is the one address if there is such a one.
    fn permitted<'py>(
        &self,
        py: Python<'py>,
        address: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let only = self.with(py, |datagrams| {
            datagrams.address.as_ref().map(|only| only.clone_ref(py))
        });
        let Some(only) = only else { return Ok(address) };
        let only = only.into_bound(py);
        match address {
            Some(address) if !address.is(&only) && !address.eq(&only)? => Err(
                PyValueError::new_err(format!("Invalid address: must be None or {}", only.str()?)),
            ),
            Some(_) | None => Ok(Some(only)),
        }
    }

    /// Lets audit hooks hear of a datagram to an address, and sends or holds it.
    fn announce_and_send(
        &self,
        bytes: &[u8],
        to: &Destination,
        place: Place,
        (sock, address): (Option<Owned>, Option<Bound<'_, PyAny>>),
    ) -> Attempt {
        let Some(address) = address else {
            unreachable!("invariant: what goes to an address was given one")
        };
        let py = address.py();
        if let Some(sock) = sock
            && let Err(error) = audit_event(c"socket.sendto", &sock.into_bound(py), &address)
        {
            return Attempt::of_python(py, Err(error));
        }
        // A hook may have asked for the socket, after which nothing is held.
        let sent = self.with(py, |datagrams| match to {
            _ if place == Place::Held && datagrams.hold(bytes, to) => Ok(()),
            Destination::Known(known) => datagrams.send_known(bytes, known),
            Destination::Connected | Destination::Python(_) => datagrams.send_connected(bytes),
        });
        Attempt::of_native(py, sent)
    }

    /// Sends by the Python socket's own method.
    pub(super) fn attempt_in_python(
        &self,
        data: &Bound<'_, PyAny>,
        address: &Bound<'_, PyAny>,
    ) -> Attempt {
        let py = data.py();
        let Some(sock) = self.socket(py) else {
            return Attempt::Refused(os_error(py, &Errno::BADF.into()));
        };
        let sent = call_method(&sock, intern!(py, "sendto"), [data, address]);
        // A method of the program's own may return anything, which asyncio does not look at.
        if let Ok(count) = &sent
            && let Ok(count) = count.extract()
        {
            self.with(py, |datagrams| datagrams.stats.traffic.sent(count));
        }
        Attempt::of_python(py, sent.map(drop))
    }
}

impl Datagrams {
    pub(super) fn send_connected(&self, bytes: &[u8]) -> io::Result<()> {
        let fd = self.endpoint.fd().ok_or(Errno::BADF)?;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        system_call(|| send(fd, bytes, flags))?;
        self.stats.traffic.sent(bytes.len());
        Ok(())
    }

    fn send_known(&self, bytes: &[u8], to: &Address) -> io::Result<()> {
        send_datagram(self.endpoint.fd().ok_or(Errno::BADF)?, bytes, to)?;
        self.stats.traffic.sent(bytes.len());
        Ok(())
    }

    /// Counts a call that has sent the first of datagrams that are so long.
    pub(super) fn count_sent(
        &self,
        sent: &io::Result<usize>,
        lengths: impl Iterator<Item = usize>,
    ) {
        if let Ok(count @ 1..) = sent {
            self.stats.traffic.sent(lengths.take(*count).sum());
        }
    }
}

pub(super) const METHODS: [Method; 1] = [Method {
    name: c"sendto",
    doc: c"sendto($self, /, data, addr=None)\n--\n\nSend a datagram, to the address of the endpoint if it has one; what \
         the kernel does not take at once is sent later, in order.",
    kind: raw_fastcall!(sendto),
}];
