//! Who looks on while callbacks run: debug mode, and tools that have replaced `asyncio.Handle._run`.
//!
//! asyncio runs every callback by that method, so tools that measure or trace callbacks put a function of their own in
//! its place. While one is there, the loop runs its callbacks by it, and what else it does for protocols as callbacks,
//! too. It looks once a turn whether one is, which costs a comparison; without onlookers no callback costs more. Others
//! replace methods of one loop, by setting its attributes.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::Loop;
use crate::ffi::{Once, class_version, set_generic_attribute};

const DEBUG: u8 = 1;
const TOOLS: u8 = 2;

/// asyncio's class of timers' handles. It derives from the one of all handles, and so changes whenever that does.
static TIMER_HANDLE: Once<Py<PyType>> = Once::new();

/// The version of the final class of loops when its `time` was last seen to be ours; zero for none.
static TIME_SEEN: AtomicU32 = AtomicU32::new(0);

/// Whether a final class of loops was given a `time` of its own.
///
/// # Errors
/// What looking it up raises.
#[inline]
pub(super) fn class_has_own_time(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let version = class_version(class);
    if version != 0 && version == TIME_SEEN.load(Ordering::Relaxed) {
        return Ok(false);
    }
    look_for_time(class)
}

#[cold]
fn look_for_time(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    let time = class.getattr(intern!(py, "time"))?;
    // Of a method in C, which nobody makes in Python, and ours: of the native class, or put on this one by us.
    let is_ours = match time.getattr_opt(intern!(py, "__objclass__"))? {
        Some(owner) => owner.is(py.get_type::<Loop>()) || owner.is(class),
        None => false,
    };
    let seen = if is_ours { class_version(class) } else { 0 };
    TIME_SEEN.store(seen, Ordering::Relaxed);
    Ok(!is_ours)
}

/// Who looks on at one loop.
#[derive(Debug, Default)]
pub(super) struct Onlookers {
    present: AtomicU8,
    /// The version of `asyncio.TimerHandle` when it was last looked at.
    version: AtomicU32,
    /// Whether the loop was ever given a method of its own by which futures are made or call back, or sockets connect.
    own_methods: AtomicBool,
    /// Whether the loop was ever given a `time` of its own.
    own_time: AtomicBool,
}

impl Onlookers {
    /// Whether anybody looks on.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.present.load(Ordering::Relaxed) != 0
    }

    /// Whether debug mode is on.
    #[inline]
    pub(super) fn debug(&self) -> bool {
        self.present.load(Ordering::Relaxed) & DEBUG != 0
    }

    /// Whether a tool has replaced asyncio's method.
    #[inline]
    pub(super) fn have_tools(&self) -> bool {
        self.present.load(Ordering::Relaxed) & TOOLS != 0
    }

    /// Whether the loop was ever given a method of its own by which futures are made or call back, or sockets connect.
    #[inline]
    pub(super) fn own_methods(&self) -> bool {
        self.own_methods.load(Ordering::Relaxed)
    }

    /// Whether the loop was ever given a `time` of its own.
    #[inline]
    pub(super) fn own_time(&self) -> bool {
        self.own_time.load(Ordering::Relaxed)
    }

    /// Switches debug mode on or off.
    pub(super) fn set_debug(&self, is_on: bool) {
        self.set(DEBUG, is_on);
    }

    fn set(&self, who: u8, is_present: bool) {
        if is_present {
            self.present.fetch_or(who, Ordering::Relaxed);
        } else {
            self.present.fetch_and(!who, Ordering::Relaxed);
        }
    }

    /// Looks whether a tool has come or gone.
    ///
    /// # Errors
    /// What importing asyncio raises, or looking `_run` up.
    #[inline]
    pub(super) fn look(&self, py: Python<'_>) -> PyResult<()> {
        let class = TIMER_HANDLE.import(py, "asyncio", "TimerHandle")?;
        let version = class_version(class);
        if version != 0 && version == self.version.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.look_closely(class)
    }

    #[cold]
    fn look_closely(&self, class: &Bound<'_, PyType>) -> PyResult<()> {
        let py = class.py();
        let events = py.import(intern!(py, "asyncio.events"))?;
        let run = intern!(py, "_run");
        let mut is_genuine = true;
        for class in [class.as_any(), &events.getattr(intern!(py, "Handle"))?] {
            // A function knows the module that it was written in, whatever it was made to look like.
            is_genuine &= class
                .getattr(run)?
                .getattr_opt(intern!(py, "__globals__"))?
                .is_some_and(|globals| globals.is(events.dict()));
        }
        self.set(TOOLS, !is_genuine);
        self.version.store(class_version(class), Ordering::Relaxed);
        Ok(())
    }
}

/// Sets an attribute of a loop, or deletes it, as any object's; and takes note of methods that others would not hear of.
///
/// To look into the loop's dictionary later would make it, and a loop that has one is called more slowly.
///
/// # Errors
/// `AttributeError` if it cannot be set, or deleted.
pub(super) fn set_attribute(
    event_loop: &Bound<'_, Loop>,
    name: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = event_loop.py();
    let own = [
        intern!(py, "call_soon"),
        intern!(py, "create_future"),
        intern!(py, "sock_connect"),
    ];
    for method in own {
        if name.eq(method)? {
            let onlookers = &event_loop.get().onlookers;
            onlookers.own_methods.store(true, Ordering::Relaxed);
        }
    }
    if name.eq(intern!(py, "time"))? {
        let onlookers = &event_loop.get().onlookers;
        onlookers.own_time.store(true, Ordering::Relaxed);
    }
    set_generic_attribute(event_loop, name, value)
}
