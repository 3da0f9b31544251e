//! Mode Observe: what mode Enforce would do. Reads the store, and writes nothing to it.

use hubstorage_core::api::HubStorage;
use hubstorage_core::plan::Declared;

use super::{BucketOutcome, HubError, Target, learned, look, status};
use crate::controller::Context;

/// Looks at all buckets and says of each what would be done.
///
/// # Errors
/// If the API server fails.
pub async fn all(
    hub: &HubStorage,
    target: &Target,
    context: &Context,
) -> Result<Vec<BucketOutcome>, HubError> {
    let remembered = status::remembered(hub, &target.buckets);
    let look::Looked { plans, lacking } =
        look::all(target, &target.buckets, &remembered, target.supports).await;
    let outcome = |(declared, plan): (&Declared, _)| {
        let before = remembered.get(&declared.name).cloned().unwrap_or_default();
        match plan {
            Ok(plan) => BucketOutcome::foreseen(plan, target, before),
            Err(error) => BucketOutcome::unobserved(declared, target, &error, before),
        }
    };
    let outcomes: Vec<_> = target.buckets.iter().zip(plans).map(outcome).collect();
    learned(target, &lacking, context).await?;
    Ok(outcomes)
}
