//! Python types with a value of Rust inside that derive from a class written in Python.
//!
//! PyO3's classes cannot derive from `asyncio.Handle` or `asyncio.Transport`, so that `isinstance` holds; a type made
//! by `PyType_FromSpecWithBases` can. Its objects lay out as the base's fields, then ours, at an offset that is known
//! only when the base is.

use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::carrier;
use super::fields::has_fields;
use super::freelist::{FreeList, GIVEN_BACK, nesting};
use super::unmade::{is_made, refuse_memory, refuse_new, value_at};
use super::visit::Visitor;

/// Words at the start of every object: its count and its type.
const HEADER_WORDS: usize = size_of::<ffi::PyObject>() / size_of::<usize>();

/// A value of Rust that lives in a Python object.
pub(crate) trait Native: Send + Sync + Sized + 'static {
    /// The type's name with its module.
    const NAME: &'static CStr;
    /// Whether Python may derive from it.
    const SUBCLASSABLE: bool;
    /// How many freed objects are kept for reuse.
    const KEPT: usize;
    /// How many words at the start of the value, references all of them, may lie in the place of the base's own fields,
    /// which are references, too, and stay unused otherwise.
    const BASE_FIELDS: usize = 0;
    /// Where in the value a reference is that it always holds; without, Python may not derive from the type (see
    /// [`super::unmade`]).
    const ALWAYS_HELD: Option<usize> = None;
    /// What runs before an object is freed, with the object still whole: asyncio's `__del__`.
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)>;
    /// Where in the value the function is by which its objects are called, if they can be.
    const CALLED_AT: Option<usize> = None;
    /// Slots of the type beside those that every native type has.
    const SLOTS: fn() -> Vec<TypeSlot> = Vec::new;

    /// The one type of such objects.
    fn class() -> &'static NativeClass;
    /// Shows the collector every reference that is held. No Python code may run.
    fn traverse(&self, visitor: &mut Visitor);
    /// Drops the references that can be part of a cycle.
    fn clear(&self, holder: &Bound<'_, PyAny>);
}

/// A function of the interpreter's own protocols, and where it belongs.
pub(crate) type TypeSlot = ffi::PyType_Slot;

/// A type, filled once when the module is made, and the class of its instances.
#[derive(Debug)]
pub(crate) struct NativeClass {
    own: AtomicPtr<ffi::PyTypeObject>,
    instances: AtomicPtr<ffi::PyTypeObject>,
    offset: AtomicUsize,
    base_size: AtomicUsize,
    kept: FreeList,
}

impl NativeClass {
    /// A type that is still to be made.
    pub(crate) const fn new() -> Self {
        Self {
            own: AtomicPtr::new(ptr::null_mut()),
            instances: AtomicPtr::new(ptr::null_mut()),
            offset: AtomicUsize::new(0),
            base_size: AtomicUsize::new(0),
            kept: FreeList::new(),
        }
    }

