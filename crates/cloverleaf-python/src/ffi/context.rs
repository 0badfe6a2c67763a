//! Copies of the current `contextvars.Context`: what one callback has left serves as the copy for a later one.
//!
//! Copying a context and freeing it is a fifth of a callback. But a copy is nothing more than a reference to the current
//! context's variables, which are one immutable mapping. So that reference is all that a callback waits with
//! ([`freeze_context`]); the context is made of it when somebody asks for it ([`context_in`]) or when the callback runs
//! (`ffi/stay.rs`). Nobody but the call has a reference to most of them, so once the callback has returned, the
//! context is emptied and kept ([`keep_context`]), and is the next callback's.
//!
//! Neither the place of that reference nor that of the current context is documented. So both are found out by trial
//! when the module is made ([`learn_contexts`]), on contexts of our own and against what the documented calls say; where
//! anything is not as expected, every copy is a new one. Without the GIL, too.

use std::ffi::c_int;
use std::mem::{self, offset_of};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};

use super::call::with_context;
use super::object::{Owned, Slot};
use super::reach::Reach;

/// A context, as it lies in memory.
#[repr(C)]
struct Context {
    header: ffi::PyObject,
    previous: *mut ffi::PyObject,
    variables: *mut ffi::PyObject,
    weak_references: *mut ffi::PyObject,
    entered: c_int,
}

/// A context to call in.
#[derive(Debug)]
pub(crate) struct CallContext {
    /// The context; or its variables, of which it is still to be made.
    pub(crate) context: Owned,
    /// Whether it is a copy that was made for this call. If not, it is an object of any type.
    pub(crate) is_copy: bool,
}

impl CallContext {
    /// Whether it is a copy that is still to be made.
    #[inline]
    pub(super) fn is_frozen(&self) -> bool {
        self.is_copy && is_frozen(self.context.as_ptr())
    }

    /// Makes the context, if it is a copy that is still to be made.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(super) fn make(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.is_frozen() {
            let context = empty_context(py)?;
            let variables = mem::replace(&mut self.context, context);
            fill(&self.context, variables);
        }
        Ok(())
    }
}

/// An emptied context with one reference, which is this; null if there is none. The collector may find it.
static SPARE: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());
/// The mapping of an empty context, kept for ever; null while the layout is not known.
static NO_VARIABLES: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());
/// The type of that mapping.
static VARIABLES: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());
/// Where a thread's state has its current context.
static CURRENT: AtomicUsize = AtomicUsize::new(0);

/// Words at the start of a thread's state among which the current context is looked for. In every Python that we know
/// there are more: 36 in 3.12, which has the fewest; and it is among the first 30.
const STATE_WORDS: usize = 32;

/// A copy of the current context, as `contextvars.copy_context()` makes it.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn copy_context(py: Python<'_>) -> PyResult<Owned> {
    match current_variables(py) {
        Some(variables) => thaw(py, variables),
        None => copy_anew(py),
    }
}

/// What the current context is at this moment, of which a copy is made later, if its layout is known; else a copy.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn freeze_context(py: Python<'_>) -> PyResult<CallContext> {
    let context = match current_variables(py) {
        Some(variables) => variables,
        None => copy_anew(py)?,
    };
    Ok(CallContext {
        context,
        is_copy: true,
    })
}

/// The context in a slot that was filled with a [copy](CallContext::is_copy), made of its variables if nobody has asked
/// before: from now on it is this one.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn context_in(slot: &Slot, holder: &Bound<'_, PyAny>) -> PyResult<Option<Owned>> {
    if !cfg!(Py_GIL_DISABLED) && is_frozen(slot.peek()) {
        let context = empty_context(holder.py())?;
        // Making it may have run Python code, which has asked, too.
        if is_frozen(slot.peek())
            && let Some(variables) = slot.replace(holder, Some(context.clone_ref(holder.py())))
        {
            fill(&context, variables);
        }
    }
    Ok(slot.get(holder))
}

