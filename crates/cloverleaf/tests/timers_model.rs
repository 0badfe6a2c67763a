//! `Timers` beside a list that is searched from end to end.

use cloverleaf::limits::DEAD_TIMERS_KEPT;
use cloverleaf::{Time, TimerKey, Timers};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    /// Cancels one of all timers that there ever were.
    Cancel(prop::sample::Index),
    /// More than are taken from the heap one by one.
    InsertMany(Vec<u64>),
    /// Takes those that are due by then one by one, or all at once.
    Advance(u64, bool),
    TakeAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u64..50).prop_map(Step::Insert),
        6 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        1 => prop::collection::vec(0_u64..50, 33..40).prop_map(Step::InsertMany),
        4 => (0_u64..20, any::<bool>()).prop_map(|(by, at_once)| Step::Advance(by, at_once)),
        1 => Just(Step::TakeAll),
    ]
}

/// Deadline and age of each timer that waits, in no order.
#[derive(Default)]
struct Model {
    waiting: Vec<(u64, usize)>,
    now: u64,
}

impl Model {
    fn next(&self) -> Option<(u64, usize)> {
        self.waiting.iter().min().copied()
    }

    fn remove(&mut self, age: usize) -> Option<usize> {
        let place = self.waiting.iter().position(|(_, its)| *its == age)?;
        Some(self.waiting.swap_remove(place).1)
    }

    fn pop_due(&mut self) -> Option<usize> {
        let (deadline, age) = self.next()?;
        (deadline <= self.now).then(|| self.remove(age)).flatten()
    }
}

fn take(step: &Step, model: &mut Model, timers: &mut Timers<usize>, keys: &mut Vec<TimerKey>) {
    match step {
        Step::Insert(delay) => {
            let deadline = model.now + *delay;
            model.waiting.push((deadline, keys.len()));
            keys.push(timers.insert(Time::from_nanos(deadline), keys.len()));
        }
        Step::InsertMany(delays) => {
            for delay in delays {
                take(&Step::Insert(*delay), model, timers, keys);
            }
        }
        Step::Cancel(_) if keys.is_empty() => {}
        Step::Cancel(index) => {
            let age = index.index(keys.len());
            assert_eq!(timers.cancel(keys[age]), model.remove(age));
            assert_eq!(timers.get(keys[age]), None);
        }
        Step::Advance(by, at_once) => {
            model.now += *by;
            let now = Time::from_nanos(model.now);
            let expected: Vec<_> = std::iter::from_fn(|| model.pop_due()).collect();
            let mut due = Vec::new();
            if *at_once {
                timers.take_due(now, &mut due, |_| ());
            } else {
                due.extend(std::iter::from_fn(|| timers.pop_due(now)));
            }
            assert_eq!(due, expected);
            assert_eq!(timers.pop_due(now), None);
        }
        Step::TakeAll => {
            let mut taken = timers.take_all();
            taken.sort_unstable();
            let mut expected: Vec<_> = model.waiting.drain(..).map(|(_, age)| age).collect();
            expected.sort_unstable();
            assert_eq!(taken, expected);
        }
    }
}

proptest! {
    #[test]
    fn timers_do_what_a_plain_list_does(steps in prop::collection::vec(step(), 0..400)) {
        let (mut model, mut timers, mut keys) = (Model::default(), Timers::new(), Vec::new());
        for step in steps {
            take(&step, &mut model, &mut timers, &mut keys);
            prop_assert_eq!(timers.len(), model.waiting.len());
            prop_assert_eq!(timers.is_empty(), model.waiting.is_empty());
            prop_assert_eq!(timers.iter().count(), model.waiting.len());
            let next = model.next().map(|(deadline, _)| Time::from_nanos(deadline));
            prop_assert_eq!(timers.next_deadline(), next);
            prop_assert!(timers.dead() <= timers.len() + DEAD_TIMERS_KEPT);
        }
    }
}
