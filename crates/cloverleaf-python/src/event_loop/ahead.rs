//! What later jobs need is fetched into the processor's cache while earlier ones run.
//!
//! Nothing here changes what happens, only how long memory is waited for. Handles of a long queue lie anywhere; of many
//! connections the kernel's part alone is larger than the cache, so that ours has gone when one is served again.

use std::collections::VecDeque;

use pyo3::prelude::*;

use crate::ffi::Owned;
use crate::handle::AnyHandle;
use crate::job::Job;
use crate::source::{Hold, Source};
use crate::state::LoopState;
use crate::transport;

/// The handles of a shorter queue are in the processor's cache.
pub(super) const LONG: usize = 1024;
/// How many jobs before its turn a handle is fetched; its context half as many before. In that time, 1 µs, memory
/// answers.
const FETCHED_AHEAD: usize = 16;

/// Fetches what later callbacks need, of timers above all.
#[inline]
pub(super) fn fetch_handles(py: Python<'_>, jobs: &VecDeque<Job>) {
    if let Some(Job::Callback(handle)) = jobs.get(FETCHED_AHEAD) {
        handle.fetch();
    }
    match jobs.get(FETCHED_AHEAD / 2) {
        Some(Job::Callback(handle)) => {
            if let Some(handle) = AnyHandle::of(&handle.bind(py)) {
                handle.fetch_context();
            }
        }
        Some(Job::Call(call)) => call.fetch(),
        Some(Job::Io(..) | Job::Posted(_) | Job::Step(_) | Job::Internal(_)) | None => {}
    }
}

/// What fewer sources need is in the processor's cache, however few of them are ready.
pub(super) const MANY: usize = 64;

/// Fetches the objects of the first two events of a turn, for which nobody has done so before.
pub(super) fn fetch_first_sources(state: &LoopState, jobs: &VecDeque<Job>) {
    for object in jobs.iter().take(2).filter_map(|job| served(state, job)) {
        transport::fetch(object);
    }
}

/// Fetches the object of the next event but one, and what the next one's transport refers to, which came with the event
/// before.
pub(super) fn fetch_sources(py: Python<'_>, state: &LoopState, jobs: &VecDeque<Job>) {
    if let Some(object) = jobs.get(1).and_then(|job| served(state, job)) {
        transport::fetch(object);
    }
    if let Some(object) = jobs.front().and_then(|job| served(state, job)) {
        transport::fetch_company(&object.bind(py));
    }
}

/// The object that a job tells of an event.
#[inline]
fn served<'a>(state: &'a LoopState, job: &Job) -> Option<&'a Owned> {
    let Job::Io(token, _) = job else {
        return None;
    };
    match state.reactor.get(*token) {
        Some(Source::Served(Hold::Strong(object), _)) => Some(object),
        Some(Source::Served(Hold::Weak(_), _) | Source::Watch(_)) | None => None,
    }
}
