//! `create_task` as it mostly is: with the default factory and nothing out of the ordinary.
//!
//! Everything else, a task factory, debug mode, keywords of a newer Python, goes to the method of the same name that
//! is written in Python.

use pyo3::Borrowed;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString, PyTuple, PyType};

use super::Loop;
use super::futures::class_in_c;
use crate::ffi::{
    Arguments, Method, Once, Owned, call_in_full, call_with_names, raw_fastcall, tuple_from,
};

/// `asyncio.tasks`, whose `Task` is looked up at each call, as asyncio's loop does: programs replace it; and the class that
/// is written in C, if there is one.
static TASKS: Once<(Py<PyModule>, Option<Py<PyAny>>)> = Once::new();

/// What a task is made with, but for its coroutine: each with the keyword by which it is given.
static LOOP: Once<Py<PyTuple>> = Once::new();
static LOOP_NAME: Once<Py<PyTuple>> = Once::new();
static LOOP_CONTEXT: Once<Py<PyTuple>> = Once::new();
static LOOP_NAME_CONTEXT: Once<Py<PyTuple>> = Once::new();

/// The keywords that every Python has.
struct Keywords<'a, 'py> {
    name: Option<Borrowed<'a, 'py, PyAny>>,
    context: Option<Borrowed<'a, 'py, PyAny>>,
}

impl<'a, 'py> Keywords<'a, 'py> {
    /// `None` if there are others.
    #[inline]
    fn of(py: Python<'py>, args: &Arguments<'a, 'py>) -> Option<Self> {
        let mut keywords = Self {
            name: None,
            context: None,
        };
        for (keyword, value) in args.named() {
            // None is what asyncio takes for nothing.
            let value = Some(value).filter(|value| !value.is_none());
            if keyword.is(intern!(py, "name")) {
                keywords.name = value;
            } else if keyword.is(intern!(py, "context")) {
                keywords.context = value;
            } else {
                return None;
            }
        }
        Some(keywords)
    }
}

fn create_task(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let this = Loop::of(slf)?;
    let ordinary = this.check_open().is_ok() && !this.debug() && !this.task_factory.is_set();
    let keywords = Keywords::of(py, &args).filter(|_| ordinary);
    let (Some(coro), None, Some(keywords)) = (args.get(0), args.get(1), keywords) else {
        return args
            .hand_on(slf, intern!(py, "_create_any_task"))
            .map(Into::into);
    };
    let (module, native) = TASKS.get_or_try_init(py, || {
        let native = class_in_c(py, intern!(py, "Task"))?;
        let module = py.import(intern!(py, "asyncio.tasks"))?;
        PyResult::Ok((module.unbind(), native))
    })?;
    let class = module.bind(py).getattr(intern!(py, "Task"))?;
    let is_native = native.as_ref().is_some_and(|native| class.is(native));
    let coro = &*coro;
    let task = match (keywords.name, keywords.context) {
        (None, None) => match this.itself_by_name(slf, is_native) {
            Some(named) => call_in_full(&class, &tuple_from(py, [coro.clone()])?, &named),
            None => call_with_names(&class, [coro, slf], names(py, &LOOP, &["loop"])?),
        },
        (Some(name), None) => {
            let names = names(py, &LOOP_NAME, &["loop", "name"])?;
            call_with_names(&class, [coro, slf, &name], names)
        }
        (None, Some(context)) => {
            let names = names(py, &LOOP_CONTEXT, &["loop", "context"])?;
            call_with_names(&class, [coro, slf, &context], names)
        }
        (Some(name), Some(context)) => {
            let names = names(py, &LOOP_NAME_CONTEXT, &["loop", "name", "context"])?;
            call_with_names(&class, [coro, slf, &name, &context], names)
        }
    };
    task.map(Into::into)
}

/// A tuple of these names, made once.
fn names<'a, 'py>(
    py: Python<'py>,
    place: &'a Once<Py<PyTuple>>,
    names: &[&str],
) -> PyResult<&'a Bound<'py, PyTuple>> {
    let names = place.get_or_try_init(py, || {
        let names = names
            .iter()
            .map(|name| PyString::intern(py, name).into_any());
        PyResult::Ok(tuple_from(py, names.collect::<Vec<_>>())?.unbind())
    })?;
    Ok(names.bind(py))
}

const METHOD: Method = Method {
    name: c"create_task",
    doc: c"create_task($self, coro, **kwargs)\n--\n\nRun a coroutine as a task of this loop.",
    kind: raw_fastcall!(create_task),
};

/// Puts the method on a class that has one written in Python, `_create_any_task`.
///
/// # Errors
/// What setting an attribute of a type raises.
pub(super) fn attach(class: &Bound<'_, PyType>) -> PyResult<()> {
    crate::ffi::attach_methods(class, &[METHOD])
}