    /// Makes the type with this base.
    ///
    /// # Errors
    /// What making a type raises.
    pub(crate) fn create<'py, T: Native>(
        &self,
        base: &Bound<'py, PyType>,
    ) -> PyResult<Bound<'py, PyType>> {
        const { assert!(T::ALWAYS_HELD.is_some() || !T::SUBCLASSABLE) };
        let py = base.py();
        // SAFETY: a type object is live and its size is set once.
        let base_size = unsafe { (*base.as_type_ptr()).tp_basicsize };
        let base_size = usize::try_from(base_size).unwrap_or(0);
        let offset = if T::BASE_FIELDS > 0 && has_fields(base, base_size, T::BASE_FIELDS) {
            size_of::<ffi::PyObject>()
        } else {
            base_size.next_multiple_of(align_of::<T>())
        };
        self.offset.store(offset, Ordering::Relaxed);
        self.base_size
            .store(base_size.min(offset), Ordering::Relaxed);
        let mut slots = vec![
            slot(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void),
            slot(ffi::Py_tp_clear, clear::<T> as *mut c_void),
            slot(ffi::Py_tp_new, refuse_new as *mut c_void),
            slot(ffi::Py_tp_alloc, refuse_memory as *mut c_void),
        ];
        if T::FINALIZE.is_some() {
            slots.push(slot(ffi::Py_tp_finalize, finalize::<T> as *mut c_void));
        }
        slots.extend((T::SLOTS)());
        let callable = match T::CALLED_AT {
            Some(place) => {
                slots.push(slot(ffi::Py_tp_members, called_at(offset + place)));
                ffi::Py_TPFLAGS_HAVE_VECTORCALL
            }
            None => 0,
        };
        slots.push(slot(0, ptr::null_mut()));
        let subclassable = if T::SUBCLASSABLE {
            ffi::Py_TPFLAGS_BASETYPE
        } else {
            0
        };
        let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC | subclassable | callable;
        let mut spec = ffi::PyType_Spec {
            name: T::NAME.as_ptr(),
            basicsize: c_int::try_from(base_size.max(offset + size_of::<T>()))
                .unwrap_or(c_int::MAX),
            itemsize: 0,
            flags: u32::try_from(flags).unwrap_or(0),
            slots: slots.as_mut_ptr(),
        };
        // SAFETY: the specification and its slots live through the call, which copies them; the name lives for ever.
        let made = unsafe { ffi::PyType_FromSpecWithBases(&raw mut spec, base.as_ptr()) };
        // SAFETY: the call gave a new reference, or null with an exception set.
        let made = unsafe { Bound::from_owned_ptr_or_err(py, made) }?.cast_into::<PyType>()?;
        let pointer = made.clone().into_ptr().cast();
        self.own.store(pointer, Ordering::Release);
        self.instances.store(pointer, Ordering::Release);
        Ok(made)
    }

    /// Makes instances objects of this class, derived in Python, from now on.
    ///
    /// # Errors
    /// `TypeError` if it does not derive from this type, or changes the layout.
    pub(crate) fn set_instance_class(&self, class: &Bound<'_, PyType>) -> PyResult<()> {
        if !self.is_class_of(class.as_type_ptr()) {
            return Err(PyTypeError::new_err(
                "the class does not derive from its native type",
            ));
        }
        let kept = class.clone().into_ptr().cast();
        self.instances.store(kept, Ordering::Release);
        Ok(())
    }

    /// Whether a class derives from this type.
    pub(crate) fn is_base_of(&self, class: &Bound<'_, PyType>) -> bool {
        self.is_class_of(class.as_type_ptr())
    }

    #[cold]
    fn is_class_of(&self, class: *mut ffi::PyTypeObject) -> bool {
        let own = self.own.load(Ordering::Acquire);
        // SAFETY: both are live type objects; `own` is kept for ever once it is set.
        !own.is_null() && unsafe { ffi::PyType_IsSubtype(class, own) } != 0
    }

    #[inline]
    fn place<T: Native>(&self, object: *mut ffi::PyObject) -> *mut T {
        object
            .cast::<u8>()
            .wrapping_add(self.offset.load(Ordering::Relaxed))
            .cast()
    }

    /// A new object with this value.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(crate) fn instantiate<'py, T: Native>(
        &self,
        py: Python<'py>,
        value: T,
    ) -> PyResult<Bound<'py, PyAny>> {
        let object = self.instantiate_untracked(py, value)?;
        // SAFETY: the object is complete and not tracked.
        unsafe { ffi::PyObject_GC_Track(object.as_ptr().cast()) };
        Ok(object)
    }

    /// A new object with this value, of which the collector does not know (see [`super::private`]).
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(super) fn instantiate_untracked<'py, T: Native>(
        &self,
        py: Python<'py>,
        value: T,
    ) -> PyResult<Bound<'py, PyAny>> {
        let object = match self.kept.take() {
            Some(object) => object,
            None => self.allocate::<T>(py)?,
        };
        // SAFETY: the place for the value is within the object, and empty: whoever put the object into the list has
        // dropped what was there.
        unsafe { self.place::<T>(object).write(value) };
        // SAFETY: the new reference is ours.
        Ok(unsafe { Bound::from_owned_ptr(py, object) })
    }

    /// A new object whose value is still to be written, not tracked, with its base's fields empty.
    #[cold]
    fn allocate<T: Native>(&self, py: Python<'_>) -> PyResult<*mut ffi::PyObject> {
        let class = self.instances.load(Ordering::Acquire);
        if T::SUBCLASSABLE {
            // SAFETY: the class is live; the memory comes zeroed, and the collector cannot run before this returns.
            let object = unsafe { ffi::PyType_GenericAlloc(class, 0) };
            if object.is_null() {
                return Err(PyErr::fetch(py));
            }
            // SAFETY: the object is live; nobody else has seen it.
            unsafe { ffi::PyObject_GC_UnTrack(object.cast()) };
            return Ok(object);
        }
        // SAFETY: the class is live, of a fixed size, and has no dictionary that would want more preparation.
        let object = unsafe { ffi::PyObject_GC_New::<ffi::PyObject>(class) };
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        let rest = self.base_words();
        let start = object.cast::<usize>().wrapping_add(HEADER_WORDS);
        // SAFETY: so many words behind the header are the base's.
        unsafe { start.write_bytes(0, rest) };
        Ok(object)
    }

    /// How many words of an object, behind its header, are its base's.
    #[inline]
    fn base_words(&self) -> usize {
        self.base_size.load(Ordering::Relaxed) / size_of::<usize>() - HEADER_WORDS
    }

    /// Whether the fields of the base are empty.
    #[inline]
    pub(super) fn base_is_empty(&self, object: *mut ffi::PyObject) -> bool {
        let start = object.cast::<usize>().wrapping_add(HEADER_WORDS);
        // SAFETY: so many words behind the header are the base's, and nobody writes them meanwhile: the caller has the
        // only reference, or the GIL.
        let words = unsafe { std::slice::from_raw_parts(start, self.base_words()) };
        words.iter().fold(0, |all, word| all | word) == 0
    }

    /// Drops the value of an object and keeps the object for the next one, unless enough are kept; `false` if so, and
    /// nothing is done.
    ///
    /// # Safety
    /// The reference is the only way to the object (see [`super::private`]), and is given up if this returns `true`.
    #[inline]
    pub(super) unsafe fn recycle<T: Native>(&self, object: *mut ffi::PyObject) -> bool {
        if !self.kept.has_room(T::KEPT) {
            return false;
        }
        // SAFETY: the value is there (see `instantiate`), and the next one is written before anybody looks again.
        unsafe { ptr::drop_in_place(self.place::<T>(object)) };
        self.kept.keep(object);
        true
    }

    /// Frees some of the objects that are kept, if they are many more than a loop needs that has little to do.
    pub(crate) fn give_back(&self, _py: Python<'_>) {
        for object in std::iter::from_fn(|| self.kept.take_excess()).take(GIVEN_BACK) {
            // SAFETY: the object is live; the thread is attached, as `_py` proves.
            let class = unsafe { ffi::Py_TYPE(object) };
            // SAFETY: nobody knows of the object, its value was dropped, and its base's fields are empty.
            unsafe { free_memory(object, class) };
            // SAFETY: this was the object's reference to its type.
            unsafe { ffi::Py_DECREF(class.cast()) };
        }
    }

    /// The value in an object, if it is one of this type.
    #[inline]
    pub(crate) fn get<'a, T: Native>(&self, object: &'a Bound<'_, PyAny>) -> Option<&'a T> {
        // SAFETY: the object is live.
        let class = unsafe { ffi::Py_TYPE(object.as_ptr()) };
        let place = self.place::<T>(object.as_ptr());
        if class == self.instances.load(Ordering::Relaxed) {
            // SAFETY: the object is live, and of this type.
            return unsafe { value_at(place) };
        }
        if T::SUBCLASSABLE && self.is_class_of(class) {
            // SAFETY: as above.
            return unsafe { value_at(place) };
        }
        None
    }

    /// The base's own fields, which Python code can fill although nothing here does: all references, but for the
    /// list of weak ones.
    fn base_fields(
        &self,
        object: *mut ffi::PyObject,
    ) -> impl Iterator<Item = *mut *mut ffi::PyObject> + use<> {
        let own = self.own.load(Ordering::Relaxed);
        // SAFETY: the type is live.
        let weak = usize::try_from(unsafe { (*own).tp_weaklistoffset }).unwrap_or(0);
        let end = self.base_size.load(Ordering::Relaxed);
        (size_of::<ffi::PyObject>()..end)
            .step_by(size_of::<usize>())
            .filter(move |offset| *offset != weak)
            .map(move |offset| object.cast::<u8>().wrapping_add(offset).cast())
    }
}

