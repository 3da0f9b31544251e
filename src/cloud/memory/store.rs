//! [`ObjectStore`] in memory.

use async_trait::async_trait;
use hubstorage_core::api::{Capability, Versioning};
use hubstorage_core::bucket_policy::{BucketPolicy, Grant};
use hubstorage_core::lifecycle::{self, Effect, Rule, RuleBody};
use hubstorage_core::names::BucketName;
use hubstorage_core::settings::Setting;
use jiff::Timestamp;

use super::{Bucket, MemoryCloud};
use crate::{
    Batch, CloudError, Contents, Creation, ObjectStore, Operation, Removal, Tags, Unclaimed,
};

/// The managing side, as one account.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    pub(super) cloud: MemoryCloud,
    pub(super) account: String,
}

impl MemoryStore {
    /// One call that changes a bucket, which has to be there.
    fn change<T>(
        &self,
        operation: Operation,
        bucket: &BucketName,
        effect: impl FnOnce(&mut Bucket) -> T,
    ) -> Result<T, CloudError> {
        let mut state = self.cloud.state();
        state.enter(&self.account, operation, Some(bucket))?;
        state.reach(&self.account, operation, bucket).map(effect)
    }

    /// One call that tells of a bucket, which has to be there.
    fn read<T>(
        &self,
        operation: Operation,
        bucket: &BucketName,
        told: impl FnOnce(&Bucket) -> T,
    ) -> Result<T, CloudError> {
        let mut state = self.cloud.state();
        state.enter(&self.account, operation, Some(bucket))?;
        let bucket = state.look(&self.account, operation, bucket)?;
        Ok(told(&bucket))
    }
}

