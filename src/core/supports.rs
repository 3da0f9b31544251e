//! What a store can do, as far as it is known.

use std::fmt;

use strum::IntoEnumIterator as _;

use crate::api::Capability;

/// What a store is taken to be able to do: everything, but for what it was found unable to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Supports {
    /// One bit for each capability that is lacking.
    lacking: u32,
}

impl Supports {
    /// What a store is taken to support until it has shown otherwise.
    pub const ALL: Self = Self { lacking: 0 };

    /// The same without `capability`.
    #[must_use]
    pub const fn without(self, capability: Capability) -> Self {
        Self {
            lacking: self.lacking | bit(capability),
        }
    }

    /// The same without each of them.
    #[must_use]
    pub fn without_all(self, capabilities: impl IntoIterator<Item = Capability>) -> Self {
        capabilities.into_iter().fold(self, Self::without)
    }

    /// Whether the store can do this.
    pub const fn has(self, capability: Capability) -> bool {
        self.lacking & bit(capability) == 0
    }
}

const fn bit(capability: Capability) -> u32 {
    1 << capability as u32
}

impl fmt::Debug for Supports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacking = Capability::iter().filter(|capability| !self.has(*capability));
        f.write_str("all but ")?;
        f.debug_set().entries(lacking).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_away_is_lacking_and_nothing_else() {
        for lost in Capability::iter() {
            let rest = Supports::ALL.without(lost);
            for capability in Capability::iter() {
                assert_eq!(rest.has(capability), capability != lost, "{rest:?}");
            }
        }
    }
}