pub(super) const fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc }
}

/// The members that tell the interpreter where to find the function by which an object is called. The type may keep the
/// pointer, so they are never freed.
fn called_at(offset: usize) -> *mut c_void {
    let end = ffi::PyMemberDef::default();
    let member = ffi::PyMemberDef {
        name: c"__vectorcalloffset__".as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: ffi::Py_ssize_t::try_from(offset).unwrap_or(0),
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    };
    Box::leak(Box::new([member, end])).as_mut_ptr().cast()
}

unsafe extern "C" fn traverse<T: Native>(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    let class = T::class();
    let mut visitor = Visitor::new(visit, arg);
    // SAFETY: the object is live; its type is a heap type, which an instance keeps alive (since 3.9).
    visitor.pointer(unsafe { ffi::Py_TYPE(object) }.cast());
    for field in class.base_fields(object) {
        // SAFETY: the field is within the object and holds a reference or null.
        visitor.pointer(unsafe { *field });
    }
    let place = class.place::<T>(object);
    // SAFETY: the object is live, and of this type; a tracked object that we have made has its value.
    let Some(value) = (unsafe { value_at(place) }) else {
        return visitor.stopped();
    };
    // Nothing in a traversal panics, and if it did, the collector would see too few references and keep the object.
    cloverleaf::ignore(catch_unwind(AssertUnwindSafe(|| {
        value.traverse(&mut visitor);
    })));
    visitor.stopped()
}