/// Takes the copy out of the slot of an object that nobody else can reach, to call in it: made of its variables if it was
/// not before.
///
/// # Errors
/// `MemoryError`, and then the slot is as it was.
#[inline]
pub(super) fn context_for_call(slot: &Slot, holder: &Bound<'_, PyAny>) -> PyResult<Option<Owned>> {
    if !is_frozen(slot.peek()) {
        return Ok(slot.take(holder));
    }
    let context = empty_context(holder.py())?;
    if let Some(variables) = slot.take(holder) {
        fill(&context, variables);
    }
    Ok(Some(context))
}

/// Whether a slot with a copy holds its variables. Who has put others there, past our properties, gets those.
#[inline]
pub(super) fn is_frozen(held: *mut ffi::PyObject) -> bool {
    // SAFETY: what a slot holds is live, and nobody empties it meanwhile: the GIL is held, or nothing is ever frozen.
    !held.is_null() && unsafe { ffi::Py_TYPE(held) } == VARIABLES.load(Ordering::Relaxed)
}

/// The mapping of the current context's variables; `None` while the layout is not known.
#[inline]
fn current_variables(py: Python<'_>) -> Option<Owned> {
    let empty = NO_VARIABLES.load(Ordering::Relaxed);
    if empty.is_null() {
        return None;
    }
    let current = current_context(py);
    // A thread has no context until it asks for one.
    let variables = if current.is_null() {
        empty
    } else {
        variables(current)
    };
    // SAFETY: the current context holds it, or it is kept for ever.
    Some(unsafe { Borrowed::from_ptr(py, variables) }.into())
}

#[cold]
fn copy_anew(py: Python<'_>) -> PyResult<Owned> {
    // SAFETY: the thread is attached, as `py` proves.
    let context = unsafe { ffi::PyContext_CopyCurrent() };
    // SAFETY: the call gave a new reference, or null with an exception set.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, context) }?;
    Ok(context.into())
}

/// A context with these variables.
#[inline]
fn thaw(py: Python<'_>, variables: Owned) -> PyResult<Owned> {
    let context = empty_context(py)?;
    fill(&context, variables);
    Ok(context)
}

