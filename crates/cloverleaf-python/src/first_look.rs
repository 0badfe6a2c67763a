//! Whether a loop asks the kernel once before it goes to sleep.
//!
//! To go to sleep and come back takes more than the call: the loop tells other threads of it, lets go of Python and gets it
//! back, and reads the clock twice. All that is in vain where something has come already, as between two ends of a
//! conversation on one loop, or with peers that are as fast as the loop. Then it asks first, for as long as that finds
//! something. Where it does not, it costs one call, and is tried the less often the more often it was in vain.

use cloverleaf::limits;

/// What came of it lately.
#[derive(Debug, Default)]
pub(crate) struct FirstLook {
    /// Sleeps that come without it.
    left: u32,
    /// How many there are after the next time that it is in vain.
    span: u32,
    /// How often in a row it has found something.
    found: u32,
}

impl FirstLook {
    /// Whether the loop should ask first, now that it has nothing to do.
    #[inline]
    pub(crate) const fn is_due(&mut self) -> bool {
        let is_due = self.left == 0;
        if !is_due {
            self.left -= 1;
        }
        is_due
    }

    /// It was asked.
    #[inline]
    pub(crate) const fn note(&mut self, has_found: bool) {
        if has_found {
            self.found = self.found.saturating_add(1);
            return;
        }
        match std::mem::replace(&mut self.found, 0) {
            0 if self.span == 0 => self.span = 1,
            0 if self.span < limits::SLEEPS_WITHOUT_LOOK => self.span *= 2,
            // What they have saved makes up for this one.
            limits::LOOKS_THAT_PAY.. => self.span = 0,
            _ => {}
        }
        self.left = self.span;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sleeps before the next look.
    fn sleeps(look: &mut FirstLook) -> usize {
        let sleeps = (0..1000).find(|_| look.is_due());
        sleeps.expect("it looks at last")
    }

    #[test]
    fn the_more_often_it_is_in_vain_the_less_often_it_is_tried() {
        let mut look = FirstLook::default();
        let found: Vec<_> = (0..9)
            .map(|_| {
                let before = sleeps(&mut look);
                look.note(false);
                before
            })
            .collect();
        assert_eq!(found, [0, 1, 2, 4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn it_goes_on_while_it_finds_something() {
        let mut look = FirstLook::default();
        look.note(false);
        assert_eq!(sleeps(&mut look), 1);
        for _ in 0..100 {
            look.note(true);
            assert!(look.is_due());
        }
        look.note(false);
        assert!(look.is_due(), "it paid");
    }

    #[test]
    fn it_finds_too_little_to_be_tried_more_often() {
        let mut look = FirstLook::default();
        for has_found in [false, false, false, true, false] {
            sleeps(&mut look);
            look.note(has_found);
        }
        assert_eq!(sleeps(&mut look), 4);
    }
}
