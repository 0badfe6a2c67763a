//! Deadlines in order: by time, and among equal times by age.
//!
//! A binary heap holds `(deadline, age, slot)`; the payload lies in the slot. Cancelling empties the slot at once, so
//! that nothing keeps the payload alive, and leaves a dead entry in the heap. Dead entries are swept when they
//! outnumber the living, so `n` live timers never keep more than `2 n + DEAD_TIMERS_KEPT` entries, and cancelling
//! costs O(1) on average.

mod room;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Time;
use crate::limits::{DEAD_TIMERS_KEPT, DUE_OF_HEAP, DUE_ONE_BY_ONE};

/// The name of one timer; a key that was cancelled or has fired names nothing ever after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    age: u64,
    slot: u32,
}

impl TimerKey {
    /// The key as two numbers, for storage.
    pub const fn to_parts(self) -> (u64, u32) {
        (self.age, self.slot)
    }

    /// The key that [`to_parts`](Self::to_parts) gave.
    pub const fn from_parts(age: u64, slot: u32) -> Self {
        Self { age, slot }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    deadline: Time,
    age: u64,
    slot: u32,
}

impl Entry {
    /// Deadline and age as one number, which is compared without a jump.
    fn order(&self) -> u128 {
        u128::from(self.deadline.as_nanos()) << 64 | u128::from(self.age)
    }
}

#[derive(Debug)]
enum Slot<J> {
    Free { next: u32 },
    Live { age: u64, payload: J },
}

const NO_SLOT: u32 = u32::MAX;

/// Payloads of type `J`, each with its deadline.
#[derive(Debug)]
pub struct Timers<J> {
    heap: BinaryHeap<Reverse<Entry>>,
    slots: Vec<Slot<J>>,
    first_free: u32,
    /// Slots from here on are free for new timers only when all others are taken, so that they can be given back.
    spare_from: u32,
    first_spare: u32,
    live: usize,
    next_age: u64,
}

impl<J> Default for Timers<J> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            slots: Vec::new(),
            first_free: NO_SLOT,
            spare_from: NO_SLOT,
            first_spare: NO_SLOT,
            live: 0,
            next_age: 0,
        }
    }
}

impl<J> Timers<J> {
    /// No timers.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many timers wait.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no timer waits.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many entries of cancelled timers are still held; their payloads are gone.
    pub fn dead(&self) -> usize {
        self.heap.len() - self.live
    }

    /// Adds a timer that is due at `deadline`.
    ///
    /// # Panics
    /// If four billion timers wait already.
    pub fn insert(&mut self, deadline: Time, payload: J) -> TimerKey {
        let age = self.next_age;
        self.next_age += 1;
        let slot = self.occupy(Slot::Live { age, payload });
        self.heap.push(Reverse(Entry {
            deadline,
            age,
            slot,
        }));
        self.live += 1;
        TimerKey { age, slot }
    }

    /// Takes a timer back before it fires; `None` if it has fired or was cancelled already.
    pub fn cancel(&mut self, key: TimerKey) -> Option<J> {
        let payload = self.vacate(key.slot, key.age)?;
        if self.dead() > self.live + DEAD_TIMERS_KEPT {
            self.sweep();
        }
        Some(payload)
    }

    /// The payload of a timer that still waits.
    pub fn get(&self, key: TimerKey) -> Option<&J> {
        match self.slots.get(key.slot as usize)? {
            Slot::Live { age, payload } if *age == key.age => Some(payload),
            Slot::Live { .. } | Slot::Free { .. } => None,
        }
    }

    /// When the next timer is due.
    pub fn next_deadline(&mut self) -> Option<Time> {
        self.drop_dead_head();
        self.heap.peek().map(|Reverse(entry)| entry.deadline)
    }

    /// When the next timer is due, and its age, by which it can be told from all others of this queue.
    pub fn next_deadline_and_age(&mut self) -> Option<(Time, u64)> {
        self.drop_dead_head();
        self.heap
            .peek()
            .map(|Reverse(entry)| (entry.deadline, entry.age))
    }

