//! What a handle holds, and where: the references lie in the very fields that `asyncio.Handle` has for its own.
//!
//! asyncio's class has seven fields, one for each of its attributes, all of them references and otherwise unused here.
//! Ours are references, too, and lie in their place, which makes a handle a third smaller: a burst of them is as much
//! a matter of memory as of instructions. A program that reaches for a field past our properties, by
//! `asyncio.Handle._callback.__get__(handle)`, finds the callback, and one that writes there changes it. In the place of
//! the context it may find the variables of which the context is still to be made.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyTuple};

use super::Guard;
use crate::ffi::{
    AfterFields, BareCall, Call, CallContext, INLINE_ARGS, Native, Owned, Slot, Slots, Visitor,
    context_in, tuple_from,
};

/// The references of a handle, in the order of asyncio's fields, which Python sorts by name: `_args`, `_callback`,
/// `_cancelled`, `_context`, `_loop`, `_repr`, `_source_traceback`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Held {
    first: Slot,
    pub(super) callback: Slot,
    second: Slot,
    pub(super) context: Slot,
    pub(super) event_loop: Slot,
    pub(super) repr: Slot,
    pub(super) source_traceback: Slot,
    after: AfterFields,
}

/// What else a handle holds.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Rest {
    third: Slot,
    pub(super) guard: Guard,
    in_tuple: bool,
    /// Whether the context is a [copy](CallContext::is_copy) that was made for this call.
    in_copy: bool,
    pub(super) cancelled: AtomicBool,
}

/// What a handle holds.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Handle {
    held: Held,
    rest: Rest,
}

/// What a timer's handle holds.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct TimerHandle {
    held: Held,
    /// In the place of `_scheduled`.
    unused: Slot,
    /// In the place of `_when`: the number that was given, unless it is a plain float.
    pub(super) given: Slot,
    rest: Rest,
    pub(super) when: f64,
    pub(super) age: AtomicU64,
    pub(super) slot: AtomicU32,
    pub(super) scheduled: AtomicBool,
}

/// What a timer's `when()` is to be.
#[derive(Debug)]
pub(crate) struct When {
    pub(crate) seconds: f64,
    given: Option<Owned>,
}

impl From<f64> for When {
    #[inline]
    fn from(seconds: f64) -> Self {
        Self {
            seconds,
            given: None,
        }
    }
}

impl When {
    /// This number.
    ///
    /// # Errors
    /// `TypeError` if it is none, `OverflowError` if it is too large for a float.
    #[inline]
    pub(crate) fn of(number: &Bound<'_, PyAny>) -> PyResult<Self> {
        match number.cast_exact::<PyFloat>() {
            Ok(number) => Ok(number.value().into()),
            Err(_) => Ok(Self {
                seconds: number.extract()?,
                given: Some(number.clone().into()),
            }),
        }
    }
}

/// Words of either that lie in the fields of its base.
pub(super) const HANDLE_FIELDS: usize = size_of::<Held>() / size_of::<usize>();
pub(super) const TIMER_FIELDS: usize = HANDLE_FIELDS + 2;

/// What both kinds of handle have.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) held: &'a Held,
    pub(super) rest: &'a Rest,
}

/// Either kind of handle, as a value.
pub(super) trait HasParts: Native {
    fn parts(&self) -> Parts<'_>;
}

impl HasParts for Handle {
    #[inline]
    fn parts(&self) -> Parts<'_> {
        Parts {
            held: &self.held,
            rest: &self.rest,
        }
    }
}

impl HasParts for TimerHandle {
    #[inline]
    fn parts(&self) -> Parts<'_> {
        Parts {
            held: &self.held,
            rest: &self.rest,
        }
    }
}

/// The arguments of a callback, ready to lie in a handle.
#[derive(Debug)]
pub(super) struct Inline {
    args: [Option<Owned>; INLINE_ARGS],
    in_tuple: bool,
}

impl Inline {
    /// No arguments.
    #[inline]
    pub(super) const fn none() -> Self {
        Self {
            args: [const { None }; INLINE_ARGS],
            in_tuple: false,
        }
    }

    /// Takes a reference to each; a tuple of all if they are many.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(super) fn new<'a, 'py: 'a>(
        py: Python<'py>,
        mut args: impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>>,
    ) -> PyResult<Self> {
        if args.len() > INLINE_ARGS {
            return Self::in_tuple(tuple_from(py, args.map(Borrowed::to_owned))?);
        }
        Ok(Self {
            args: std::array::from_fn(|_| args.next().map(Into::into)),
            in_tuple: false,
        })
    }

    #[cold]
    #[expect(clippy::unnecessary_wraps, reason = "it is one end of `new`")]
    fn in_tuple(args: Bound<'_, PyTuple>) -> PyResult<Self> {
        Ok(Self {
            args: [None, None, Some(args.into())],
            in_tuple: true,
        })
    }
}

impl Handle {
    /// A handle for a call that had none, or has none any more.
    pub(super) fn of_call(event_loop: &Bound<'_, PyAny>, call: BareCall) -> Self {
        let args = Inline {
            args: [call.arg, None, None],
            in_tuple: false,
        };
        Self::holding(event_loop, call.callback, args, call.context, Guard::none())
    }

    /// A handle for a callback with these arguments, in this context.
    #[inline]
    pub(super) fn new(
        event_loop: &Bound<'_, PyAny>,
        callback: Borrowed<'_, '_, PyAny>,
        args: Inline,
        context: CallContext,
        guard: Guard,
    ) -> Self {
        Self::holding(event_loop, callback.into(), args, context, guard)
    }

