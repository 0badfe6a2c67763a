//! How an endpoint begins: the socket is taken over, and asyncio's order of the first calls kept.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use cloverleaf::{Interest, limits};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::outbox::Outbox;
use super::singles::Singles;
use super::{CLASS, DatagramTransport, Datagrams, Domain, Family, close, receive};
use crate::event_loop::{Loop, transport_socket};
use crate::ffi::{AttachedCell, Owned, Reach, caught, copy_context, freeze_context, new_dict};
use crate::transport::endpoint::Endpoint;
use crate::transport::flow::Limits;
use crate::transport::start::{Start, schedule_start, take_callbacks_away};
use crate::transport::state::Phase;

/// Who has to do with a new endpoint.
#[derive(Debug)]
pub(crate) struct Correspondents<'py> {
    /// The one address that may be sent to.
    pub(crate) address: Option<Bound<'py, PyAny>>,
    /// A future that is done when the protocol knows of its transport.
    pub(crate) waiter: Option<Bound<'py, PyAny>>,
}

/// Makes a transport and schedules, in asyncio's order: `connection_made`, the start of reading, the waiter's result.
///
/// # Errors
/// What the socket, the protocol's attributes or the loop raise; the socket is the caller's to close then.
pub(crate) fn start<'py>(
    event_loop: &Bound<'py, PyAny>,
    sock: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    correspondents: Correspondents<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let family = family_of(sock)?;
    let extra = extra_info(sock)?;
    let is_connected = extra
        .as_any()
        .get_item(intern!(py, "peername"))?
        .is_truthy()?;
    let endpoint = Endpoint::of_socket(sock)?;
    let fd = endpoint.number();
    let address = correspondents
        .address
        .filter(|address| address.is_truthy().unwrap_or(true));
    let datagrams = Datagrams {
        stats: Arc::clone(Loop::of(event_loop)?.stats()),
        phase: Phase::Starting,
        endpoint,
        family,
        token: None,
        registered: Interest::NONE,
        is_connected,
        address: address.map(Owned::from),
        inbox: VecDeque::new(),
        outbox: Outbox::default(),
        queue: VecDeque::new(),
        queued: 0,
        limits: Limits::default(),
        protocol: Some(protocol.clone().into()),
        is_paused: false,
        protocol_paused: false,
        lost_sends: 0,
        last_count: 0,
        singles: Singles::default(),
        last_peer: None,
        read_context: None,
        write_context: None,
    };
    let transport = DatagramTransport {
        event_loop: event_loop.clone().into(),
        datagrams: AttachedCell::new(datagrams),
    };
    let slf = CLASS.instantiate(py, transport)?;
    let begun = caught(py, || {
        // asyncio's own `get_extra_info` looks here.
        slf.setattr(intern!(py, "_extra"), extra)?;
        let start = Start {
            waiter: correspondents.waiter,
            made: freeze_context(py)?,
            begun: copy_context(py)?,
            begin,
        };
        register(event_loop, &slf, fd)?;
        schedule_start(event_loop, &slf, protocol, start)
    });
    match begun.and_then(|begun| begun) {
        Ok(()) => Ok(slf),
        Err(error) => {
            close::abandon(&slf)?;
            Err(error)
        }
    }
}

fn register(event_loop: &Bound<'_, PyAny>, slf: &Bound<'_, PyAny>, fd: RawFd) -> PyResult<()> {
    let object = Owned::from(slf.clone());
    let token = Loop::of(event_loop)?
        .state()
        .with(|state| state.add_source(fd, object, receive::serve))?;
    DatagramTransport::of(slf)?.with(slf.py(), |datagrams| datagrams.token = Some(token));
    Ok(())
}

/// The families whose addresses we convert, and how long their datagrams can be.
fn family_of(sock: &Bound<'_, PyAny>) -> PyResult<Family> {
    let py = sock.py();
    let family: i32 = sock.getattr(intern!(py, "family"))?.extract()?;
    let kind: i32 = sock.getattr(intern!(py, "type"))?.extract()?;
    let domain = match family {
        libc::AF_INET => Domain::Ipv4,
        libc::AF_INET6 => Domain::Ipv6,
        libc::AF_UNIX => Domain::Unix,
        _ => return Ok(Family::Foreign),
    };
    let longest = if domain != Domain::Unix && matches!(kind, libc::SOCK_DGRAM | libc::SOCK_RAW) {
        limits::LONGEST_IP_DATAGRAM_BYTES
    } else {
        limits::LONGEST_DATAGRAM_BYTES
    };
    Ok(Family::Native { domain, longest })
}

/// What `get_extra_info` knows: the socket, its address and its peer's.
fn extra_info<'py>(sock: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = sock.py();
    let extra = new_dict(py)?;
    extra.set_item(intern!(py, "socket"), transport_socket(sock)?)?;
    for (name, method) in [
        (intern!(py, "sockname"), intern!(py, "getsockname")),
        (intern!(py, "peername"), intern!(py, "getpeername")),
    ] {
        extra.set_item(name, or_none(py, sock.reach0(method))?)?;
    }
    Ok(extra)
}

/// What the kernel does not know is `None`.
fn or_none<'py>(
    py: Python<'py>,
    answer: PyResult<Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match answer {
        Ok(name) => Ok(Some(name)),
        Err(error) if error.is_instance_of::<PyOSError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

fn begin(slf: &Bound<'_, PyAny>, context: Owned) -> PyResult<()> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    let mut context = Some(context);
    let (started, idle) = this.with(py, |datagrams| {
        let started = datagrams.phase == Phase::Starting;
        if started {
            datagrams.phase = Phase::Open;
        }
        let is_idle = !started || datagrams.is_paused;
        let idle = datagrams
            .endpoint
            .fd()
            .filter(|_| is_idle)
            .map(|fd| fd.as_raw_fd());
        if datagrams.read_context.is_none() {
            datagrams.read_context = context.take();
        }
        (started, idle)
    });
    // Only dropped here, with nothing borrowed, if resume_reading() has brought its own.
    drop(context);
    if let Some(fd) = idle {
        take_callbacks_away(&this.event_loop(py), fd)?;
    }
    if started {
        this.update_interest(slf)
    } else {
        Ok(())
    }
}