/// A context that nobody else has, to be [filled](fill).
#[inline]
pub(super) fn empty_context(py: Python<'_>) -> PyResult<Owned> {
    // The GIL guards the place: it is emptied before anybody else runs.
    let spare = SPARE.load(Ordering::Relaxed);
    SPARE.store(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: the place's reference is ours now, if there is any.
    if let Some(spare) = unsafe { Bound::from_owned_ptr_or_opt(py, spare) }
        && is_ours_alone(spare.as_ptr())
    {
        return Ok(spare.into());
    }
    // There is none, or somebody has searched for it.
    new_context(py).map(Into::into)
}

/// Lets a context that nobody else has, and that is not entered, have these variables.
#[inline]
pub(super) fn fill(context: &Owned, variables: Owned) {
    let empty = replace_variables(context.as_ptr(), variables.into_raw());
    // SAFETY: this was the context's reference. It is the empty mapping's, of which one is kept for ever; or that
    // of what somebody has set who searched for the context and let go of it, and then freeing it may run Python code:
    // the context is whole by now, and ours.
    unsafe { ffi::Py_DECREF(empty) };
}

/// Keeps a context that was entered and left, for the next call, if nobody else has it, and none is kept. One is enough:
/// calls run one after the other, or within each other.
///
/// Who has put something else in its place, past our properties, keeps that: it has run the call by a method of its own.
#[inline]
pub(super) fn keep_context(context: Owned) {
    let empty = NO_VARIABLES.load(Ordering::Relaxed);
    let has_one = !SPARE.load(Ordering::Relaxed).is_null();
    // SAFETY: a live object of any type.
    if empty.is_null() || has_one || unsafe { ffi::PyContext_CheckExact(context.as_ptr()) } == 0 {
        return;
    }
    if !is_ours_alone(context.as_ptr()) {
        return;
    }
    let context = context.into_raw();
    // SAFETY: it is kept for ever.
    unsafe { ffi::Py_INCREF(empty) };
    let variables = replace_variables(context, empty);
    SPARE.store(context, Ordering::Relaxed);
    // Last, since it may free the variables, which may run Python code.
    // SAFETY: this was the context's reference.
    unsafe { ffi::Py_DECREF(variables) };
}

/// Whether a context has no other reference and no weak one.
#[inline]
fn is_ours_alone(context: *mut ffi::PyObject) -> bool {
    has_references(context, 1)
}

/// The same of one that is entered, to which the thread's state has a reference, too.
#[inline]
pub(super) fn has_no_others_entered(context: *mut ffi::PyObject) -> bool {
    has_references(context, 2)
}

/// Whether so many references lead to a context, and no weak one.
#[inline]
fn has_references(context: *mut ffi::PyObject, count: isize) -> bool {
    // SAFETY: the context is live, as every caller's is.
    let is_shared = cfg!(Py_GIL_DISABLED) || unsafe { ffi::Py_REFCNT(context) } > count;
    // SAFETY: as above, and it is a context.
    !is_shared && unsafe { (*context.cast::<Context>()).weak_references }.is_null()
}

/// Whether contexts lie in memory as expected.
#[inline]
pub(super) fn knows_layout() -> bool {
    !NO_VARIABLES.load(Ordering::Relaxed).is_null()
}

/// The current context, if the [layout is known](knows_layout).
#[inline]
pub(super) fn current_context(py: Python<'_>) -> *mut ffi::PyObject {
    word_of_state(py, CURRENT.load(Ordering::Relaxed))
}

#[inline]
fn word_of_state(_py: Python<'_>, word: usize) -> *mut ffi::PyObject {
    debug_assert!(word < STATE_WORDS, "it is searched for among these");
    // SAFETY: the thread is attached, as `_py` proves.
    let state = unsafe { ffi::PyThreadState_Get() };
    let place = state.cast::<*mut ffi::PyObject>().wrapping_add(word);
    // SAFETY: a thread's state has so many words, and only its own thread changes the one that is asked for.
    unsafe { place.read() }
}

/// The mapping of a context's variables, by a reference of the context's.
#[inline]
pub(super) fn variables(context: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: every caller's is a live context.
    unsafe { (*context.cast::<Context>()).variables }
}

#[inline]
fn replace_variables(
    context: *mut ffi::PyObject,
    variables: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: every caller's is a live context.
    let place = unsafe { &raw mut (*context.cast::<Context>()).variables };
    // SAFETY: the place is the context's own, which nobody else uses meanwhile: the GIL is held.
    unsafe { place.replace(variables) }
}

/// Finds out how contexts lie in memory, and uses them again from now on if that is as expected.
///
/// # Errors
/// `MemoryError`, and whatever else the interpreter says of its own contexts.
pub(crate) fn learn_contexts(py: Python<'_>) -> PyResult<()> {
    if cfg!(Py_GIL_DISABLED) || !has_size() {
        return Ok(());
    }
    let trial = Trial {
        outer: new_context(py)?,
        inner: new_context(py)?,
    };
    if let Some(word) = trial.find(py)? {
        CURRENT.store(word, Ordering::Relaxed);
        let empty = variables(new_context(py)?.as_ptr());
        // SAFETY: a context has it; this reference is never given up.
        unsafe { ffi::Py_INCREF(empty) };
        // SAFETY: as above.
        VARIABLES.store(unsafe { ffi::Py_TYPE(empty) }, Ordering::Relaxed);
        NO_VARIABLES.store(empty, Ordering::Relaxed);
    }
    Ok(())
}

fn has_size() -> bool {
    let class = &raw mut ffi::PyContext_Type;
    // SAFETY: a type object is live and its layout is set once.
    let size = unsafe { (*class).tp_basicsize };
    // SAFETY: as above.
    let weak_references = unsafe { (*class).tp_weaklistoffset };
    usize::try_from(size) == Ok(size_of::<Context>())
        && usize::try_from(weak_references) == Ok(offset_of!(Context, weak_references))
}

fn new_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the thread is attached, as `py` proves.
    let context = unsafe { ffi::PyContext_New() };
    // SAFETY: the call gave a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, context) }
}

