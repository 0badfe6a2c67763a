//! The arguments that a method is called with, as the interpreter hands them over: by place and by name.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyTuple};
use pyo3::{Borrowed, ffi};

use super::guarded;
use super::once::Once;

/// The arguments of a call that takes any: positional ones, then those with names.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a, 'py> {
    pub(super) values: &'a [*mut ffi::PyObject],
    pub(super) positional: usize,
    pub(super) names: *mut ffi::PyObject,
    pub(super) py: Python<'py>,
}

impl<'a, 'py> Arguments<'a, 'py> {
    /// A positional argument.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
        self.values[..self.positional]
            .get(index)
            .map(|pointer| self.borrow(*pointer))
    }

    /// Whether no argument was given by name.
    #[inline]
    pub(crate) const fn are_positional(&self) -> bool {
        self.values.len() == self.positional
    }

    /// The one argument that was given by name, if it is this name.
    ///
    /// Names in code are interned, those of C code need not be: that of asyncio's own tasks and futures is not. The
    /// first tuple with such a name is remembered in `known`, for ever, and told by its address.
    #[inline]
    pub(crate) fn only_named(
        &self,
        name: &Bound<'py, PyString>,
        known: &Once<Py<PyTuple>>,
    ) -> Option<Borrowed<'a, 'py, PyAny>> {
        let value = match &self.values[self.positional..] {
            [value] => self.borrow(*value),
            _ => return None,
        };
        let is_known = |names: &Py<PyTuple>| names.as_ptr() == self.names;
        let (given, _) = self.named().next()?;
        if given.is(name) || known.get(self.py).is_some_and(is_known) {
            return Some(value);
        }
        self.is_named(&given, name, known).then_some(value)
    }

    #[cold]
    fn is_named(
        &self,
        given: &Bound<'py, PyString>,
        name: &Bound<'py, PyString>,
        known: &Once<Py<PyTuple>>,
    ) -> bool {
        let is_it = given.as_any().eq(name).unwrap_or(false);
        // SAFETY: there is a name, so this is the interpreter's tuple of names.
        let names = unsafe { Borrowed::from_ptr(self.py, self.names) };
        if is_it && let Ok(names) = names.cast::<PyTuple>() {
            known.get_or_init(self.py, || names.to_owned().unbind());
        }
        is_it
    }

    /// Calls a method of an object with these very arguments.
    ///
    /// # Errors
    /// What it raises, and `AttributeError` if there is none.
    #[cold]
    pub(crate) fn hand_on(
        &self,
        object: &Bound<'py, PyAny>,
        method: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut values = vec![object.as_ptr()];
        values.extend_from_slice(self.values);
        // SAFETY: the object and as many positional values as is said, then one for each name; the caller of the
        // method that got them holds them all.
        let result = unsafe {
            guarded::vectorcall_method(
                method.as_ptr(),
                values.as_ptr(),
                self.positional + 1,
                self.names,
            )
        };
        // SAFETY: a call gives a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(self.py, result) }
    }

    /// The positional arguments from `start` on.
    #[inline]
    pub(crate) fn rest(
        &self,
        start: usize,
    ) -> impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>> + use<'a, 'py> {
        let this = *self;
        self.values[..self.positional]
            .get(start..)
            .unwrap_or(&[])
            .iter()
            .map(move |pointer| this.borrow(*pointer))
    }

    /// The one argument of a method, given by place or by name.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    #[inline]
    pub(crate) fn only(&self, method: &str, name: &str) -> PyResult<Borrowed<'a, 'py, PyAny>> {
        if let [only] = self.values
            && self.positional == 1
        {
            return Ok(self.borrow(*only));
        }
        match self.bind(method, [name], 1)? {
            [Some(only)] => Ok(only),
            [None] => unreachable!("invariant: a required argument is there"),
        }
    }

    /// The arguments of a method that takes these, each by place or by name; the first `required` must be there.
    ///
    /// # Errors
    /// `TypeError` for one that is missing, given twice, or not of these.
    #[inline]
    pub(crate) fn bind<const N: usize>(
        &self,
        method: &str,
        names: [&str; N],
        required: usize,
    ) -> PyResult<[Option<Borrowed<'a, 'py, PyAny>>; N]> {
        if self.are_positional() && (required..=N).contains(&self.positional) {
            return Ok(std::array::from_fn(|place| self.get(place)));
        }
        self.bind_by_name(method, names, required)
    }

    #[inline(never)]
    fn bind_by_name<const N: usize>(
        &self,
        method: &str,
        names: [&str; N],
        required: usize,
    ) -> PyResult<[Option<Borrowed<'a, 'py, PyAny>>; N]> {
        if self.positional > N {
            return Err(too_many(method, required, N, self.positional));
        }
        let mut bound: [Option<_>; N] = std::array::from_fn(|place| self.get(place));
        for (given, value) in self.named() {
            let given = given.to_str()?;
            let Some(place) = names.iter().position(|name| *name == given) else {
                return Err(PyTypeError::new_err(format!(
                    "{method}() got an unexpected keyword argument '{given}'"
                )));
            };
            if bound[place].replace(value).is_some() {
                return Err(PyTypeError::new_err(format!(
                    "{method}() got multiple values for argument '{given}'"
                )));
            }
        }
        let missing = bound
            .iter()
            .zip(names)
            .take(required)
            .find(|(value, _)| value.is_none());
        match missing {
            None => Ok(bound),
            Some((_, name)) => Err(PyTypeError::new_err(format!(
                "{method}() missing 1 required positional argument: '{name}'"
            ))),
        }
    }

    /// The arguments that were given by name.
    #[inline]
    pub(crate) fn named(
        &self,
    ) -> impl Iterator<Item = (Borrowed<'a, 'py, PyString>, Borrowed<'a, 'py, PyAny>)> + use<'a, 'py>
    {
        let this = *self;
        (self.positional..self.values.len()).map(move |index| {
            let place = ffi::Py_ssize_t::try_from(index - this.positional).unwrap_or(0);
            // SAFETY: the interpreter gives a tuple of one name for each value behind the positional ones.
            let name = unsafe { ffi::PyTuple_GET_ITEM(this.names, place) };
            // SAFETY: the tuple outlives the call, and its items are strings.
            let name = unsafe { this.borrow(name).cast_unchecked() };
            (name, this.borrow(this.values[index]))
        })
    }

    #[inline]
    pub(super) fn borrow(&self, pointer: *mut ffi::PyObject) -> Borrowed<'a, 'py, PyAny> {
        // SAFETY: the caller of a method holds its arguments until the method returns, and `'a` ends before.
        unsafe { Borrowed::from_ptr(self.py, pointer) }
    }
}

/// The value of an `int`, unless it is too large; nothing is raised then.
#[inline]
pub(crate) fn value_of_int(int: Borrowed<'_, '_, PyInt>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: the object is live and an `int`, of which the call makes no other object; a `Borrowed` proves that the
    // thread is attached.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(int.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(value)
}

/// The words for too many arguments; Python counts `self` among them.
#[cold]
fn too_many(method: &str, required: usize, most: usize, given: usize) -> PyErr {
    let (least, most, given) = (required + 1, most + 1, given + 1);
    let range = if least == most {
        format!("{most}")
    } else {
        format!("from {least} to {most}")
    };
    let noun = if most == 1 { "argument" } else { "arguments" };
    PyTypeError::new_err(format!(
        "{method}() takes {range} positional {noun} but {given} were given"
    ))
}
