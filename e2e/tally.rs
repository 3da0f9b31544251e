//! Counting tests, from what cargo and libtest print.

use std::iter::Sum;
use std::ops::Add;

/// How many tests passed, failed and were skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed, and programs that failed before they could say which.
    pub failed: usize,
    /// Tests that did not run: ignored ones, and whole tiers.
    pub skipped: usize,
}

impl Tally {
    /// One that passed.
    pub const PASSED: Self = Self {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    /// One that failed.
    pub const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        skipped: 0,
    };
    /// One that was skipped.
    pub const SKIPPED: Self = Self {
        passed: 0,
        failed: 0,
        skipped: 1,
    };

    /// The counts in a line such as
    /// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s`.
    pub fn of_line(line: &str) -> Option<Self> {
        let (_, counts) = line.split_once("test result: ")?;
        let count = |what: &str| {
            let counted = counts
                .split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(what));
            counted?.trim().parse().ok()
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("ignored")?,
        })
    }

    /// The counts of a command that ended: one failure more if it failed without a failed test,
    /// say because something did not compile.
    pub fn ended(self, success: bool) -> Self {
        if success || self.failed > 0 {
            self
        } else {
            self + Self::FAILED
        }
    }

    /// Whether this is good enough; `all_required` takes a skipped test for a failed one.
    pub fn is_good(self, all_required: bool) -> bool {
        self.failed == 0 && self.passed > 0 && (self.skipped == 0 || !all_required)
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_counted() {
        let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.10s";

        assert_eq!(
            Tally::of_line(line),
            Some(Tally {
                passed: 5,
                failed: 2,
                skipped: 1
            })
        );
    }

    #[test]
    fn other_lines_are_not() {
        assert_eq!(Tally::of_line("test a_name ... ok"), None);
    }

    #[test]
    fn a_command_that_fails_without_a_failed_test_is_a_failure() {
        assert_eq!(Tally::PASSED.ended(false).failed, 1);
    }

    #[test]
    fn a_failed_test_is_not_counted_twice() {
        assert_eq!(Tally::FAILED.ended(false).failed, 1);
    }

    #[test]
    fn a_skipped_test_is_good_enough_only_when_not_all_are_required() {
        let tally = Tally::PASSED + Tally::SKIPPED;

        assert!(tally.is_good(false));
        assert!(!tally.is_good(true));
    }

    #[test]
    fn no_test_at_all_is_not_good() {
        assert!(!Tally::default().is_good(false));
    }
}
