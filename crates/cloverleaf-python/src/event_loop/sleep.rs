//! The second phase of a turn: to ask the kernel, with or without sleep, and who may run Python meanwhile.
//!
//! The thread detaches from Python to sleep. While a job is ready the kernel is asked with Python held, which takes
//! 0.2 µs, and a hand-over to another thread on every turn would cost more than the whole turn; so other threads, if
//! Python knows of any, are let in every few turns (`give_way.rs`). Where sleep is dear and something is about to come
//! from a thread of the loop's own, it looks for that first.

use std::io;
use std::time::Duration;

use cloverleaf::BlockingPool;
use pyo3::prelude::*;

use super::Loop;
use crate::ffi::{detached, is_alone};
use crate::handle;
use crate::state::LoopState;

/// How often a loop looks for what a thread of its own brings before it asks the kernel, too: a few microseconds.
const LOOKS_TO_ASK: u32 = 64;

/// Asks the kernel what has happened, and sleeps until something does if nothing is ready.
///
/// # Errors
/// What the kernel says of a broken driver.
#[inline]
pub(super) fn wait(py: Python<'_>, state: &mut LoopState, this: &Loop) -> io::Result<()> {
    let limit = state.sleep_limit();
    let injector = &this.injector;
    if limit != Some(Duration::ZERO)
        && let Some(pool) = this.soonest_pool()
    {
        return look_and_wait(py, state, (this, pool), limit);
    }
    if limit != Some(Duration::ZERO)
        && state.first_look.is_due()
        && keeps_python(py, state)
        && state.look_first()?
    {
        return Ok(());
    }
    if limit != Some(Duration::ZERO) && injector.before_sleep() {
        // No Python code runs, and what is freed holds nothing.
        handle::give_back(py);
        let result = detached(py, || {
            injector.at_rest();
            state.sleep(limit)
        });
        this.stats.go_on();
        injector.after_sleep();
        return result;
    }
    if state.others.is_due() {
        state.look_up();
        if !is_alone(py) {
            return let_others_in(py, state, this);
        }
        state.others.spared();
    }
    state.poll()
}

/// Whether the loop may keep Python for one more turn. If not, its sleep lets the others in.
#[inline]
fn keeps_python(py: Python<'_>, state: &mut LoopState) -> bool {
    if !state.others.is_due() {
        return true;
    }
    let is_alone = is_alone(py);
    if is_alone {
        state.others.spared();
    } else {
        state.others.given();
    }
    is_alone
}

/// Looks for what a thread of the loop's own is about to bring, and whatever else could end a sleep, before it sleeps.
#[cold]
fn look_and_wait(
    py: Python<'_>,
    state: &mut LoopState,
    (this, pool): (&Loop, &BlockingPool),
    limit: Option<Duration>,
) -> io::Result<()> {
    // No Python code runs, and what is freed holds nothing.
    handle::give_back(py);
    let injector = &this.injector;
    this.stats.hold_on();
    let result = detached(py, || {
        let mut looks: u32 = 0;
        let mut failed = Ok(());
        let patience = limit.map_or_else(|| pool.patience(), |limit| limit.min(pool.patience()));
        let has_come = pool.look_for_answer(patience, || {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS_TO_ASK) {
                failed = state.wait(Some(Duration::ZERO));
            }
            injector.has_pending() || state.reactor.has_events() || failed.is_err()
        });
        failed?;
        if state.reactor.has_events() {
            return Ok(());
        }
        if has_come || !injector.before_sleep() {
            return state.wait(Some(Duration::ZERO));
        }
        injector.at_rest();
        // The look has taken some of it, and more if it was interrupted.
        let limit = state.sleep_limit();
        let result = state.sleep(limit);
        injector.after_sleep();
        result
    });
    this.stats.go_on();
    result
}

/// Asks the kernel while other threads may run Python.
#[cold]
fn let_others_in(py: Python<'_>, state: &mut LoopState, this: &Loop) -> io::Result<()> {
    this.stats.hold_on();
    let polled = detached(py, || state.poll());
    this.stats.go_on();
    state.others.given();
    polled
}
