//! The attributes of a reader or a protocol, where asyncio keeps them.

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyDict, PyString};

use crate::ffi::{first_attributes, instance_dict};

/// An object's own attributes.
pub(super) struct Fields<'py>(Bound<'py, PyDict>);

impl<'py> Fields<'py> {
    /// Those of this object.
    ///
    /// # Errors
    /// `AttributeError` if it can have none.
    #[inline]
    pub(super) fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        instance_dict(object).map(Self)
    }

    /// The value of one.
    ///
    /// # Errors
    /// `AttributeError` if somebody has deleted it.
    #[inline]
    pub(super) fn get(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.0.get_item(name)?.ok_or_else(|| {
            PyAttributeError::new_err(format!("the stream has lost its attribute '{name}'"))
        })
    }

    /// Whether one is true.
    ///
    /// # Errors
    /// `AttributeError` if somebody has deleted it; what its truth raises.
    #[inline]
    pub(super) fn is_true(&self, name: &Bound<'py, PyString>) -> PyResult<bool> {
        self.get(name)?.is_truthy()
    }

    /// Gives one a value.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(super) fn set(
        &self,
        name: &Bound<'py, PyString>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        self.0.set_item(name, value)
    }

    /// Makes one None.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(super) fn clear(&self, name: &Bound<'py, PyString>) -> PyResult<()> {
        let none = name.py().None().into_bound(name.py());
        self.set(name, &none)
    }

    /// Makes one true or false.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(super) fn set_bool(&self, name: &Bound<'py, PyString>, value: bool) -> PyResult<()> {
        self.set(name, &PyBool::new(name.py(), value))
    }
}

/// What a reader knows: the attributes that asyncio's `__init__` gives it.
pub(super) struct ReaderFields<'py> {
    /// To change them.
    pub(super) own: Fields<'py>,
    /// How much the buffer may hold, twice.
    pub(super) limit: usize,
    /// The loop.
    pub(super) event_loop: Bound<'py, PyAny>,
    /// What has come and has not been read.
    pub(super) buffer: Bound<'py, PyByteArray>,
    /// Whether the end of the stream has come.
    pub(super) eof: Bound<'py, PyAny>,
    /// The future that a read waits for, or None.
    pub(super) waiter: Bound<'py, PyAny>,
    /// What has broken the connection, or None.
    pub(super) exception: Bound<'py, PyAny>,
    /// The transport, or None.
    pub(super) transport: Bound<'py, PyAny>,
    /// Whether the reader has asked the transport to wait.
    pub(super) paused: Bound<'py, PyAny>,
    /// Whether it has more attributes, which may stand before a method.
    pub(super) has_more: bool,
}

impl<'py> ReaderFields<'py> {
    /// Those of this reader; None if a program has changed them in a way that only asyncio's own methods understand.
    ///
    /// # Errors
    /// `AttributeError` if it can have none.
    #[inline]
    pub(super) fn of(reader: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let py = reader.py();
        let own = Fields::of(reader)?;
        let found = first_attributes(
            &own.0,
            [
                intern!(py, "_limit"),
                intern!(py, "_loop"),
                intern!(py, "_buffer"),
                intern!(py, "_eof"),
                intern!(py, "_waiter"),
                intern!(py, "_exception"),
                intern!(py, "_transport"),
                intern!(py, "_paused"),
            ],
        );
        let Some((values, has_more)) = found else {
            return Ok(None);
        };
        let [
            limit,
            event_loop,
            buffer,
            eof,
            waiter,
            exception,
            transport,
            paused,
        ] = values;
        let (Ok(limit), Ok(buffer)) = (limit.extract(), buffer.cast_into_exact()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            own,
            limit,
            event_loop,
            buffer,
            eof,
            waiter,
            exception,
            transport,
            paused,
            has_more,
        }))
    }

    /// Whether the reader itself, and not its class, has one of these names: methods that somebody has put there.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(super) fn has_own(&self, names: &[&Bound<'py, PyString>]) -> PyResult<bool> {
        if self.has_more {
            for name in names {
                if self.own.0.contains(name)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
