//! Back-pressure: high and low water, and the protocol's `pause_writing` and `resume_writing`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyInt;
use pyo3::{Borrowed, PyTypeInfo};

use super::held;
use super::stream::StreamTransport;
use crate::ffi::{Arguments, Method, Owned, Reach, int_from, raw_fastcall, raw_noargs};
use crate::report;

/// asyncio's default high-water mark.
pub(super) const HIGH_WATER_BYTES: usize = 64 * 1024;

/// How many bytes may wait: the protocol pauses above `high`, and resumes at `low` and below.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) low: usize,
    pub(super) high: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            low: HIGH_WATER_BYTES / 4,
            high: HIGH_WATER_BYTES,
        }
    }
}

/// Tells the protocol to pause if too much waits and it does not know yet.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn pause_if_full(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let must_pause = StreamTransport::of(slf)?.with(|stream| {
        let must_pause = !stream.protocol_paused && stream.queue.len() > stream.limits.high;
        stream.protocol_paused |= must_pause;
        must_pause
    });
    if must_pause {
        tell_protocol(slf, Turn::Pause)
    } else {
        Ok(())
    }
}

/// Tells the protocol to go on if little enough waits and it has paused.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn resume_if_drained(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let may_resume = StreamTransport::of(slf)?.with(|stream| {
        let may_resume = stream.protocol_paused && stream.queue.len() <= stream.limits.low;
        stream.protocol_paused &= !may_resume;
        may_resume
    });
    if may_resume {
        tell_protocol(slf, Turn::Resume)
    } else {
        Ok(())
    }
}

/// What a protocol is told.
#[derive(Clone, Copy)]
pub(crate) enum Turn {
    /// Too much waits.
    Pause,
    /// Little enough waits.
    Resume,
}

fn tell_protocol(slf: &Bound<'_, PyAny>, turn: Turn) -> PyResult<()> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    match this.protocol(py) {
        Some(protocol) => tell(slf, &this.event_loop(py), &protocol, turn),
        None => Ok(()),
    }
}

/// Calls `pause_writing` or `resume_writing`, and reports what it raises.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[cold]
pub(crate) fn tell(
    slf: &Bound<'_, PyAny>,
    event_loop: &Bound<'_, PyAny>,
    protocol: &Bound<'_, PyAny>,
    turn: Turn,
) -> PyResult<()> {
    let py = slf.py();
    let (name, message) = match turn {
        Turn::Pause => (
            intern!(py, "pause_writing"),
            "protocol.pause_writing() failed",
        ),
        Turn::Resume => (
            intern!(py, "resume_writing"),
            "protocol.resume_writing() failed",
        ),
    };
    match protocol.reach0(name) {
        Ok(_) => Ok(()),
        Err(error) => report::failed(
            event_loop,
            message,
            error,
            &[("transport", slf), ("protocol", protocol)],
        ),
    }
}

/// Whether the protocol was told to pause and has not been told to resume.
///
/// # Errors
/// `TypeError` if this is no transport.
pub(super) fn is_protocol_paused(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let is_paused = StreamTransport::of(slf)?.with(|stream| stream.protocol_paused);
    Ok(super::info::boolean(slf.py(), is_paused))
}

/// A mark as it mostly is; `Err` for any other object that can be compared with numbers.
fn mark<'a, 'py>(
    value: Option<&'a Bound<'py, PyAny>>,
) -> Result<Option<i64>, &'a Bound<'py, PyAny>> {
    value
        .map(|value| match value.cast_exact::<PyInt>() {
            Ok(number) => number.extract().map_err(|_: PyErr| value),
            Err(_) => Err(value),
        })
        .transpose()
}

/// Marks that are no numbers of a machine, by asyncio's own arithmetic.
///
/// # Errors
/// What the objects raise, and `ValueError` unless high >= low >= 0.
#[cold]
fn unusual_marks<'py>(
    high: Option<Bound<'py, PyAny>>,
    low: Option<Bound<'py, PyAny>>,
) -> PyResult<(usize, usize)> {
    let (high, low) = match (high, low) {
        (Some(high), Some(low)) => (high, low),
        (Some(high), None) => {
            let low = high.floor_div(4)?;
            (high, low)
        }
        (None, Some(low)) => (PyInt::new(low.py(), 4).mul(&low)?, low),
        (None, None) => unreachable!("invariant: one of them is unusual"),
    };
    if high.ge(&low)? && low.ge(0)? {
        return Ok((bytes(&low)?, bytes(&high)?));
    }
    Err(PyValueError::new_err(format!(
        "high ({}) must be >= low ({}) must be >= 0",
        high.repr()?,
        low.repr()?
    )))
}

/// How many whole bytes a number is, or as many as there can be.
fn bytes(number: &Bound<'_, PyAny>) -> PyResult<usize> {
    if let Ok(count) = number.extract() {
        return Ok(count);
    }
    // Before the division: what is infinite has no whole part.
    if number.ge(usize::MAX)? {
        return Ok(usize::MAX);
    }
    let whole = number.floor_div(1)?;
    PyInt::type_object(number.py()).invoke((whole,))?.extract()
}

/// The low and the high mark that the arguments of a method like `set_write_buffer_limits` give.
///
/// # Errors
/// `TypeError` for other arguments, `ValueError` unless high >= low >= 0; what unusual numbers raise.
pub(crate) fn marks_of(
    args: Arguments<'_, '_>,
    method: &str,
    default_high: usize,
) -> PyResult<(usize, usize)> {
    let [high, low] = args
        .bind(method, ["high", "low"], 0)?
        .map(|mark| mark.filter(|mark| !mark.is_none()));
    let (Ok(high), Ok(low)) = (mark(high.as_deref()), mark(low.as_deref())) else {
        let [high, low] = [high, low].map(|mark| mark.map(Borrowed::to_owned));
        return unusual_marks(high, low);
    };
    let default_high = i64::try_from(default_high).unwrap_or(i64::MAX);
    let high = high
        .or_else(|| low.map(|low| low.saturating_mul(4)))
        .unwrap_or(default_high);
    let low = low.unwrap_or_else(|| high.div_euclid(4));
    match (usize::try_from(high), usize::try_from(low)) {
        (Ok(high), Ok(low)) if high >= low => Ok((low, high)),
        _ => Err(PyValueError::new_err(format!(
            "high ({high}) must be >= low ({low}) must be >= 0"
        ))),
    }
}

fn set_write_buffer_limits(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let (low, high) = marks_of(args, "set_write_buffer_limits", HIGH_WATER_BYTES)?;
    let this = StreamTransport::of(slf)?;
    held::flush(slf, this)?;
    this.with(|stream| stream.limits = Limits { low, high });
    pause_if_full(slf)?;
    Ok(super::info::none(slf.py()))
}

fn get_write_buffer_limits(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let limits = StreamTransport::of(slf)?.with(|stream| stream.limits);
    Ok((limits.low, limits.high).into_pyobject(slf.py())?.into())
}

fn get_write_buffer_size(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = StreamTransport::of(slf)?;
    held::flush(slf, this)?;
    let size = this.with(|stream| stream.queue.len());
    int_from(slf.py(), size as u64).map(Into::into)
}

pub(super) const METHODS: [Method; 3] = [
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
        doc: c"get_write_buffer_size($self, /)\n--\n\nHow many bytes wait to be sent.",
        kind: raw_noargs!(get_write_buffer_size),
    },
];
