//! Who comes first when many sources are ready: who was not served in the turn before.
//!
//! The kernel reports what has been ready for long before what has become ready since. So beside many connections that
//! are ready in every turn, one that is not waits for the rest of a turn and then for all of the next. With this it waits
//! for the rest of a turn. Everybody is served once in a turn, whoever comes first; among those that were served in the
//! turn before, and among the others, the order is the kernel's, and where few are ready, it is for all.

use crate::driver::{Interest, Token};
use crate::limits;

/// Who was served when, by their slots; a loop has one.
#[derive(Debug, Default)]
pub struct Order {
    turn: u32,
    /// The last turn of many in which each slot had an event.
    turns: Vec<u32>,
    later: Vec<(Token, Interest)>,
}

/// The events of one turn: each is asked for, [now](Self::comes_now) or [last](Self::come_last).
#[derive(Debug)]
pub struct OrderedTurn<'a> {
    order: &'a mut Order,
    has_many: bool,
}

impl Order {
    /// A turn begins with so many events.
    #[inline]
    pub const fn begin_turn(&mut self, events: usize) -> OrderedTurn<'_> {
        self.turn = self.turn.wrapping_add(1);
        OrderedTurn {
            order: self,
            has_many: events >= limits::READY_TO_BE_ORDERED,
        }
    }
}

impl OrderedTurn<'_> {
    /// Whether an event comes before the others of its turn; else it [comes last](Self::come_last).
    #[inline]
    pub fn comes_now(&mut self, token: Token, heard: Interest) -> bool {
        !self.has_many || self.is_new(token, heard)
    }

    fn is_new(&mut self, token: Token, heard: Interest) -> bool {
        let Order { turn, turns, later } = &mut *self.order;
        let slot = token.slot() as usize;
        if slot >= turns.len() {
            // No slot is far beyond all others.
            turns.resize(slot + 1, turn.wrapping_sub(2));
        }
        let last = std::mem::replace(&mut turns[slot], *turn);
        let is_new = last != turn.wrapping_sub(1);
        if !is_new {
            later.push((token, heard));
        }
        is_new
    }

    /// The events that did not come before, in their order.
    #[inline]
    pub fn come_last(self) -> impl Iterator<Item = (Token, Interest)> {
        self.order.later.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = limits::READY_TO_BE_ORDERED;

    fn serve(order: &mut Order, slots: &[u32], events: usize) -> Vec<u32> {
        let mut turn = order.begin_turn(events);
        let mut served = slots.to_vec();
        served.retain(|slot| turn.comes_now(Token::new(*slot, 0), Interest::READ));
        served.extend(turn.come_last().map(|(token, _)| token.slot()));
        served
    }

    #[test]
    fn who_was_not_served_in_the_turn_before_comes_first() {
        let mut order = Order::default();
        assert_eq!(serve(&mut order, &[1, 2, 3], MANY), [1, 2, 3]);
        assert_eq!(serve(&mut order, &[1, 2, 3, 9, 4], MANY), [9, 4, 1, 2, 3]);
        assert_eq!(serve(&mut order, &[5, 2], MANY), [5, 2]);
        assert_eq!(serve(&mut order, &[2, 1, 5], MANY), [1, 2, 5]);
    }

    #[test]
    fn the_kernel_says_in_which_order_few_are_served() {
        let mut order = Order::default();
        assert_eq!(serve(&mut order, &[1, 2], MANY), [1, 2]);
        assert_eq!(serve(&mut order, &[1, 2, 3], MANY - 1), [1, 2, 3]);
        // And they do not count.
        assert_eq!(serve(&mut order, &[2, 4], MANY), [2, 4]);
    }
}