    #[inline]
    fn holding(
        event_loop: &Bound<'_, PyAny>,
        callback: Owned,
        args: Inline,
        context: CallContext,
        guard: Guard,
    ) -> Self {
        let [first, second, third] = args.args.map(Slot::new);
        Self {
            held: Held {
                first,
                callback: Slot::new(Some(callback)),
                second,
                context: Slot::new(Some(context.context)),
                event_loop: Slot::new(Some(event_loop.clone().into())),
                repr: Slot::empty(),
                source_traceback: Slot::empty(),
                after: AfterFields::default(),
            },
            rest: Rest {
                third,
                guard,
                in_tuple: args.in_tuple,
                in_copy: context.is_copy,
                cancelled: AtomicBool::new(false),
            },
        }
    }

    /// The same for a timer.
    #[inline]
    pub(super) fn due_at(self, when: When) -> TimerHandle {
        TimerHandle {
            held: self.held,
            unused: Slot::empty(),
            given: Slot::new(when.given),
            rest: self.rest,
            when: when.seconds,
            age: AtomicU64::new(0),
            slot: AtomicU32::new(0),
            scheduled: AtomicBool::new(false),
        }
    }
}

impl TimerHandle {
    /// Shows the collector every reference, those in fields that we do not use among them.
    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        self.parts().traverse(visitor);
        visitor.slot(&self.unused);
        visitor.slot(&self.given);
    }
}

impl<'a> Parts<'a> {
    #[inline]
    fn args(self) -> [&'a Slot; INLINE_ARGS] {
        let (first, second, third) = (&self.held.first, &self.held.second, &self.rest.third);
        if self.rest.in_tuple {
            // The tuple lies where no field of asyncio's does: nobody can put there what is none.
            [third, first, second]
        } else {
            [first, second, third]
        }
    }

    /// What is called, and how.
    #[inline]
    pub(super) fn slots(self) -> Slots<'a> {
        Slots {
            context: &self.held.context,
            callback: &self.held.callback,
            args: self.args(),
            in_tuple: self.rest.in_tuple,
            in_copy: self.rest.in_copy,
        }
    }

    /// Shows the collector every reference.
    pub(super) fn traverse(self, visitor: &mut Visitor) {
        let held = self.held;
        let others = [
            &held.callback,
            &held.context,
            &held.event_loop,
            &held.repr,
            &held.source_traceback,
        ];
        for slot in self.args().into_iter().chain(others) {
            visitor.slot(slot);
        }
    }

    /// The call to make, with everything that it needs held; `None` once it is cancelled.
    #[inline]
    pub(super) fn call(self, holder: &Bound<'_, PyAny>) -> Option<Call> {
        let callable = self.held.callback.get(holder)?;
        let mut args = [const { None }; INLINE_ARGS];
        for (arg, slot) in args.iter_mut().zip(self.args()) {
            *arg = slot.get(holder);
            if arg.is_none() {
                break;
            }
        }
        Some(Call {
            callable,
            args,
            in_tuple: self.rest.in_tuple,
        })
    }

    /// The context in which it is called.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn context(self, holder: &Bound<'_, PyAny>) -> PyResult<Option<Owned>> {
        if self.rest.in_copy {
            context_in(&self.held.context, holder)
        } else {
            Ok(self.held.context.get(holder))
        }
    }

    /// Takes the call out of a handle of this loop, if it has no more than one argument and there is nothing else to
    /// know of it. No object loses its last reference.
    #[inline]
    pub(super) fn take_call(
        self,
        holder: &Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
    ) -> Option<BareCall> {
        let (held, rest) = (self.held, self.rest);
        let has_more = held.second.is_set()
            || rest.third.is_set()
            || held.repr.is_set()
            || held.source_traceback.is_set()
            || self.is_cancelled();
        let has_all =
            held.callback.is_set() && held.context.is_set() && held.event_loop.holds(event_loop);
        if has_more || !has_all {
            return None;
        }
        Some(BareCall {
            callback: held.callback.take(holder)?,
            arg: held.first.take(holder),
            context: CallContext {
                context: held.context.take(holder)?,
                is_copy: rest.in_copy,
            },
        })
    }

    /// Lets go of the callback and its arguments.
    pub(super) fn release(self, holder: &Bound<'_, PyAny>) {
        // Taken first and dropped after, because a drop may run Python code that comes back here.
        let held = (
            self.held.callback.take(holder),
            self.args().map(|slot| slot.take(holder)),
        );
        drop(held);
    }

    /// The arguments as asyncio has them; `None` once it is cancelled.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn args_tuple<'py>(
        self,
        holder: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let py = holder.py();
        let Some(call) = self.call(holder) else {
            return Ok(None);
        };
        let [first, second, third] = call.args;
        if call.in_tuple {
            return first
                .map(|tuple| tuple.into_bound(py).cast_into::<PyTuple>())
                .transpose()
                .map_err(Into::into);
        }
        let args = [first, second, third]
            .into_iter()
            .flatten()
            .map(|arg| arg.into_bound(py));
        tuple_from(py, args.collect::<Vec<_>>()).map(Some)
    }

    /// Whether it will not run any more.
    #[inline]
    pub(super) fn is_cancelled(self) -> bool {
        self.rest.cancelled.load(Ordering::Relaxed)
    }
}
