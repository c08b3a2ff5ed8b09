//! Which containers are made alike, also across reloads of the configuration.

use std::sync::{Mutex, PoisonError};

use crate::engine::docker::{LaunchConfig, Sandbox};
use crate::pool::Edition;

/// Numbers for what containers are made of: equal ones have equal numbers.
#[derive(Debug, Default)]
pub(super) struct Editions(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    last: u64,
    editions: Vec<(Recipe, Edition)>,
}

/// What containers are made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recipe {
    pub(super) launch: LaunchConfig,
    pub(super) sandbox: Sandbox,
    /// Whether sockets in them can be dialled and listened on.
    pub(super) forwards: bool,
}

impl Editions {
    /// The recipe's number, as it was if it is known.
    pub(super) fn of(&self, recipe: &Recipe) -> Edition {
        if let Some(edition) = self.find(recipe) {
            return edition;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.last += 1;
        let edition = Edition(known.last);
        known.editions.push((recipe.clone(), edition));
        edition
    }

    /// The recipe's number, if it is known.
    pub(super) fn find(&self, recipe: &Recipe) -> Option<Edition> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.editions.iter().find(|(other, _)| other == recipe).map(|(_, edition)| *edition)
    }

    /// Forgets all but these.
    pub(super) fn keep(&self, used: &[Edition]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.editions.retain(|(_, edition)| used.contains(edition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_keeps_its_number_for_as_long_as_it_is_used() {
        let editions = Editions::default();
        let recipe = |sandbox| Recipe { launch: LaunchConfig::default(), sandbox, forwards: false };
        let first = editions.of(&recipe(Sandbox::Standard));
        let second = editions.of(&recipe(Sandbox::Off));

        assert_ne!(first, second);
        assert_eq!(editions.find(&recipe(Sandbox::Off)), Some(second));
        assert_eq!(editions.of(&recipe(Sandbox::Standard)), first);
        editions.keep(&[second]);
        assert_eq!(editions.of(&recipe(Sandbox::Off)), second);
        assert!(![first, second].contains(&editions.of(&recipe(Sandbox::Standard))));
    }
}
