//! From a token to its source: slots, each with the generation of its occupant.
//!
//! Vacating a slot changes its generation, so a token names one registration for all time (until four billion others
//! have used the same slot).

use crate::driver::Token;

#[derive(Debug)]
struct Slot<S> {
    generation: u32,
    source: Option<S>,
}

/// Sources by token.
#[derive(Debug)]
pub struct Registry<S> {
    slots: Vec<Slot<S>>,
    free: Vec<u32>,
}

impl<S> Default for Registry<S> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<S> Registry<S> {
    /// No sources.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many sources there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is no source.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives a source a token.
    ///
    /// # Panics
    /// If there are four billion sources already.
    pub fn insert(&mut self, source: S) -> Token {
        self.insert_with(|_| source)
    }

    /// Makes a source that knows its own token.
    ///
    /// # Panics
    /// If there are four billion sources already.
    pub fn insert_with(&mut self, make: impl FnOnce(Token) -> S) -> Token {
        if let Some(index) = self.free.last().copied() {
            let slot = &mut self.slots[index as usize];
            let token = Token::new(index, slot.generation);
            slot.source = Some(make(token));
            self.free.pop();
            return token;
        }
        let index = u32::try_from(self.slots.len())
            .ok()
            .filter(|index| *index < u32::MAX);
        let index = index.expect("four billion sources are registered already");
        let token = Token::new(index, 0);
        let source = Some(make(token));
        self.slots.push(Slot {
            generation: 0,
            source,
        });
        token
    }

    /// Takes a source back; its token names nothing from now on.
    pub fn remove(&mut self, token: Token) -> Option<S> {
        let slot = self
            .slots
            .get_mut(token.slot() as usize)
            .filter(|slot| slot.generation == token.generation())?;
        let source = slot.source.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.slot());
        Some(source)
    }

    /// The source of a token, unless it was removed.
    pub fn get(&self, token: Token) -> Option<&S> {
        let slot = self.slots.get(token.slot() as usize)?;
        if slot.generation == token.generation() {
            slot.source.as_ref()
        } else {
            None
        }
    }

    /// The source of a token, to be changed.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut S> {
        let slot = self.slots.get_mut(token.slot() as usize)?;
        if slot.generation == token.generation() {
            slot.source.as_mut()
        } else {
            None
        }
    }

    /// Every source with its token.
    pub fn iter(&self) -> impl Iterator<Item = (Token, &S)> {
        (0_u32..).zip(&self.slots).filter_map(|(index, slot)| {
            slot.source
                .as_ref()
                .map(|source| (Token::new(index, slot.generation), source))
        })
    }

    /// Takes every source; no token names anything from now on.
    pub fn take_all(&mut self) -> Vec<S> {
        let tokens: Vec<Token> = self.iter().map(|(token, _)| token).collect();
        tokens
            .into_iter()
            .filter_map(|token| self.remove(token))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_does_not_name_the_next_occupant_of_its_slot() {
        let mut registry = Registry::new();
        let old = registry.insert("old");
        assert_eq!(registry.remove(old), Some("old"));
        let new = registry.insert("new");
        assert_eq!(old.slot(), new.slot());
        assert_eq!(registry.get(old), None);
        assert_eq!(registry.remove(old), None);
        assert_eq!(registry.get(new), Some(&"new"));
    }

    #[test]
    fn take_all_forgets_every_token() {
        let mut registry = Registry::new();
        let tokens = [registry.insert(1), registry.insert(2)];
        assert_eq!(registry.take_all(), [1, 2]);
        assert!(registry.is_empty());
        assert!(tokens.iter().all(|token| registry.get(*token).is_none()));
    }
}