unsafe extern "C" fn clear<T: Native>(object: *mut ffi::PyObject) -> c_int {
    Python::attach(|py| {
        // SAFETY: the collector holds the object.
        let holder = unsafe { pyo3::Borrowed::from_ptr(py, object) };
        if let Some(value) = T::class().get::<T>(&holder) {
            // A panic here would be a bug; the collector cannot be told of it, and the object is left as it is.
            cloverleaf::ignore(catch_unwind(AssertUnwindSafe(|| value.clear(&holder))));
        }
    });
    0
}

unsafe extern "C" fn finalize<T: Native>(object: *mut ffi::PyObject) {
    Python::attach(|py| {
        // An exception on its way through the code that dropped the object must arrive there unharmed.
        let raised = PyErr::take(py);
        // SAFETY: the object is alive and whole while it is finalized.
        let object = unsafe { pyo3::Borrowed::from_ptr(py, object) };
        if let Some(finalize) = T::FINALIZE {
            // A panic here would be a bug that nobody can be told of.
            cloverleaf::ignore(catch_unwind(AssertUnwindSafe(|| finalize(&object))));
        }
        if let Some(raised) = raised {
            raised.restore(py);
        }
    });
}

/// Frees an object, unless so many are being freed within each other that the stack is in danger: then the outermost
/// one frees it when it is done.
unsafe extern "C" fn dealloc<T: Native>(object: *mut ffi::PyObject) {
    // Before it may be put off: what is freed meanwhile runs Python code, and the collector would find an object without
    // a reference, and have it freed a second time.
    // SAFETY: the object is live and of a collected type; untracking twice is allowed.
    unsafe { ffi::PyObject_GC_UnTrack(object.cast()) };
    if !nesting::enter(object, free_object::<T>) {
        return;
    }
    // SAFETY: a deallocator is called once, with the last reference gone, on an attached thread.
    unsafe { free_object::<T>(object) };
    for (deferred, free) in std::iter::from_fn(nesting::leave) {
        // SAFETY: as above; its own deallocator has put it off.
        unsafe { free(deferred) };
    }
}

unsafe fn free_object<T: Native>(object: *mut ffi::PyObject) {
    let class = T::class();
    carrier::take_back(object);
    // SAFETY: the object is not yet freed.
    let its_class = unsafe { ffi::Py_TYPE(object) };
    if has_weak_references(object) {
        // SAFETY: the reference count is zero, as this call demands, and the type's objects can have weak references.
        unsafe { ffi::PyObject_ClearWeakRefs(object) };
    }
    if !class.base_is_empty(object) {
        for field in class.base_fields(object) {
            // SAFETY: the field is within the object and holds a reference or null; it is emptied first.
            let held = unsafe { field.replace(ptr::null_mut()) };
            // SAFETY: the reference was the field's.
            unsafe { ffi::Py_XDECREF(held) };
        }
    }
    let place = class.place::<T>(object);
    let finish = || {
        // SAFETY: the object is not yet freed, and of this type.
        if unsafe { is_made(place) } {
            // SAFETY: the value is there (see `instantiate`) and is dropped this once.
            unsafe { ptr::drop_in_place(place) };
        }
    };
    // A drop that panics leaks what it did not reach; it must not unwind into C.
    cloverleaf::ignore(catch_unwind(AssertUnwindSafe(finish)));
    let exact = ptr::eq(its_class, class.own.load(Ordering::Relaxed));
    if exact && class.kept.has_room(T::KEPT) {
        // SAFETY: the memory is an object of this very type; it gets its one reference, and one to its type.
        unsafe { ffi::PyObject_Init(object, its_class) };
        class.kept.keep(object);
    } else {
        // SAFETY: nothing of the object is used after this.
        unsafe { free_memory(object, its_class) };
    }
    // SAFETY: an object of a heap type holds a reference to its type, ours to give back as the first native
    // deallocator in the chain.
    unsafe { ffi::Py_DECREF(its_class.cast()) };
}

/// Frees an object in its type's own way.
///
/// # Safety
/// The object is of this type and not tracked, and nobody uses it any more.
unsafe fn free_memory(object: *mut ffi::PyObject, class: *mut ffi::PyTypeObject) {
    // SAFETY: a type is live for as long as an object of it.
    if let Some(free) = unsafe { (*class).tp_free } {
        // SAFETY: as the caller promises.
        unsafe { free(object.cast()) };
    }
}

/// Whether weak references lead to an object, or may lead there.
#[inline]
pub(super) fn has_weak_references(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the object is live or about to be freed.
    let class = unsafe { ffi::Py_TYPE(object) };
    // SAFETY: the type of such an object is live.
    let offset = unsafe { (*class).tp_weaklistoffset };
    // Before the object since Python 3.12, among its fields until then.
    let list: *mut *mut ffi::PyObject = object.wrapping_byte_offset(offset).cast();
    // SAFETY: the list's head is at this offset, if there is one.
    offset != 0 && (cfg!(Py_GIL_DISABLED) || !unsafe { *list }.is_null())
}
