//! An order by chance that a number repeats: for tests that look for races.
//!
//! Only neighbours change places: what keeps its place is passed by nobody, and what belongs to one group keeps its
//! order within it.

use std::collections::HashMap;

/// Numbers by chance, the same for the same seed on every machine (`SplitMix64`).
#[derive(Clone, Copy, Debug)]
pub struct Shuffle(u64);

impl Shuffle {
    /// Begins with a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is below a `usize`, and the bias of so few in 2^64 is none"
    )]
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Gives each run of neighbours that have a group another order; those of one group keep theirs. The groups are
    /// those of the items, in their order.
    pub fn rearrange<T>(&mut self, items: &mut [T], groups: &[Option<usize>]) {
        let mut begin = 0;
        for run in groups.split(Option::is_none) {
            if run.len() > 1
                && let Some(own) = items.get_mut(begin..begin + run.len())
            {
                let order = self.order_of(run);
                place_in_order(own, &order);
            }
            begin += run.len() + 1;
        }
    }

    /// For each place, whose it becomes.
    fn order_of(&mut self, groups: &[Option<usize>]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..groups.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, self.below(last + 1));
        }
        let mut places: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
        for (place, item) in order.iter().enumerate() {
            places.entry(groups[*item]).or_default().push(place);
        }
        for places in places.into_values().filter(|places| places.len() > 1) {
            let mut own: Vec<usize> = places.iter().map(|place| order[*place]).collect();
            own.sort_unstable();
            for (place, item) in places.into_iter().zip(own) {
                order[place] = item;
            }
        }
        order
    }
}

fn place_in_order<T>(items: &mut [T], order: &[usize]) {
    for place in 0..items.len() {
        let mut item = order[place];
        // What was there first has been swapped away.
        while item < place {
            item = order[item];
        }
        items.swap(place, item);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn rearrange<T>(seed: u64, items: &mut [T], group: impl Fn(&T) -> Option<usize>) {
        let groups: Vec<_> = items.iter().map(group).collect();
        Shuffle::new(seed).rearrange(items, &groups);
    }

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut shuffle = Shuffle::new(1_234_567);
        assert_eq!(shuffle.next(), 6_457_827_717_110_365_317);
        assert_eq!(shuffle.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn every_order_comes_up_and_a_seed_repeats_its_own() {
        let orders: Vec<_> = (0..1_000)
            .map(|seed| {
                let mut items = [0, 1, 2, 3];
                rearrange(seed, &mut items, |item| Some(*item));
                let mut again = [0, 1, 2, 3];
                rearrange(seed, &mut again, |item| Some(*item));
                assert_eq!(items, again);
                items
            })
            .collect();
        assert_eq!(orders.iter().collect::<HashSet<_>>().len(), 24);
    }

    #[test]
    fn nobody_passes_what_keeps_its_place() {
        for seed in 0..200 {
            let mut items = [1, 2, 3, -1, 4, 5, -2, 6];
            rearrange(seed, &mut items, |item| usize::try_from(*item).ok());
            assert_eq!((items[3], items[6], items[7]), (-1, -2, 6));
            items[..3].sort_unstable();
            items[4..6].sort_unstable();
            assert_eq!(items, [1, 2, 3, -1, 4, 5, -2, 6]);
        }
    }

    #[test]
    fn a_group_keeps_its_order_and_mixes_with_others() {
        let mut orders = HashSet::new();
        for seed in 0..500 {
            let mut items = [(7, 0), (8, 0), (7, 1), (9, 0), (7, 2)];
            rearrange(seed, &mut items, |item| Some(item.0));
            let own: Vec<_> = items.iter().filter(|item| item.0 == 7).collect();
            assert!(own.is_sorted());
            orders.insert(items);
        }
        // Five in any order, of which three are in theirs.
        assert_eq!(orders.len(), 20);
    }
}
