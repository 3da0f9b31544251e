//! `status.plan`: what mode Enforce would do, in the words of the events that would tell of it. Pure.

use hubstorage_core::plan::{Deed, Refusal};

use super::{BucketOutcome, RoleOutcome};
use crate::controller::Step;

/// Most lines that status holds.
const MOST: usize = 32;

/// A line for each action, for each bucket or role that is left alone, and for each that nobody could
/// look at.
pub fn lines(outcomes: &[BucketOutcome], role: Option<&RoleOutcome>) -> Vec<String> {
    let of_bucket = |BucketOutcome { plan, step, .. }: &BucketOutcome| {
        let what = format!("bucket {}", plan.bucket);
        of(&what, plan.refusal.as_ref(), step, &plan.actions)
    };
    let of_role = |RoleOutcome {
                       name, plan, step, ..
                   }: &RoleOutcome| {
        let what = format!("role {name}");
        of(&what, plan.refusal.as_ref(), step, &plan.actions)
    };
    let buckets = outcomes.iter().flat_map(of_bucket);
    bounded(buckets.chain(role.into_iter().flat_map(of_role)).collect())
}

fn of(what: &str, refusal: Option<&Refusal>, step: &Step, actions: &[impl Deed]) -> Vec<String> {
    match (refusal, step) {
        (Some(refusal), _) => vec![format!("leave {what} as it is: {}", refusal.message)],
        (None, Step::Wait { message, .. } | Step::Stalled { message, .. })
            if actions.is_empty() =>
        {
            vec![format!("{what} could not be looked at: {message}")]
        }
        _ => actions.iter().map(ToString::to_string).collect(),
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