    /// Takes the earliest timer whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Time) -> Option<J> {
        self.pop_with_deadline(now).map(|(_, payload)| payload)
    }

    fn pop_with_deadline(&mut self, now: Time) -> Option<(Time, J)> {
        if self.next_deadline()? > now {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        let payload = self.vacate(entry.slot, entry.age)?;
        Some((entry.deadline, payload))
    }

    /// Takes all timers whose deadline is not after `now`, in their order, and tells `heard` the deadline of each.
    ///
    /// A few are taken from the heap one by one. When so many have come that a look at every entry costs no more than
    /// they did, the others are picked out in one pass and sorted, which for a whole heap is several times quicker.
    pub fn take_due(&mut self, now: Time, due: &mut impl Extend<J>, mut heard: impl FnMut(Time)) {
        let one_by_one = self.heap.len() / DUE_OF_HEAP + DUE_ONE_BY_ONE;
        for _ in 0..one_by_one {
            let Some((deadline, payload)) = self.pop_with_deadline(now) else {
                return;
            };
            heard(deadline);
            due.extend(Some(payload));
        }
        if self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.pick_due(now, due, heard);
        }
    }

    fn pick_due(&mut self, now: Time, due: &mut impl Extend<J>, mut heard: impl FnMut(Time)) {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        let mut later = 0;
        for place in 0..entries.len() {
            if entries[place].0.deadline > now {
                entries.swap(place, later);
                later += 1;
            }
        }
        entries[later..].sort_unstable_by_key(|Reverse(entry)| entry.order());
        let picked = entries[later..].iter();
        due.extend(picked.filter_map(|Reverse(entry)| {
            let payload = self.vacate(entry.slot, entry.age)?;
            heard(entry.deadline);
            Some(payload)
        }));
        if self.live == 0 {
            // The next timers get places in a row again, not in the order in which these were due. Those that are due
            // later are dead.
            later = 0;
            self.slots.clear();
            self.free_no_slot();
        }
        entries.truncate(later);
        self.heap = BinaryHeap::from(entries);
    }

    /// Takes every payload, in no order, and forgets all deadlines.
    pub fn take_all(&mut self) -> Vec<J> {
        self.heap = BinaryHeap::new();
        self.free_no_slot();
        self.live = 0;
        std::mem::take(&mut self.slots)
            .into_iter()
            .filter_map(|slot| match slot {
                Slot::Live { payload, .. } => Some(payload),
                Slot::Free { .. } => None,
            })
            .collect()
    }

    /// Every payload that waits, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &J> {
        self.iter_since(0)
    }

    /// The age of the next timer; those that wait already are older, and their ages smaller.
    pub fn next_age(&self) -> u64 {
        self.next_age
    }

    /// Every payload of that age or younger, in no order.
    pub fn iter_since(&self, age: u64) -> impl Iterator<Item = &J> {
        // No need to look at any if none is so young.
        let slots = if age < self.next_age && self.live > 0 {
            self.slots.as_slice()
        } else {
            &[]
        };
        slots.iter().filter_map(move |slot| match slot {
            Slot::Live {
                age: its_age,
                payload,
            } if *its_age >= age => Some(payload),
            Slot::Live { .. } | Slot::Free { .. } => None,
        })
    }

    /// The timers that are due next, no more than `most`, with their deadlines and in their order.
    ///
    /// It looks once at every entry, and keeps no more of them than it gives.
    pub fn soonest(&self, most: usize) -> Vec<(Time, &J)> {
        let mut soonest = BinaryHeap::new();
        for Reverse(entry) in &self.heap {
            let is_full = soonest.len() >= most;
            if is_full && soonest.peek().is_none_or(|last| entry > last) {
                continue;
            }
            if Self::is_live(&self.slots, entry) {
                if is_full {
                    soonest.pop();
                }
                soonest.push(*entry);
            }
        }
        let payload = |entry: &Entry| match self.slots.get(entry.slot as usize)? {
            Slot::Live { payload, .. } => Some((entry.deadline, payload)),
            Slot::Free { .. } => None,
        };
        soonest
            .into_sorted_vec()
            .iter()
            .filter_map(payload)
            .collect()
    }

    fn free_no_slot(&mut self) {
        self.first_free = NO_SLOT;
        self.first_spare = NO_SLOT;
        self.spare_from = NO_SLOT;
    }

    fn occupy(&mut self, content: Slot<J>) -> u32 {
        if self.first_free == NO_SLOT {
            // So many are needed: none is spare any more.
            self.first_free = self.first_spare;
            self.first_spare = NO_SLOT;
            self.spare_from = NO_SLOT;
        }
        if self.first_free == NO_SLOT {
            let slot = u32::try_from(self.slots.len()).unwrap_or(NO_SLOT);
            assert!(slot != NO_SLOT, "four billion timers wait already");
            self.slots.push(content);
            return slot;
        }
        let slot = self.first_free;
        match std::mem::replace(&mut self.slots[slot as usize], content) {
            Slot::Free { next } => self.first_free = next,
            Slot::Live { .. } => unreachable!("invariant: the free list names free slots only"),
        }
        slot
    }

    fn vacate(&mut self, slot: u32, age: u64) -> Option<J> {
        let place = self.slots.get_mut(slot as usize)?;
        if !matches!(place, Slot::Live { age: its_age, .. } if *its_age == age) {
            return None;
        }
        let first = if slot < self.spare_from {
            &mut self.first_free
        } else {
            &mut self.first_spare
        };
        let content = std::mem::replace(place, Slot::Free { next: *first });
        *first = slot;
        self.live -= 1;
        match content {
            Slot::Live { payload, .. } => Some(payload),
            Slot::Free { .. } => None,
        }
    }

    fn is_live(slots: &[Slot<J>], entry: &Entry) -> bool {
        let slot = slots.get(entry.slot as usize);
        matches!(slot, Some(Slot::Live { age, .. }) if *age == entry.age)
    }

    fn drop_dead_head(&mut self) {
        while self.dead() > 0 {
            match self.heap.peek() {
                Some(Reverse(entry)) if !Self::is_live(&self.slots, entry) => self.heap.pop(),
                Some(_) | None => return,
            };
        }
    }

    fn sweep(&mut self) {
        let slots = &self.slots;
        self.heap
            .retain(|Reverse(entry)| Self::is_live(slots, entry));
        if self.heap.capacity() > 4 * self.heap.len() + DEAD_TIMERS_KEPT {
            self.heap.shrink_to(2 * self.heap.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn timers_come_by_deadline_and_then_by_age() {
        let mut timers = Timers::new();
        for (deadline, name) in [(5, "c"), (3, "a"), (5, "d"), (3, "b"), (5, "e")] {
            timers.insert(at(deadline), name);
        }
        let order: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(5))).collect();
        assert_eq!(order, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn many_that_are_due_come_by_deadline_and_then_by_age() {
        let mut timers = Timers::new();
        let mut expected = Vec::new();
        let mut keys = Vec::new();
        for age in 0_u64..5_000 {
            let deadline = age * 7919 % 1_000;
            keys.push(timers.insert(at(deadline), (deadline, age)));
            if deadline <= 900 && age % 3 > 0 {
                expected.push((deadline, age));
            }
        }
        for key in keys.into_iter().step_by(3) {
            timers.cancel(key);
        }
        expected.sort_unstable();
        let mut due = Vec::new();
        timers.take_due(at(900), &mut due, |_| ());
        assert_eq!(due, expected);
        assert_eq!(timers.next_deadline(), Some(at(901)));
    }

    #[test]
    fn a_heap_of_dead_timers_is_forgotten_with_the_last_that_was_due() {
        let mut timers = Timers::new();
        for _ in 0..100 {
            timers.insert(at(1), "due");
        }
        let cancelled = timers.insert(at(9), "cancelled");
        timers.cancel(cancelled);
        let mut due = Vec::new();
        timers.take_due(at(1), &mut due, |_| ());
        assert_eq!(due.len(), 100);
        assert_eq!((timers.next_deadline(), timers.dead()), (None, 0));
        let next = timers.insert(at(9), "next");
        assert_eq!(timers.cancel(cancelled), None);
        assert_eq!(timers.get(next), Some(&"next"));
    }

    #[test]
    fn a_timer_is_not_due_before_its_deadline() {
        let mut timers = Timers::new();
        timers.insert(at(7), ());
        assert_eq!(timers.pop_due(at(6)), None);
        assert_eq!(timers.pop_due(at(7)), Some(()));
    }

    #[test]
    fn a_cancelled_timer_never_fires_and_is_freed_at_once() {
        let mut timers = Timers::new();
        let payload = Rc::new(());
        let key = timers.insert(at(1), Rc::clone(&payload));
        drop(timers.cancel(key));
        assert_eq!(Rc::strong_count(&payload), 1);
        assert!(timers.pop_due(at(2)).is_none());
        assert!(timers.cancel(key).is_none());
    }

    #[test]
    fn a_key_does_not_name_the_timer_that_reuses_its_slot() {
        let mut timers = Timers::new();
        let old = timers.insert(at(1), "old");
        timers.cancel(old);
        let new = timers.insert(at(1), "new");
        assert_eq!(timers.cancel(old), None);
        assert_eq!(timers.get(new), Some(&"new"));
    }

    #[test]
    fn dead_entries_are_bounded_by_the_living() {
        let mut timers = Timers::new();
        for deadline in 0..100 {
            timers.insert(at(1_000_000 + deadline), ());
        }
        for deadline in 0..100_000 {
            let key = timers.insert(at(deadline), ());
            timers.cancel(key);
            assert!(timers.dead() <= timers.len() + DEAD_TIMERS_KEPT);
        }
        assert_eq!(timers.len(), 100);
    }

    #[test]
    fn the_young_are_told_from_the_old() {
        let mut timers = Timers::new();
        let gone = timers.insert(at(1), "gone");
        timers.insert(at(9), "old");
        timers.cancel(gone);
        let age = timers.next_age();
        assert_eq!(timers.iter_since(age).count(), 0);
        timers.insert(at(3), "young, in a used slot");
        let young: Vec<_> = timers.iter_since(age).copied().collect();
        assert_eq!(young, ["young, in a used slot"]);
    }

    #[test]
    fn the_soonest_come_in_their_order_and_none_that_was_cancelled() {
        let mut timers = Timers::new();
        for deadline in [9, 3, 7, 3, 5, 1] {
            timers.insert(at(deadline), deadline);
        }
        let first = timers.insert(at(1), 100);
        let gone = timers.insert(at(2), 200);
        timers.cancel(gone);
        let soonest = |most| timers.soonest(most);
        assert_eq!(soonest(0), []);
        assert_eq!(soonest(2), [(at(1), &1), (at(1), &100)]);
        let three: Vec<_> = soonest(4).into_iter().map(|(_, name)| *name).collect();
        assert_eq!(three, [1, 100, 3, 3]);
        assert_eq!(soonest(usize::MAX).len(), 7);
        assert_eq!(timers.get(first), Some(&100));
    }

    #[test]
    fn take_all_leaves_nothing_behind() {
        let mut timers = Timers::new();
        let key = timers.insert(at(1), 1);
        timers.insert(at(2), 2);
        timers.cancel(key);
        assert_eq!(timers.take_all(), [2]);
        assert!(timers.is_empty());
        assert_eq!(timers.next_deadline(), None);
    }
}
