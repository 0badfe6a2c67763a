//! `StreamReaderProtocol`: from the transport to the reader, and `drain()` with nothing to wait for.

use std::ffi::CStr;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyWeakrefReference;

use super::classes;
use super::fields::Fields;
use crate::ffi::{
    Awaitable, Method, Native, NativeClass, Owned, Reach, Step, TypeSlot, Visitor, awaitable_slots,
    call_method, raw_noargs, raw_onename,
};
use crate::original::original;

/// What is done as soon as it is awaited.
#[derive(Debug)]
struct Done;

static CLASS: NativeClass = NativeClass::new();
static DONE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

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
    fn name(_slf: &Bound<'_, PyAny>) -> &'static str {
        "FlowControlMixin._drain_helper"
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

/// `data_received`: what came goes to the reader, as long as somebody has it.
fn data_received(slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let classes = classes(py);
    if !classes.protocol.is_intact(py)? {
        let received = original(&classes.own_protocol, slf, intern!(py, "data_received"))?;
        return Ok(received.invoke((data,))?.into());
    }
    let reference = Fields::of(slf)?.get(intern!(py, "_stream_reader_wr"))?;
    // None once the connection is lost.
    if let Ok(reference) = reference.cast::<PyWeakrefReference>()
        && let Some(reader) = reference.upgrade()
    {
        call_method(&reader, intern!(py, "feed_data"), [data])?;
    }
    Ok(py.None().into_bound(py).into())
}

/// `_drain_helper`: done at once, unless the transport has asked for a pause or is gone.
fn drain_helper(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let classes = classes(py);
    let fields = Fields::of(slf)?;
    let has_to_wait = fields.is_true(intern!(py, "_paused"))?
        || fields.is_true(intern!(py, "_connection_lost"))?;
    if !has_to_wait
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