impl MemoryStore {
    /// Refuses what this store cannot do.
    fn needs(&self, operation: Operation, capability: Capability) -> Result<(), CloudError> {
        let mut state = self.cloud.state();
        if state.behaviour.supports.has(capability) {
            return Ok(());
        }
        state.enter(&self.account, operation, None)?;
        Err(CloudError::Unsupported { capability })
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn check_access(&self) -> Result<Option<String>, CloudError> {
        self.cloud
            .state()
            .enter(&self.account, Operation::CheckAccess, None)?;
        Ok(Some(self.account.clone()))
    }

    async fn bucket_tags(&self, bucket: &BucketName) -> Result<Option<Tags>, CloudError> {
        let mut state = self.cloud.state();
        state.enter(&self.account, Operation::BucketTags, Some(bucket))?;
        match state.look(&self.account, Operation::BucketTags, bucket) {
            Ok(found) => Ok(Some(found.tags.clone())),
            Err(CloudError::NoSuchBucket { .. }) => Ok(None),
            Err(_) => Err(CloudError::OwnedByOthers {
                bucket: bucket.clone(),
            }),
        }
    }

    async fn lifecycle_rules(&self, bucket: &BucketName) -> Result<Vec<Rule<()>>, CloudError> {
        let without_words = |rule: &Rule<String>| Rule {
            id: rule.id.clone(),
            body: match rule.body {
                RuleBody::Known(effect) => RuleBody::Known(effect),
                RuleBody::Other(_) => RuleBody::Other(()),
            },
        };
        self.read(Operation::LifecycleRules, bucket, |bucket| {
            bucket.rules.iter().map(without_words).collect()
        })
    }

    async fn bucket_policy(&self, bucket: &BucketName) -> Result<BucketPolicy, CloudError> {
        self.needs(Operation::BucketPolicy, Capability::BucketPolicy)?;
        self.read(Operation::BucketPolicy, bucket, |bucket| {
            bucket.policy.clone()
        })
    }

    async fn access_list(&self, bucket: &BucketName) -> Result<Vec<Grant>, CloudError> {
        self.read(Operation::AccessList, bucket, |bucket| {
            bucket.access_list.clone()
        })
    }

    async fn deviation(
        &self,
        bucket: &BucketName,
        setting: &Setting,
    ) -> Result<Option<String>, CloudError> {
        self.needs(Operation::Deviation, setting.needs())?;
        self.read(Operation::Deviation, bucket, |bucket| {
            let is_right = match setting {
                Setting::PublicAccessBlock => bucket.public_access_blocked,
                Setting::BucketOwnerEnforced => bucket.owner_enforced,
                Setting::Versioning(Versioning::Enabled) => {
                    bucket.versioning == Some(Versioning::Enabled)
                }
                Setting::Versioning(Versioning::Suspended) => {
                    bucket.versioning != Some(Versioning::Enabled)
                }
                Setting::Encryption(encryption) => bucket.encryption.as_ref() == Some(encryption),
                Setting::Statements(_) => true,
            };
            (!is_right).then(|| format!("not {setting}"))
        })
    }

    async fn created(&self, bucket: &BucketName) -> Result<Option<Timestamp>, CloudError> {
        let mut state = self.cloud.state();
        state.enter(&self.account, Operation::Created, Some(bucket))?;
        let found = state.look(&self.account, Operation::Created, bucket);
        Ok(found.ok().map(|found| found.created))
    }

    async fn unclaimed(&self, bucket: &BucketName) -> Result<Unclaimed, CloudError> {
        self.read(Operation::Unclaimed, bucket, |bucket| Unclaimed {
            created: bucket.created,
            empty: bucket.is_empty(),
        })
    }

    async fn create_bucket(
        &self,
        bucket: &BucketName,
        tags: &Tags,
    ) -> Result<Creation, CloudError> {
        let mut state = self.cloud.state();
        state.enter(&self.account, Operation::CreateBucket, Some(bucket))?;
        if state.behaviour.refused_names.contains(bucket.as_str()) {
            return Err(CloudError::InvalidBucketName {
                bucket: bucket.clone(),
                cause: "The specified bucket is not valid.".into(),
            });
        }
        if let Some(there) = state.buckets.get(bucket) {
            if state.behaviour.creates_again && there.owner == self.account {
                return Ok(Creation::Created { tagged: false });
            }
            return if state.behaviour.shared_buckets || there.owner == self.account {
                Ok(Creation::AlreadyThere)
            } else {
                Err(CloudError::OwnedByOthers {
                    bucket: bucket.clone(),
                })
            };
        }
        let mut new = Bucket::new(&self.account, state.now);
        let tagged = state.behaviour.tags_on_create;
        if tagged {
            new.tags = tags.clone();
        }
        state.keep_telling(bucket);
        state.buckets.insert(bucket.clone(), new);
        Ok(Creation::Created { tagged })
    }

    async fn set_bucket_tags(&self, bucket: &BucketName, tags: &Tags) -> Result<(), CloudError> {
        self.change(Operation::SetBucketTags, bucket, |bucket| {
            bucket.tags.0.extend(tags.0.clone())
        })
    }

    async fn set_lifecycle_rules(
        &self,
        bucket: &BucketName,
        declared: &[Effect],
    ) -> Result<(), CloudError> {
        let supports = self.cloud.state().behaviour.supports;
        let achievable = lifecycle::achievable(declared, supports);
        self.change(Operation::SetLifecycleRules, bucket, |bucket| {
            bucket.rules = lifecycle::merge(&bucket.rules, &achievable.apply);
        })?;
        match achievable.omitted.first().and_then(Effect::needs) {
            Some(capability) => Err(CloudError::Unsupported { capability }),
            None => Ok(()),
        }
    }

    async fn apply_setting(&self, name: &BucketName, setting: &Setting) -> Result<(), CloudError> {
        self.needs(Operation::ApplySetting, setting.needs())?;
        let is_listed = {
            let state = self.cloud.state();
            let found = state.look(&self.account, Operation::ApplySetting, name);
            found.is_ok_and(|bucket| !bucket.access_list.is_empty())
        };
        // So Amazon answers while the list grants anything to others.
        if is_listed && *setting == Setting::BucketOwnerEnforced {
            return Err(CloudError::Failed {
                permission: "s3:PutBucketOwnershipControls",
                resource: name.to_string(),
                code: "InvalidBucketAclWithObjectOwnership".into(),
                message: "the bucket's access control list grants something to others".into(),
            });
        }
        self.change(Operation::ApplySetting, name, |bucket| match setting {
            Setting::PublicAccessBlock => bucket.public_access_blocked = true,
            Setting::BucketOwnerEnforced => bucket.owner_enforced = true,
            Setting::Versioning(versioning) => bucket.versioning = Some(*versioning),
            Setting::Encryption(encryption) => bucket.encryption = Some(encryption.clone()),
            Setting::Statements(statements) => {
                let merged = bucket.policy.with(name, statements);
                // What `with` writes, `parse` reads.
                bucket.policy = merged
                    .and_then(|text| BucketPolicy::parse(&text).ok())
                    .unwrap_or_default();
            }
        })
    }

    async fn contents(&self, bucket: &BucketName) -> Result<Contents, CloudError> {
        let page = self.cloud.state().behaviour.batch;
        self.read(Operation::Contents, bucket, |bucket| bucket.contents(page))
    }

    async fn empty_some(&self, bucket: &BucketName) -> Result<Batch, CloudError> {
        let most = self.cloud.state().behaviour.batch;
        self.change(Operation::EmptySome, bucket, |bucket| {
            bucket.empty_some(most)
        })
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<Removal, CloudError> {
        let is_empty = self.change(Operation::DeleteBucket, bucket, |found| found.is_empty());
        match is_empty {
            Ok(true) => {
                self.cloud.state().buckets.remove(bucket);
                Ok(Removal::Deleted)
            }
            Ok(false) => Ok(Removal::NotEmpty),
            Err(CloudError::NoSuchBucket { .. }) => Ok(Removal::AlreadyGone),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::memory::Behaviour;

    #[tokio::test]
    async fn a_store_that_lags_tells_for_a_while_of_a_bucket_as_it_was() {
        let lag = Duration::from_secs(90);
        let cloud = MemoryCloud::new(Behaviour {
            lag,
            ..Behaviour::aws()
        });
        let store = cloud.store("manager");
        let bucket = BucketName::parse("earth-scratch").unwrap();
        let tags = Tags([("purpose".to_owned(), "scratch".to_owned())].into());
        store.create_bucket(&bucket, &tags).await.unwrap();

        assert_eq!(store.bucket_tags(&bucket).await.unwrap(), None);
        let refused = store.set_bucket_tags(&bucket, &tags).await.unwrap_err();
        assert!(
            matches!(refused, CloudError::NoSuchBucket { .. }),
            "{refused}"
        );
        cloud.advance(lag);
        assert_eq!(store.bucket_tags(&bucket).await.unwrap(), Some(tags));

        let rule =
            Effect::ExpireNoncurrent(hubstorage_core::lifecycle::Days(1.try_into().unwrap()));
        store.set_lifecycle_rules(&bucket, &[rule]).await.unwrap();
        assert_eq!(store.lifecycle_rules(&bucket).await.unwrap(), []);
        cloud.advance(lag);
        assert_eq!(store.lifecycle_rules(&bucket).await.unwrap().len(), 1);

        store.delete_bucket(&bucket).await.unwrap();
        assert!(store.bucket_tags(&bucket).await.unwrap().is_some());
        cloud.advance(lag);
        assert_eq!(store.bucket_tags(&bucket).await.unwrap(), None);
    }
}
