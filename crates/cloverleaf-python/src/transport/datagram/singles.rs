//! When a socket whose events bring single datagrams is asked for more than one.
//!
//! Asking costs a call that mostly finds nothing, so it is done after some such events only, and after more of them the
//! more often it was in vain.

use cloverleaf::limits;

/// Counts the events with a single datagram, to tell when to ask whether more are there.
#[derive(Debug)]
pub(super) struct Singles {
    /// How many there were since it was asked last.
    count: u32,
    /// After how many it is asked.
    patience: u32,
}

impl Default for Singles {
    fn default() -> Self {
        Self {
            count: 0,
            patience: limits::SINGLES_BEFORE_PROBE,
        }
    }
}

impl Singles {
    /// Counts one; whether it is time to ask.
    pub(super) fn count(&mut self) -> bool {
        self.count += 1;
        let is_time = self.count >= self.patience;
        if is_time {
            self.count = 0;
        }
        is_time
    }

    /// It was asked. Each time in vain, the next one comes half as soon.
    pub(super) fn probed(&mut self, has_more: bool) {
        self.patience = if has_more {
            limits::SINGLES_BEFORE_PROBE
        } else {
            (self.patience * 2).min(limits::MOST_SINGLES_BEFORE_PROBE)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn singles_until_asked(singles: &mut Singles) -> u32 {
        let until = (1..1000).find(|_| singles.count());
        until.expect("it is asked at last")
    }

    #[test]
    fn each_time_in_vain_the_next_one_comes_half_as_soon() {
        let mut singles = Singles::default();
        let mut expected = limits::SINGLES_BEFORE_PROBE;
        for _ in 0..10 {
            assert_eq!(singles_until_asked(&mut singles), expected);
            singles.probed(false);
            expected = (expected * 2).min(limits::MOST_SINGLES_BEFORE_PROBE);
        }
        assert_eq!(expected, limits::MOST_SINGLES_BEFORE_PROBE);
    }

    #[test]
    fn once_there_were_more_it_is_asked_soon_again() {
        let mut singles = Singles::default();
        for has_more in [false, false, true] {
            singles_until_asked(&mut singles);
            singles.probed(has_more);
        }
        assert_eq!(
            singles_until_asked(&mut singles),
            limits::SINGLES_BEFORE_PROBE
        );
    }
}
