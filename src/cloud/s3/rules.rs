//! Lifecycle rules between S3's spelling and [`Effect`], by meaning.

use std::num::NonZeroU16;

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, NoncurrentVersionExpiration, Transition, TransitionStorageClass,
};
use aws_smithy_types::error::operation::BuildError;
use hubstorage_core::lifecycle::{Days, Effect, Rule, RuleBody, StorageClass};

/// What a rule of the store means.
pub(super) fn read(rule: &LifecycleRule) -> Rule<LifecycleRule> {
    let body = match effect(rule) {
        Some(effect) => RuleBody::Known(effect),
        None => RuleBody::Other(rule.clone()),
    };
    Rule {
        id: rule.id.clone().unwrap_or_default(),
        body,
    }
}

/// A rule as the store takes it.
///
/// # Errors
/// The SDK's, for a rule without a status; every rule made here has one.
pub(super) fn write(rule: Rule<LifecycleRule>) -> Result<LifecycleRule, BuildError> {
    let effect = match rule.body {
        RuleBody::Other(other) => return Ok(other),
        RuleBody::Known(effect) => effect,
    };
    let builder = LifecycleRule::builder()
        .id(rule.id)
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("").build());
    match effect {
        Effect::Expire(days) => {
            builder.expiration(LifecycleExpiration::builder().days(count(days)).build())
        }
        Effect::AbortIncompleteUploads(days) => builder.abort_incomplete_multipart_upload(
            AbortIncompleteMultipartUpload::builder()
                .days_after_initiation(count(days))
                .build(),
        ),
        Effect::ExpireNoncurrent(days) => builder.noncurrent_version_expiration(
            NoncurrentVersionExpiration::builder()
                .noncurrent_days(count(days))
                .build(),
        ),
        Effect::RemoveExpiredDeleteMarkers => builder.expiration(
            LifecycleExpiration::builder()
                .expired_object_delete_marker(true)
                .build(),
        ),
        Effect::Transition(days, class) => builder.transitions(
            Transition::builder()
                .days(count(days))
                .storage_class(TransitionStorageClass::from(class.to_string().as_str()))
                .build(),
        ),
    }
    .build()
}

fn effect(rule: &LifecycleRule) -> Option<Effect> {
    let plain = rule.status == ExpirationStatus::Enabled
        && is_whole_bucket(rule)
        && rule.noncurrent_version_transitions().is_empty();
    if !plain {
        return None;
    }
    match (
        &rule.expiration,
        &rule.noncurrent_version_expiration,
        &rule.abort_incomplete_multipart_upload,
        rule.transitions(),
    ) {
        (None, None, None, [one]) if one.date.is_none() => {
            let class = one.storage_class()?.as_str().parse::<StorageClass>().ok()?;
            Some(Effect::Transition(days(one.days?)?, class))
        }
        (Some(expiration), None, None, []) => {
            match (
                expiration.days,
                &expiration.date,
                expiration.expired_object_delete_marker,
            ) {
                (Some(n), None, None | Some(false)) => days(n).map(Effect::Expire),
                (None, None, Some(true)) => Some(Effect::RemoveExpiredDeleteMarkers),
                _ => None,
            }
        }
        (None, Some(noncurrent), None, []) if noncurrent.newer_noncurrent_versions.is_none() => {
            noncurrent
                .noncurrent_days
                .and_then(days)
                .map(Effect::ExpireNoncurrent)
        }
        (None, None, Some(abort), []) => abort
            .days_after_initiation
            .and_then(days)
            .map(Effect::AbortIncompleteUploads),
        _ => None,
    }
}

/// The whole bucket is spelled in four ways: an empty prefix in the filter, in the rule itself
/// (before 2012, and what Ceph RGW answers), an empty filter, or nothing at all.
fn is_whole_bucket(rule: &LifecycleRule) -> bool {
    #[expect(deprecated, reason = "stores still answer with it")]
    let outer = rule.prefix.as_deref().unwrap_or_default();
    let filter = rule.filter.as_ref().is_none_or(|filter| {
        filter.prefix.as_deref().unwrap_or_default().is_empty()
            && filter.tag.is_none()
            && filter.and.is_none()
            && filter.object_size_greater_than.is_none()
            && filter.object_size_less_than.is_none()
    });
    outer.is_empty() && filter
}

fn days(n: i32) -> Option<Days> {
    u16::try_from(n).ok().and_then(NonZeroU16::new).map(Days)
}

fn count(days: Days) -> i32 {
    i32::from(days.0.get())
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{Tag, Transition};

    use super::*;

    const WEEK: Days = Days(NonZeroU16::new(7).unwrap());

    fn expiring() -> aws_sdk_s3::types::builders::LifecycleRuleBuilder {
        LifecycleRule::builder()
            .id("any")
            .status(ExpirationStatus::Enabled)
            .expiration(LifecycleExpiration::builder().days(7).build())
    }

    fn meaning(builder: aws_sdk_s3::types::builders::LifecycleRuleBuilder) -> Option<Effect> {
        effect(&builder.build().unwrap())
    }

    #[test]
    fn every_effect_reads_back_as_itself() {
        for effect in [
            Effect::Expire(WEEK),
            Effect::AbortIncompleteUploads(WEEK),
            Effect::ExpireNoncurrent(WEEK),
            Effect::RemoveExpiredDeleteMarkers,
            Effect::Transition(WEEK, StorageClass::GlacierIr),
        ] {
            let rule = Rule {
                id: effect.rule_id(),
                body: RuleBody::Known(effect),
            };
            assert_eq!(read(&write(rule.clone()).unwrap()), rule);
        }
    }

    #[test]
    #[expect(deprecated)]
    fn every_spelling_of_the_whole_bucket_means_the_same() {
        let filter = |prefix: Option<&str>| {
            LifecycleRuleFilter::builder()
                .set_prefix(prefix.map(str::to_owned))
                .build()
        };
        for rule in [
            expiring(),
            expiring().prefix(""),
            expiring().filter(filter(None)),
            expiring().filter(filter(Some(""))),
        ] {
            assert_eq!(meaning(rule), Some(Effect::Expire(WEEK)));
        }
    }

    #[test]
    #[expect(deprecated)]
    fn a_rule_on_a_part_of_the_bucket_or_with_more_than_one_effect_is_not_ours() {
        let filter = LifecycleRuleFilter::builder();
        let tag = Tag::builder().key("k").value("v").build().unwrap();
        for rule in [
            expiring().prefix("part/"),
            expiring().filter(filter.clone().prefix("part/").build()),
            expiring().filter(filter.clone().tag(tag).build()),
            expiring().filter(filter.object_size_greater_than(1).build()),
            expiring().status(ExpirationStatus::Disabled),
            expiring().transitions(Transition::builder().days(1).build()),
            expiring().abort_incomplete_multipart_upload(
                AbortIncompleteMultipartUpload::builder()
                    .days_after_initiation(1)
                    .build(),
            ),
        ] {
            assert_eq!(meaning(rule), None);
        }
    }

    #[test]
    fn a_rule_that_is_not_ours_is_written_as_it_was_read() {
        let rule = expiring()
            .filter(LifecycleRuleFilter::builder().prefix("part/").build())
            .build()
            .unwrap();
        assert_eq!(write(read(&rule)).unwrap(), rule);
    }
}
