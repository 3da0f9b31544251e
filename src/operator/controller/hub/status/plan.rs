//! `status.plan`: what mode Enforce would do, in the words of the events that would tell of it. Pure.

use super::BucketOutcome;
use crate::controller::Step;

/// Most lines that status holds.
const MOST: usize = 32;

/// A line for each action, for each bucket that is left alone, and for each that nobody could look at.
pub fn lines(outcomes: &[BucketOutcome]) -> Vec<String> {
    bounded(outcomes.iter().flat_map(of_bucket).collect())
}

fn of_bucket(outcome: &BucketOutcome) -> Vec<String> {
    let BucketOutcome { plan, step, .. } = outcome;
    let bucket = &plan.bucket;
    match (&plan.refusal, step) {
        (Some(refusal), _) => vec![format!(
            "leave bucket {bucket} as it is: {}",
            refusal.message
        )],
        (None, Step::Wait { message, .. } | Step::Stalled { message, .. })
            if plan.actions.is_empty() =>
        {
            vec![format!("bucket {bucket} could not be looked at: {message}")]
        }
        _ => plan.actions.iter().map(ToString::to_string).collect(),
    }
}

fn bounded(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > MOST {
        let more = lines.len() - (MOST - 1);
        lines.truncate(MOST - 1);
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(number: usize) -> Vec<String> {
        (1..=number).map(|line| line.to_string()).collect()
    }

    #[test]
    fn a_plan_that_fits_stands_in_full_and_of_a_longer_one_the_rest_is_counted() {
        assert_eq!(bounded(lines(MOST)), lines(MOST));
        let told = bounded(lines(MOST + 1));
        assert_eq!(told.len(), MOST);
        assert_eq!(told[..MOST - 1], lines(MOST - 1));
        assert_eq!(told[MOST - 1], "and 2 more");
    }
}
