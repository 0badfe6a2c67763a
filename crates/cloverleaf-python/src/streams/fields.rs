//! The attributes of a reader or a protocol, where asyncio keeps them.

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::ffi::{Attribute, instance_dict};

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

    /// The dict.
    pub(super) fn dict(&self) -> &Bound<'py, PyDict> {
        &self.0
    }

    /// The value of one, if there is one of this name.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(super) fn find(&self, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.get_item(name)
    }

    /// The same for one that most objects have at one place.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(super) fn find_at(&self, attribute: &Attribute) -> PyResult<Option<Bound<'py, PyAny>>> {
        attribute.find(&self.0)
    }

    /// The value of one.
    ///
    /// # Errors
    /// `AttributeError` if somebody has deleted it.
    #[inline]
    pub(super) fn get(&self, attribute: &Attribute) -> PyResult<Bound<'py, PyAny>> {
        self.find_at(attribute)?.ok_or_else(|| {
            let name = attribute.name(self.0.py());
            PyAttributeError::new_err(format!("the stream has lost its attribute '{name}'"))
        })
    }

    /// Whether one is true.
    ///
    /// # Errors
    /// `AttributeError` if somebody has deleted it; what its truth raises.
    #[inline]
    pub(super) fn is_true(&self, attribute: &Attribute) -> PyResult<bool> {
        self.get(attribute)?.is_truthy()
    }

    /// Gives one a value.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn set(
        &self,
        name: &Bound<'py, PyString>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        self.0.set_item(name, value)
    }

    /// Whether there are others beside one, and one of these names among them: a method that somebody has put on the
    /// object itself, where it stands before that of its class.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(super) fn has_beside(&self, names: &[&Bound<'py, PyString>]) -> PyResult<bool> {
        if self.0.len() > 1 {
            for name in names {
                if self.0.contains(name)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
