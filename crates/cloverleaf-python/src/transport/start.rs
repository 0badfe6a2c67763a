//! How a transport begins: registered, then in asyncio's order `connection_made`, reading, and the waiter's result.

use std::os::fd::{AsRawFd, RawFd};

use pyo3::prelude::*;

use super::state::Phase;
use super::stream::StreamTransport;
use super::{close, read};
use crate::clients::Clients;
use crate::event_loop::Loop;
use crate::ffi::{BareCall, CallContext, Owned, caught};
use crate::job::Job;
use crate::{handle, streams};

/// Who else has to do with a new transport.
#[derive(Debug)]
pub(crate) struct Company<'py> {
    /// A future that is done when the protocol knows of its connection.
    pub(crate) waiter: Option<Bound<'py, PyAny>>,
    /// What `get_extra_info` knows beside the socket's own addresses.
    pub(crate) extra: Option<Bound<'py, PyAny>>,
    /// The clients of the server that accepted the connection.
    pub(crate) server: Option<Bound<'py, Clients>>,
    /// The connection's own context, from Python 3.15 on.
    pub(crate) context: Option<Owned>,
}

/// How a transport starts.
pub(super) struct Start<'py> {
    /// A future that is done in the end.
    pub(super) waiter: Option<Bound<'py, PyAny>>,
    /// The context of `connection_made`.
    pub(super) made: CallContext,
    /// The context for `begin`.
    pub(super) begun: Owned,
    /// Begins to read, or whatever it is that the transport does.
    pub(super) begin: fn(&Bound<'_, PyAny>, Owned) -> PyResult<()>,
}

/// Registers a transport and schedules its start.
///
/// # Errors
/// What the protocol's attributes, the server or the loop raise; nothing of the transport is left in the loop then.
pub(super) fn begin<'py>(
    event_loop: &Bound<'py, PyAny>,
    slf: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    company: Company<'py>,
) -> PyResult<()> {
    let begin = || try_to_begin(event_loop, slf, protocol, company);
    let begun = caught(slf.py(), begin).and_then(|begun| begun);
    if begun.is_err() {
        close::abandon(slf)?;
    }
    begun
}

fn try_to_begin<'py>(
    event_loop: &Bound<'py, PyAny>,
    slf: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    company: Company<'py>,
) -> PyResult<()> {
    register(event_loop, slf)?;
    let py = event_loop.py();
    let transport = StreamTransport::of(slf)?;
    if let Some(server) = company.server {
        let place = server.get().add(slf)?;
        transport.with(|stream| {
            stream.place = place;
            stream.server = Some(server.into());
        });
    }
    let start = Start {
        waiter: company.waiter,
        made: transport.context_for_call(py)?,
        begun: transport.context(py)?,
        begin: begin_reading,
    };
    schedule_start(event_loop, slf, protocol, start)
}

fn register(event_loop: &Bound<'_, PyAny>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = Loop::of(event_loop)?;
    let object = Owned::from(slf.clone());
    let transport = StreamTransport::of(slf)?;
    let (fd, place) = transport.with(|stream| (stream.endpoint.registered_number(), stream.token));
    if let Some(token) = place {
        let before = this
            .state()
            .with(|state| state.replace_source(token, object, read::serve))?;
        drop(before);
        return Ok(());
    }
    let token = this
        .state()
        .with(|state| state.add_source(fd, object, read::serve))?;
    transport.with(|stream| stream.token = Some(token));
    Ok(())
}

/// Schedules, in asyncio's order: `connection_made`, `begin` with its context, the waiter's result.
///
/// # Errors
/// What the protocol's attributes or the loop raise.
pub(super) fn schedule_start<'py>(
    event_loop: &Bound<'py, PyAny>,
    slf: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    start: Start<'py>,
) -> PyResult<()> {
    let py = event_loop.py();
    let this = Loop::of(event_loop)?;
    let made = protocol.getattr(intern!(py, "connection_made"))?;
    let made = BareCall {
        callback: made.into(),
        arg: Some(slf.clone().into()),
        context: start.made,
    };
    this.push(if this.debug() {
        Job::Callback(handle::new_known_handle(event_loop, made)?.into())
    } else {
        // Nobody has the handle that asyncio makes, until somebody looks on.
        Job::Call(made)
    })?;
    let slf = slf.clone().unbind();
    let waiter = start.waiter.map(Bound::unbind);
    let (begin, context) = (start.begin, start.begun);
    this.push_call((slf, waiter, context), move |py, (slf, waiter, context)| {
        let slf = slf.into_bound(py);
        let begun = begin(&slf, context);
        // Also if that has failed, as on asyncio: whoever waits would wait for ever.
        let woken = waiter.map_or(Ok(()), |waiter| streams::wake(waiter.bind(py)));
        begun.and(woken)
    })
}

/// Takes a program's callbacks away from a transport that does not tell the kernel of itself yet, which would find them.
///
/// # Errors
/// What cancelling a handle raises in debug mode.
pub(super) fn take_callbacks_away(event_loop: &Bound<'_, PyAny>, fd: RawFd) -> PyResult<()> {
    Loop::take_callbacks_away(event_loop.cast::<Loop>()?, fd).map(drop)
}

fn begin_reading(slf: &Bound<'_, PyAny>, context: Owned) -> PyResult<()> {
    let this = StreamTransport::of(slf)?;
    let mut context = Some(context);
    let (started, idle) = this.with(|stream| {
        let started = stream.phase == Phase::Starting;
        if started {
            stream.phase = Phase::Open;
        }
        let is_idle = !started || stream.is_paused;
        let idle = stream
            .endpoint
            .fd()
            .filter(|_| is_idle)
            .map(|fd| fd.as_raw_fd());
        if stream.read_context.is_none() {
            stream.read_context = context.take();
        }
        (started, idle)
    });
    // Only dropped here, with nothing borrowed, if resume_reading() has brought its own.
    drop(context);
    let taken = match idle {
        Some(fd) => take_callbacks_away(&this.event_loop(slf.py()), fd),
        None => Ok(()),
    };
    if !started {
        return taken;
    }
    match taken.and_then(|()| this.update_interest(slf)) {
        Ok(()) => Ok(()),
        Err(error) => close::fatal_error(slf, error, "Fatal error on transport"),
    }
}
