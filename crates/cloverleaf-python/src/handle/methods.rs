//! The face of handles in Python: asyncio's methods, and its private attributes to be read.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyType};

use super::{AnyHandle, HANDLE, Handle, TIMER_HANDLE, TimerHandle, cancel, run};
use crate::ffi::{Method, Owned, attach_methods, attach_property, float_from, raw_noargs};

fn none(py: Python<'_>) -> Owned {
    py.None().into_bound(py).into()
}

fn or_none(py: Python<'_>, object: Option<Owned>) -> Owned {
    object.unwrap_or_else(|| none(py))
}

fn boolean(py: Python<'_>, value: bool) -> Owned {
    PyBool::new(py, value).to_owned().into()
}

fn py_cancel(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    cancel(slf)?;
    Ok(none(slf.py()))
}

fn py_cancelled(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let handle = AnyHandle::required(slf)?;
    handle.parts().rest.guard.wait_for_end(slf.py());
    Ok(boolean(slf.py(), handle.is_cancelled()))
}

fn get_cancelled(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(boolean(slf.py(), AnyHandle::required(slf)?.is_cancelled()))
}

fn py_get_context(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let context = AnyHandle::required(slf)?.parts().context(slf)?;
    Ok(or_none(slf.py(), context))
}

fn py_run(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let handle = AnyHandle::required(slf)?;
    if let Err(error) = run(slf, handle) {
        let event_loop = get_loop(slf)?.into_bound(py);
        crate::report::callback_failed(&event_loop, slf, error)?;
    }
    Ok(none(py))
}

fn py_when(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    match AnyHandle::required(slf)? {
        AnyHandle::Timer(timer) => match timer.given.get(slf) {
            Some(given) => Ok(given),
            None => float_from(slf.py(), timer.when).map(Into::into),
        },
        AnyHandle::Plain(_) => Err(pyo3::exceptions::PyTypeError::new_err(
            "a timer handle was expected",
        )),
    }
}

fn get_callback(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(or_none(
        slf.py(),
        AnyHandle::required(slf)?.parts().held.callback.get(slf),
    ))
}

fn get_args(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let args = AnyHandle::required(slf)?.parts().args_tuple(slf)?;
    Ok(args.map_or_else(|| none(slf.py()), Into::into))
}

fn get_loop(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(or_none(
        slf.py(),
        AnyHandle::required(slf)?.parts().held.event_loop.get(slf),
    ))
}

fn get_source_traceback(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(or_none(
        slf.py(),
        AnyHandle::required(slf)?
            .parts()
            .held
            .source_traceback
            .get(slf),
    ))
}

fn get_repr(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(or_none(
        slf.py(),
        AnyHandle::required(slf)?.parts().held.repr.get(slf),
    ))
}

fn get_scheduled(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let scheduled = match AnyHandle::required(slf)? {
        AnyHandle::Timer(timer) => timer.scheduled.load(Ordering::Relaxed),
        AnyHandle::Plain(_) => false,
    };
    Ok(boolean(slf.py(), scheduled))
}

const METHODS: [Method; 4] = [
    Method {
        name: c"cancel",
        doc: c"cancel($self, /)\n--\n\nCancel the callback, and let go of it and its arguments at once.",
        kind: raw_noargs!(py_cancel),
    },
    Method {
        name: c"cancelled",
        doc: c"cancelled($self, /)\n--\n\nWhether the callback was cancelled.",
        kind: raw_noargs!(py_cancelled),
    },
    Method {
        name: c"get_context",
        doc: c"get_context($self, /)\n--\n\nThe contextvars.Context in which the callback runs.",
        kind: raw_noargs!(py_get_context),
    },
    Method {
        name: c"_run",
        doc: c"_run($self, /)\n--\n\nRun the callback now; its exception goes to the loop's handler.",
        kind: raw_noargs!(py_run),
    },
];

const WHEN: Method = Method {
    name: c"when",
    doc: c"when($self, /)\n--\n\nWhen the callback is due, in seconds on the clock of loop.time().",
    kind: raw_noargs!(py_when),
};

fn describe(class: &Bound<'_, PyType>) -> PyResult<()> {
    attach_methods(class, &METHODS)?;
    attach_property(class, c"_callback", get_callback)?;
    attach_property(class, c"_args", get_args)?;
    attach_property(class, c"_context", py_get_context)?;
    attach_property(class, c"_loop", get_loop)?;
    attach_property(class, c"_cancelled", get_cancelled)?;
    attach_property(class, c"_source_traceback", get_source_traceback)?;
    attach_property(class, c"_repr", get_repr)
}

/// Makes both types and adds them to the module.
///
/// # Errors
/// What importing asyncio or making a type raises.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let asyncio = py.import(intern!(py, "asyncio"))?;
    let base = asyncio
        .getattr(intern!(py, "Handle"))?
        .cast_into::<PyType>()?;
    let handle = HANDLE.create::<Handle>(&base)?;
    describe(&handle)?;
    let base = asyncio
        .getattr(intern!(py, "TimerHandle"))?
        .cast_into::<PyType>()?;
    let timer = TIMER_HANDLE.create::<TimerHandle>(&base)?;
    describe(&timer)?;
    attach_methods(&timer, &[WHEN])?;
    attach_property(&timer, c"_when", py_when)?;
    attach_property(&timer, c"_scheduled", get_scheduled)?;
    module.add("Handle", handle)?;
    module.add("TimerHandle", timer)
}
