//! What others' statements in the buckets' policies, and the buckets' access control lists, grant. Pure.

use hubstorage_core::api::{BucketStatus, HubStorageStatus, StorageProvider};
use hubstorage_core::bucket_policy::Grant;

use super::BucketOutcome;

/// Most grants of one bucket that are named.
const MOST: usize = 8;

/// Grants in words, but for those to the provider's own vending role: by that users get in.
pub fn words(grants: &[Grant], provider: Option<&StorageProvider>) -> Vec<String> {
    let s3 = provider.and_then(|provider| provider.spec.s3.as_ref());
    let vending = s3.and_then(|s3| s3.vending.as_ref());
    let role = vending.and_then(|vending| vending.role.arn.as_ref());
    let is_ours = |grant: &&Grant| {
        let mut principals = grant.principals.iter();
        role.is_some_and(|role| principals.all(|principal| principal == role))
    };
    let others: Vec<&Grant> = grants.iter().filter(|grant| !is_ours(grant)).collect();
    let mut words: Vec<String> = others.iter().take(MOST).map(ToString::to_string).collect();
    if let Some(more) = others.len().checked_sub(MOST).filter(|more| *more > 0) {
        words.push(format!("{more} more grants"));
    }
    words
}

/// What is granted on each bucket, in words, with the bucket before them. Of a bucket that could
/// not be looked at, what status tells of it.
pub fn seen(
    outcomes: &[BucketOutcome],
    before: Option<&HubStorageStatus>,
    provider: Option<&StorageProvider>,
) -> Vec<String> {
    let of = |outcome: &BucketOutcome| {
        let (plan, bucket) = (&outcome.plan, outcome.plan.bucket.as_str());
        if plan.origin.is_some() || plan.refusal.is_some() {
            return told(bucket, &words(&plan.grants, provider));
        }
        let mut known = before.into_iter().flat_map(|before| &before.buckets);
        let known = known.find(|known| known.bucket_name == bucket);
        known
            .map(|known| told(bucket, &known.grants))
            .unwrap_or_default()
    };
    outcomes.iter().flat_map(of).collect()
}

/// The same, as status tells it.
pub fn known(buckets: &[BucketStatus]) -> Vec<String> {
    let of = |bucket: &BucketStatus| told(&bucket.bucket_name, &bucket.grants);
    buckets.iter().flat_map(of).collect()
}

fn told(bucket: &str, grants: &[String]) -> Vec<String> {
    let told = |grant: &String| format!("bucket {bucket}: {grant}");
    grants.iter().map(told).collect()
}
