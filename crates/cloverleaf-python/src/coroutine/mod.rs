//! What makes a native object a coroutine: `await`, tasks, whoever drives it by hand, debuggers, and the warning if nobody
//! awaits it.
//!
//! A type says how far it has come and takes the steps that are its own. When it may be resumed, what it says if it may
//! not, and everything about a coroutine of Python's to which it has handed itself on, is here and alike for all.

mod thrown;

use pyo3::exceptions::{
    PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString, PyType};

use crate::ffi::{
    Arguments, Awaitable, Driven, Native, Owned, Reach, Step, attach_methods, attach_property,
    driven_methods, resume_other,
};
use thrown::Thrown;

/// How far a coroutine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nobody has awaited it.
    Created,
    /// It is being resumed.
    Running,
    /// It waits.
    Suspended,
    /// It has its result or its exception.
    Finished,
}

impl Progress {
    /// As `inspect` calls it.
    const fn name(self) -> &'static str {
        match self {
            Self::Created => "CORO_CREATED",
            Self::Running => "CORO_RUNNING",
            Self::Suspended => "CORO_SUSPENDED",
            Self::Finished => "CORO_CLOSED",
        }
    }

    /// Why a coroutine that runs, or is over, is not resumed.
    #[cold]
    pub(crate) fn refusal(self) -> PyErr {
        match self {
            Self::Finished => PyRuntimeError::new_err("cannot reuse already awaited coroutine"),
            Self::Created | Self::Running | Self::Suspended => {
                PyValueError::new_err("coroutine already executing")
            }
        }
    }
}

/// Whose turn it is when a coroutine is resumed.
#[derive(Debug)]
pub(crate) enum Turn<F> {
    /// Its own, from here on.
    Own(F),
    /// That of a coroutine of Python's, to which it has handed itself on.
    Handed(Owned),
}

/// A native object that is a coroutine.
pub(crate) trait Coroutine: Native {
    /// From where it goes on.
    type From;

    /// The name of the coroutine that it stands for, with its class.
    fn name(&self) -> &'static str;

