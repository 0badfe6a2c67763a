//! Where the fields of a class written in Python lie, and whether values of ours may lie there instead.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The word behind the seven fields of `asyncio.Handle`: the list of weak references, until Python 3.12 put it before
/// the object.
#[cfg(Py_3_12)]
#[derive(Debug, Default)]
pub(crate) struct AfterFields(());

#[cfg(not(Py_3_12))]
#[derive(Debug, Default)]
pub(crate) struct AfterFields(
    #[expect(dead_code, reason = "the interpreter reads and writes it")]
    std::sync::atomic::AtomicUsize,
);

/// Whether a class has so many fields and no others, with its list of weak references, if that is among them, behind
/// the first seven. It is so in every Python that we know; if it were not, a value would lie behind the fields.
pub(super) fn has_fields(base: &Bound<'_, PyType>, base_size: usize, fields: usize) -> bool {
    const WEAK_REFERENCES: usize = size_of::<ffi::PyObject>() + 7 * size_of::<usize>();
    // SAFETY: a type object is live and its layout is set once.
    let weak = unsafe { (*base.as_type_ptr()).tp_weaklistoffset };
    let in_place = usize::try_from(weak).map_or(cfg!(Py_3_12), |weak| {
        !cfg!(Py_3_12) && weak == WEAK_REFERENCES
    });
    in_place && base_size == size_of::<ffi::PyObject>() + fields * size_of::<usize>()
}
