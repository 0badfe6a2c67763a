//! The room of timers that are gone, which a loop at rest gives back.
//!
//! The heap may hold entries of cancelled timers whose slots are gone, and which later are others': ages tell them apart.

use super::{NO_SLOT, Slot, Timers};
use crate::limits::ROOM_KEPT;

impl<J> Timers<J> {
    /// Gives back half of the room that timers had which are gone, if it is much; again and again, it gives all of it.
    pub fn halve_room(&mut self) {
        if self.heap.capacity() > ROOM_KEPT {
            self.heap.shrink_to(ROOM_KEPT.max(self.heap.capacity() / 2));
        }
        if self.slots.capacity() > ROOM_KEPT {
            self.forget_free_slots();
            let half = ROOM_KEPT.max(self.slots.capacity() / 2);
            self.slots.shrink_to(half);
        }
    }

    /// Forgets the slots behind the last one in use, if those are the most; if they are not, new timers get others first,
    /// so that those become the most.
    fn forget_free_slots(&mut self) {
        let half = ROOM_KEPT.max(self.slots.len() / 2);
        if self.live > half {
            return;
        }
        let is_live = |slot: &Slot<J>| matches!(slot, Slot::Live { .. });
        let used = self.slots.iter().rposition(is_live).map_or(0, |at| at + 1);
        let spare_from = u32::try_from(half).unwrap_or(NO_SLOT);
        if used <= half {
            self.slots.truncate(used);
        } else if self.spare_from == spare_from {
            return;
        }
        self.free_no_slot();
        self.spare_from = spare_from;
        for (place, content) in self.slots.iter_mut().enumerate().rev() {
            if let Slot::Free { next } = content {
                let place = u32::try_from(place).unwrap_or(NO_SLOT);
                let first = if place < spare_from {
                    &mut self.first_free
                } else {
                    &mut self.first_spare
                };
                *next = std::mem::replace(first, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn the_room_of_timers_that_are_gone_is_given_back() {
        let mut timers = Timers::new();
        let first = timers.insert(at(1), 0);
        let keys: Vec<_> = (1..200_000).map(|n| timers.insert(at(9), n)).collect();
        let kept = timers.insert(at(2), 200_000);
        for key in keys.iter().chain([&first]) {
            timers.cancel(*key);
        }
        timers.halve_room();
        assert!(timers.slots.capacity() > 200_000, "the last slot is in use");
        assert_eq!(timers.cancel(kept), Some(200_000));
        let early = timers.insert(at(3), 1);
        for _ in 0..8 {
            timers.halve_room();
        }
        // The heap still has entries of the dead, whose slots are gone or will be others'.
        assert!(timers.slots.capacity() <= ROOM_KEPT);
        assert!(timers.heap.capacity() <= ROOM_KEPT);
        let late: Vec<_> = (2..500).map(|n| timers.insert(at(10), n)).collect();
        assert!(keys.iter().all(|key| timers.cancel(*key).is_none()));
        assert_eq!(timers.get(early), Some(&1));
        assert!(
            late.iter()
                .zip(2..)
                .all(|(key, n)| timers.get(*key) == Some(&n))
        );
        let mut due = Vec::new();
        timers.take_due(at(10), &mut due, |_| ());
        assert_eq!(due, (1..500).collect::<Vec<_>>());
    }

    #[test]
    fn a_timer_that_comes_again_does_not_keep_the_room_of_a_burst() {
        let mut timers = Timers::new();
        let keys: Vec<_> = (0..200_000).map(|n| timers.insert(at(9), n)).collect();
        for key in keys {
            timers.cancel(key);
        }
        // As a loop sleeps until its next timer, of which there always is one.
        let mut next = timers.insert(at(3), 1);
        for _ in 0..8 {
            timers.halve_room();
            let following = timers.insert(at(3), 1);
            assert_eq!(timers.cancel(next), Some(1));
            next = following;
        }
        assert!(timers.slots.capacity() <= ROOM_KEPT);
        // All are used if as many are needed again.
        let many: Vec<_> = (0..100_000).map(|n| timers.insert(at(9), n)).collect();
        for key in &many[..90_000] {
            timers.cancel(*key);
        }
        timers.halve_room();
        let len = timers.slots.len();
        let again: Vec<_> = (0..90_000).map(|n| timers.insert(at(9), n)).collect();
        assert_eq!(timers.slots.len(), len);
        let all = again
            .iter()
            .zip(0..)
            .chain(many[90_000..].iter().zip(90_000..));
        assert!(all.into_iter().all(|(key, n)| timers.get(*key) == Some(&n)));
    }
}