/// Two contexts to try things with.
struct Trial<'py> {
    outer: Bound<'py, PyAny>,
    inner: Bound<'py, PyAny>,
}

impl Trial<'_> {
    /// Which word of a thread's state is its current context; `None` if anything is not as expected.
    fn find(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        let name = c"cloverleaf";
        // SAFETY: the name is a string, and the thread is attached.
        let variable = unsafe { ffi::PyContextVar_New(name.as_ptr(), ptr::null_mut()) };
        // SAFETY: the call gave a new reference, or null with an exception set.
        let variable = unsafe { Bound::from_owned_ptr_or_err(py, variable) }?;
        let (outer, inner) = (self.outer.as_ptr(), self.inner.as_ptr());
        let empty = variables(outer);
        if !has_variables(&self.outer)? || variables(inner) != empty || is_entered(outer) {
            return Ok(None);
        }
        let before = all_words(py);
        let seen = with_context(py, self.outer.as_borrowed(), || {
            let within = all_words(py);
            // SAFETY: a variable, set to an object; the thread is attached.
            let token = unsafe { ffi::PyContextVar_Set(variable.as_ptr(), py.None().as_ptr()) };
            // SAFETY: the call gave a new reference, or null with an exception set.
            drop(unsafe { Bound::from_owned_ptr_or_err(py, token) }?);
            let copy = copy_anew(py)?;
            // The trial's reference, and that of the thread's state.
            let is_expected = is_entered(outer)
                && has_no_others_entered(outer)
                && !is_ours_alone(outer)
                && has_variables(&self.outer)?
                && variables(outer) != empty
                && is_mapping(variables(outer), empty)
                && variables(copy.as_ptr()) == variables(outer)
                && !is_entered(copy.as_ptr())
                && is_ours_alone(copy.as_ptr());
            let deepest = with_context(py, self.inner.as_borrowed(), || Ok(all_words(py)))?;
            Ok((within, deepest, is_expected))
        })?;
        let (within, deepest, is_expected) = seen;
        let after = all_words(py);
        let mut words = (0..STATE_WORDS).filter(|word| {
            within[*word] == outer
                && deepest[*word] == inner
                && before[*word] == after[*word]
                && before[*word] != outer
        });
        let found = words.next().filter(|_| words.next().is_none());
        Ok(found.filter(|_| is_expected && !is_entered(outer) && variables(inner) == empty))
    }
}

fn all_words(py: Python<'_>) -> [*mut ffi::PyObject; STATE_WORDS] {
    std::array::from_fn(|word| word_of_state(py, word))
}

/// Whether one object is a mapping like the other.
fn is_mapping(one: *mut ffi::PyObject, other: *mut ffi::PyObject) -> bool {
    // SAFETY: both are live objects: contexts hold them.
    let class = unsafe { ffi::Py_TYPE(other) };
    // SAFETY: as above.
    unsafe { ffi::Py_IS_TYPE(one, class) != 0 }
}

pub(super) fn is_entered(context: *mut ffi::PyObject) -> bool {
    // SAFETY: every caller's is a live object of a context's size.
    unsafe { (*context.cast::<Context>()).entered != 0 }
}

/// Whether the word of a context where its variables should be is a reference that the context shows to the collector.
fn has_variables(context: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = context.py();
    let shown = py
        .import(intern!(py, "gc"))?
        .reach(intern!(py, "get_referents"), (context,))?;
    let place = variables(context.as_ptr());
    for object in shown.try_iter()? {
        if object?.as_ptr() == place {
            return Ok(true);
        }
    }
    Ok(false)
}
