//! `StreamReaderProtocol`: from the transport to the reader, and `drain()` with nothing to wait for.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyWeakrefReference};

use super::fields::Fields;
use super::reader;
use super::{CLASSES, classes};
use crate::ffi::{
    Awaitable, Method, Native, NativeClass, Once, Owned, Reach, Step, TypeSlot, Visitor,
    awaitable_slots, call_method, raw_noargs, raw_onename,
};
use crate::original::original;

/// What is done as soon as it is awaited.
#[derive(Debug)]
struct Done;

static CLASS: NativeClass = NativeClass::new();
static DONE: Once<Py<PyAny>> = Once::new();

impl Native for Done {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.Done";
    const SUBCLASSABLE: bool = false;
    const KEPT: usize = 0;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = None;
    const SLOTS: fn() -> Vec<TypeSlot> = awaitable_slots::<Self>;

    fn class() -> &'static NativeClass {
        &CLASS
    }

    fn traverse(&self, _visitor: &mut Visitor) {}

    fn clear(&self, _holder: &Bound<'_, PyAny>) {}
}

impl Awaitable for Done {
    fn name(_slf: &Bound<'_, PyAny>) -> PyResult<&'static str> {
        Ok("FlowControlMixin._drain_helper")
    }

    fn begin(_slf: &Bound<'_, PyAny>) -> PyResult<()> {
        Ok(())
    }

    fn resume(slf: &Bound<'_, PyAny>) -> PyResult<Step> {
        Ok(Step::Done(slf.py().None().into_bound(slf.py()).into()))
    }
}

/// Makes the type and its one object.
///
/// # Errors
/// What making a type raises.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    CLASS.create::<Done>(&py.get_type::<PyAny>())?;
    let done = CLASS.instantiate(py, Done)?.unbind();
    DONE.get_or_init(py, || done);
    Ok(())
}

/// Hands bytes to a protocol.
///
/// # Errors
/// What it raises.
#[inline]
pub(crate) fn deliver(protocol: &Bound<'_, PyAny>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
    if receive(protocol, data)? {
        return Ok(());
    }
    call_method(protocol, intern!(data.py(), "data_received"), [data]).map(drop)
}

/// Hands what came to the reader of a protocol of ours, by whose `data_received` it would come there.
///
/// `false`, with nothing done, if that method must be called: the protocol is another one, or a program has changed it,
/// or its reader.
///
/// # Errors
/// What the method would raise.
#[inline]
fn receive(protocol: &Bound<'_, PyAny>, data: &Bound<'_, PyBytes>) -> PyResult<bool> {
    let py = protocol.py();
    let Some(classes) = CLASSES.get(py) else {
        return Ok(false);
    };
    if !protocol.get_type().is(&classes.own_protocol) || !classes.are_intact(py)? {
        return Ok(false);
    }
    let fields = Fields::of(protocol)?;
    if fields.dict().contains(intern!(py, "data_received"))? {
        return Ok(false);
    }
    let Some(reference) = fields.find_at(attribute!("_stream_reader_wr"))? else {
        return Ok(false);
    };
    let Ok(reference) = reference.cast_exact::<PyWeakrefReference>() else {
        return Ok(false);
    };
    let Some(reader) = reference.upgrade() else {
        return Ok(false);
    };
    if !reader.get_type().is(&classes.own_reader) {
        return Ok(false);
    }
    reader::feed_unless_replaced(&reader, data)
}

/// `data_received`: what came goes to the reader, as long as somebody has it.
fn data_received(slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let classes = classes(py);
    if !classes.protocol.is_intact(py)? {
        let received = original(&classes.own_protocol, slf, intern!(py, "data_received"))?;
        return Ok(received.invoke((data,))?.into());
    }
    let reference = Fields::of(slf)?.get(attribute!("_stream_reader_wr"))?;
    // None once the connection is lost.
    if let Ok(reference) = reference.cast::<PyWeakrefReference>()
        && let Some(reader) = reference.upgrade()
    {
        call_method(&reader, intern!(py, "feed_data"), [data])?;
    }
    Ok(py.None().into_bound(py).into())
}

/// Whether `_drain_helper` of a protocol of ours, which nobody has replaced, would have nothing to wait for.
///
/// # Errors
/// `AttributeError` if somebody has deleted what it looks at.
pub(super) fn may_write(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = protocol.py();
    let classes = classes(py);
    if !protocol.get_type().is(&classes.own_protocol) || !classes.are_intact(py)? {
        return Ok(false);
    }
    let fields = Fields::of(protocol)?;
    Ok(!fields.dict().contains(intern!(py, "_drain_helper"))? && !has_to_wait(&fields)?)
}

fn has_to_wait(fields: &Fields<'_>) -> PyResult<bool> {
    Ok(fields.is_true(attribute!("_paused"))? || fields.is_true(attribute!("_connection_lost"))?)
}

/// `_drain_helper`: done at once, unless the transport has asked for a pause or is gone.
fn drain_helper(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let classes = classes(py);
    if !has_to_wait(&Fields::of(slf)?)?
        && classes.protocol.is_intact(py)?
        && let Some(done) = DONE.get(py)
    {
        return Ok(done.bind(py).clone().into());
    }
    let helper = original(&classes.own_protocol, slf, intern!(py, "_drain_helper"))?;
    Ok(helper.invoke0()?.into())
}

pub(super) const METHODS: [Method; 2] = [
    Method {
        name: c"data_received",
        doc: c"data_received($self, data)\n--\n\nHand what came to the reader.",
        kind: raw_onename!(data_received, "data_received", "data"),
    },
    Method {
        name: c"_drain_helper",
        doc: c"_drain_helper($self, /)\n--\n\nWait until the transport wants to be written to.",
        kind: raw_noargs!(drain_helper),
    },
];
