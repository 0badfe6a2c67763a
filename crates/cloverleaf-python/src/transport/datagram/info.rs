//! What an endpoint tells about itself, and the limits of what may wait.
//!
//! What `get_extra_info` knows is in `_extra`, as on asyncio.

use pyo3::Borrowed;
use pyo3::prelude::*;

use super::{DatagramTransport, outbox};
use crate::ffi::{
    Arguments, Method, Owned, Reach, int_from, raw_fastcall, raw_noargs, raw_onename,
};
use crate::transport::flow::{self, Turn};
use crate::transport::info::{name_and_default, none};

/// Tells the protocol to pause if too much waits and it does not know yet.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn pause_if_full(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    let must_pause = this.with(py, |datagrams| {
        let must_pause = !datagrams.protocol_paused && datagrams.queued > datagrams.limits.high;
        datagrams.protocol_paused |= must_pause;
        must_pause
    });
    if must_pause {
        tell(slf, this, Turn::Pause)
    } else {
        Ok(())
    }
}

/// Tells the protocol to go on if little enough waits and it has paused.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn resume_if_drained(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    let may_resume = this.with(py, |datagrams| {
        let may_resume = datagrams.protocol_paused && datagrams.queued <= datagrams.limits.low;
        datagrams.protocol_paused &= !may_resume;
        may_resume
    });
    if may_resume {
        tell(slf, this, Turn::Resume)
    } else {
        Ok(())
    }
}

fn tell(slf: &Bound<'_, PyAny>, this: &DatagramTransport, turn: Turn) -> PyResult<()> {
    let py = slf.py();
    match this.protocol(py) {
        Some(protocol) => flow::tell(slf, &this.event_loop(py), &protocol, turn),
        None => Ok(()),
    }
}

fn set_write_buffer_limits(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let (low, high) = flow::marks_of(args, "set_write_buffer_limits", flow::HIGH_WATER_BYTES)?;
    let limits = flow::Limits { low, high };
    let this = DatagramTransport::of(slf)?;
    outbox::flush(slf, this)?;
    this.with(py, |datagrams| datagrams.limits = limits);
    pause_if_full(slf)?;
    Ok(none(py))
}

fn get_write_buffer_limits(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let limits = DatagramTransport::of(slf)?.with(py, |datagrams| datagrams.limits);
    Ok((limits.low, limits.high).into_pyobject(py)?.into())
}

fn get_write_buffer_size(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    outbox::flush(slf, this)?;
    let size = this.with(py, |datagrams| datagrams.queued);
    int_from(py, size as u64).map(Into::into)
}

fn get_extra_info(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let (name, default) = name_and_default(&args)?;
    if name.eq(intern!(py, "socket"))? {
        // From now on the program may change how each datagram is sent.
        let this = DatagramTransport::of(slf)?;
        this.with(py, |datagrams| datagrams.outbox.forbid());
        outbox::flush(slf, this)?;
    }
    let default = default.map_or_else(|| py.None().into_bound(py), Borrowed::to_owned);
    let extra = slf.getattr(intern!(py, "_extra"))?;
    Ok(extra.reach(intern!(py, "get"), (name, default))?.into())
}

fn set_protocol(slf: &Bound<'_, PyAny>, protocol: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let new = Owned::from(protocol.clone());
    let old = DatagramTransport::of(slf)?.with(py, |datagrams| datagrams.protocol.replace(new));
    drop(old);
    Ok(none(py))
}

fn get_protocol(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    Ok(DatagramTransport::of(slf)?
        .protocol(py)
        .map_or_else(|| none(py), Into::into))
}

fn shown_descriptor(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let shown = DatagramTransport::of(slf)?.with(py, |datagrams| datagrams.endpoint.shown());
    Ok(shown.into_pyobject(py)?.into())
}

fn get_loop(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(DatagramTransport::of(slf)?.event_loop.clone_ref(slf.py()))
}

pub(super) const METHODS: [Method; 8] = [
    Method {
        name: c"get_extra_info",
        doc: c"get_extra_info($self, name, default=None)\n--\n\nWhat is known under this name: 'socket', 'sockname', \
             'peername'; else the default.",
        kind: raw_fastcall!(get_extra_info),
    },
    Method {
        name: c"set_write_buffer_limits",
        doc: c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\nSet how many bytes may wait before the \
             protocol is paused, and at how many it resumes; by default 64 KiB and a quarter of high.",
        kind: raw_fastcall!(set_write_buffer_limits),
    },
    Method {
        name: c"get_write_buffer_limits",
        doc: c"get_write_buffer_limits($self, /)\n--\n\nThe low and the high mark, in bytes.",
        kind: raw_noargs!(get_write_buffer_limits),
    },
    Method {
        name: c"get_write_buffer_size",
        doc: c"get_write_buffer_size($self, /)\n--\n\nHow many bytes wait to be sent; from Python 3.13 on, a datagram's \
             header counts as well.",
        kind: raw_noargs!(get_write_buffer_size),
    },
    Method {
        name: c"set_protocol",
        doc: c"set_protocol($self, protocol)\n--\n\nHand everything that comes from now on to this protocol.",
        kind: raw_onename!(set_protocol, "set_protocol", "protocol"),
    },
    Method {
        name: c"get_protocol",
        doc: c"get_protocol($self, /)\n--\n\nThe protocol, or None once the endpoint is closed.",
        kind: raw_noargs!(get_protocol),
    },
    Method {
        name: c"_shown_descriptor",
        doc: c"_shown_descriptor($self, /)\n--\n\nThe number that the descriptor has or had, and whether it is closed.",
        kind: raw_noargs!(shown_descriptor),
    },
    Method {
        name: c"_get_loop",
        doc: c"_get_loop($self, /)\n--\n\nThe loop of this transport.",
        kind: raw_noargs!(get_loop),
    },
];