    /// How far it has come.
    fn progress(&self, py: Python<'_>) -> Progress;

    /// What it waits for, if it does.
    ///
    /// # Errors
    /// What showing it raises.
    fn awaited(&self, py: Python<'_>) -> PyResult<Option<Owned>>;

    /// Takes it over: it is running from now on.
    ///
    /// # Errors
    /// [`Progress::refusal`].
    fn run(&self, py: Python<'_>) -> PyResult<Turn<Self::From>>;

    /// Takes a step of its own. Before one that waits it has noted for what; the end is noted for it.
    ///
    /// # Errors
    /// What ends it.
    fn step(&self, py: Python<'_>, from: Self::From) -> PyResult<Step>;

    /// Notes that a coroutine of Python's goes on with it.
    fn note_handed(&self, py: Python<'_>, coroutine: Owned);

    /// Notes that it is over.
    fn note_finished(&self, py: Python<'_>);

    /// Undoes what waiting has done, as it goes no further.
    ///
    /// # Errors
    /// What undoing it raises.
    fn give_up(&self, py: Python<'_>, from: Self::From) -> PyResult<()>;

    /// Ends it by an exception that was thrown; the result if that is one all the same.
    ///
    /// # Errors
    /// The exception; those of [`Coroutine::give_up`].
    fn end_by(&self, py: Python<'_>, from: Self::From, error: PyErr) -> PyResult<Owned> {
        self.give_up(py, from)?;
        Err(error)
    }
}

/// The coroutine in an object.
///
/// # Errors
/// `TypeError` if there is none of this type.
#[inline]
fn of<'a, T: Coroutine>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a T> {
    let found = T::class().get(object);
    found.ok_or_else(|| PyTypeError::new_err("another type of coroutine was expected"))
}

/// Hands a coroutine that runs on to one of Python's, which takes the first step.
///
/// # Errors
/// What ends it.
pub(crate) fn hand_on<T: Coroutine>(this: &T, coroutine: Bound<'_, PyAny>) -> PyResult<Step> {
    let py = coroutine.py();
    let step = resume_other(&coroutine)?;
    if matches!(step, Step::Waits(_)) {
        this.note_handed(py, coroutine.into());
    }
    Ok(step)
}

impl<T: Coroutine> Awaitable for T {
    fn name(slf: &Bound<'_, PyAny>) -> PyResult<&'static str> {
        of::<T>(slf).map(T::name)
    }

    fn begin(slf: &Bound<'_, PyAny>) -> PyResult<()> {
        match of::<T>(slf)?.progress(slf.py()) {
            Progress::Running | Progress::Suspended => Err(PyRuntimeError::new_err(
                "coroutine is being awaited already",
            )),
            // One that is over says so when it is resumed.
            Progress::Created | Progress::Finished => Ok(()),
        }
    }

    #[inline]
    fn resume(slf: &Bound<'_, PyAny>) -> PyResult<Step> {
        let py = slf.py();
        let this = of::<T>(slf)?;
        let stepped = match this.run(py)? {
            Turn::Own(from) => this.step(py, from),
            Turn::Handed(coroutine) => hand_on(this, coroutine.into_bound(py)),
        };
        if !matches!(stepped, Ok(Step::Waits(_))) {
            this.note_finished(py);
        }
        stepped
    }
}

impl<T: Coroutine> Driven for T {
    fn send(slf: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Owned> {
        // The value is of no use to a coroutine that waits for futures.
        if !value.is_none() && of::<T>(slf)?.progress(slf.py()) == Progress::Created {
            return Err(PyTypeError::new_err(
                "can't send non-None value to a just-started coroutine",
            ));
        }
        match T::resume(slf)? {
            Step::Waits(future) => Ok(future),
            Step::Done(result) => Err(stopped_with(result, slf.py())),
        }
    }

    fn throw(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
        let py = slf.py();
        let thrown = Thrown::of(py, &args)?;
        let this = of::<T>(slf)?;
        match this.run(py)? {
            Turn::Own(from) => {
                let ended = this.end_by(py, from, thrown.exception());
                this.note_finished(py);
                Err(stopped_with(ended?, py))
            }
            Turn::Handed(coroutine) => {
                let coroutine = coroutine.into_bound(py);
                let awaited = thrown.throw_into(&coroutine);
                if awaited.is_ok() {
                    this.note_handed(py, coroutine.into());
                } else {
                    this.note_finished(py);
                }
                awaited.map(Into::into)
            }
        }
    }

    fn close(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
        let py = slf.py();
        let this = of::<T>(slf)?;
        if this.progress(py) != Progress::Finished {
            let closed = match this.run(py)? {
                Turn::Own(from) => this.give_up(py, from),
                Turn::Handed(coroutine) => {
                    let coroutine = coroutine.into_bound(py);
                    coroutine.reach0(intern!(py, "close")).map(drop)
                }
            };
            this.note_finished(py);
            closed?;
        }
        Ok(py.None().into_bound(py).into())
    }
}

fn stopped_with(result: Owned, py: Python<'_>) -> PyErr {
    PyStopIteration::new_err((result.into_bound(py).unbind(),))
}

/// `cr_await`
fn awaited<T: Coroutine>(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let awaited = of::<T>(slf)?.awaited(slf.py())?;
    awaited.map_or_else(|| nothing(slf), Ok)
}

/// `cr_running`
fn is_running<T: Coroutine>(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    is_at::<T>(slf, Progress::Running)
}

/// `cr_suspended`
fn is_suspended<T: Coroutine>(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    is_at::<T>(slf, Progress::Suspended)
}

fn is_at<T: Coroutine>(slf: &Bound<'_, PyAny>, progress: Progress) -> PyResult<Owned> {
    let is_there = of::<T>(slf)?.progress(slf.py()) == progress;
    Ok(PyBool::new(slf.py(), is_there).to_owned().into())
}

/// `cr_state`, which `inspect.getcoroutinestate` asks for from Python 3.15 on.
fn state<T: Coroutine>(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let name = of::<T>(slf)?.progress(slf.py()).name();
    Ok(PyString::intern(slf.py(), name).into())
}

/// What a coroutine without a frame of Python has none of.
#[expect(clippy::unnecessary_wraps, reason = "the signature of every property")]
fn nothing(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(slf.py().None().into_bound(slf.py()).into())
}

/// Makes the type of such coroutines.
///
/// # Errors
/// What making a type raises.
pub(crate) fn prepare<T: Coroutine>(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    let class = T::class().create::<T>(&py.get_type::<PyAny>())?;
    attach_methods(&class, &driven_methods::<T>())?;
    attach_property(&class, c"cr_await", awaited::<T>)?;
    attach_property(&class, c"cr_running", is_running::<T>)?;
    attach_property(&class, c"cr_suspended", is_suspended::<T>)?;
    attach_property(&class, c"cr_state", state::<T>)?;
    for name in [c"cr_frame", c"cr_code", c"cr_origin"] {
        attach_property(&class, name, nothing)?;
    }
    Ok(class)
}

/// Says, when a coroutine is dropped that has come so far, that nobody has awaited it, if so: what its `Drop` calls.
#[inline]
pub(crate) fn dropped<T: Coroutine>(this: &T, progress: Progress) {
    if progress == Progress::Created {
        Python::attach(|py| warn_unawaited(py, this.name()));
    }
}

#[cold]
fn warn_unawaited(py: Python<'_>, name: &str) {
    // An exception on its way through the code that dropped the object must arrive there unharmed.
    let raised = PyErr::take(py);
    let text = format!("coroutine '{name}' was never awaited");
    let category = py.get_type::<PyRuntimeWarning>();
    let warned = std::ffi::CString::new(text)
        .map_err(PyErr::from)
        .and_then(|text| PyErr::warn(py, &category, &text, 1));
    if let Err(error) = warned {
        error.write_unraisable(py, None);
    }
    if let Some(raised) = raised {
        raised.restore(py);
    }
}
