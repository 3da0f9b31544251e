//! The store in memory, as a world.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use hubstorage_cloud::memory::{Behaviour, Bucket, MemoryCloud, MemorySession, Refusal};
use hubstorage_cloud::{
    CloudError, Credential, CredentialSource, IsolationProbe, ObjectStore, RoleStore,
};
use hubstorage_core::bucket_policy::{BucketPolicy, Grant, GrantedBy};
use hubstorage_core::lifecycle::{Rule, RuleBody};
use hubstorage_core::names::BucketName;
use jiff::Timestamp;

use crate::world::{
    Denial, Others, RULE_OF_OTHERS, Sessions, Traits, User, World, WrongKeys, new_bucket,
};

pub struct Memory {
    cloud: MemoryCloud,
    behaviour: Behaviour,
    names: AtomicUsize,
}

impl Memory {
    pub fn new(behaviour: Behaviour) -> Self {
        Self {
            cloud: MemoryCloud::new(behaviour.clone()),
            behaviour,
            names: AtomicUsize::new(0),
        }
    }

    fn failing(&self, error: CloudError) -> MemoryCloud {
        let broken = MemoryCloud::new(self.behaviour.clone());
        broken.fail_with(Some(error));
        broken
    }

    fn rejecting(&self, code: &str) -> MemoryCloud {
        self.failing(CloudError::CredentialsRejected {
            endpoint: "memory".into(),
            keys: "a Secret".into(),
            code: code.into(),
        })
    }

    fn edit(&self, bucket: &BucketName, edit: impl FnOnce(&mut Bucket)) {
        self.cloud.edit_by_hand(bucket, edit).unwrap();
    }

    fn words() -> Rule<String> {
        Rule {
            id: RULE_OF_OTHERS.into(),
            body: RuleBody::Other("part/ expires after 30 days".into()),
        }
    }
}

#[async_trait]
impl World for Memory {
    fn traits(&self) -> Traits {
        Traits {
            supports: self.behaviour.supports,
            creates_again: self.behaviour.creates_again,
            others: if self.behaviour.shared_buckets {
                Others::Shared
            } else {
                Others::Refused
            },
            wrong_keys: WrongKeys::Rejected,
            sessions: if self.behaviour.enforces_session_policies {
                Sessions::AS_ON_AWS
            } else {
                Sessions::NotHeld
            },
            access_lists: true,
            line_breaks_in_keys: true,
            refused_name: self
                .behaviour
                .refused_names
                .first()
                .map(|name| BucketName::parse(name).unwrap()),
        }
    }

    fn now(&self) -> Timestamp {
        self.cloud.now()
    }

    async fn store(&self) -> Box<dyn ObjectStore> {
        Box::new(self.cloud.store("earth"))
    }

    async fn roles(&self) -> Box<dyn RoleStore> {
        Box::new(self.cloud.roles("earth"))
    }

    fn vending_principal(&self) -> String {
        "arn:aws:iam::123456789012:user/earth".into()
    }

    fn other_principal(&self) -> String {
        "arn:aws:iam::123456789012:user/mars".into()
    }

    async fn source(&self) -> Box<dyn CredentialSource> {
        Box::new(self.cloud.source("earth"))
    }

    async fn probe(&self) -> Box<dyn IsolationProbe> {
        Box::new(self.cloud.probe())
    }

    async fn store_with_unknown_key(&self) -> Box<dyn ObjectStore> {
        Box::new(self.rejecting("InvalidAccessKeyId").store("earth"))
    }

    async fn store_with_wrong_secret(&self) -> Box<dyn ObjectStore> {
        Box::new(self.rejecting("SignatureDoesNotMatch").store("earth"))
    }

    async fn source_with_wrong_secret(&self) -> Box<dyn CredentialSource> {
        Box::new(self.rejecting("SignatureDoesNotMatch").source("earth"))
    }

    async fn store_at_a_closed_port(&self) -> Box<dyn ObjectStore> {
        let refused = CloudError::Unreachable {
            endpoint: "memory".into(),
            cause: "Connection refused".into(),
        };
        Box::new(self.failing(refused).store("earth"))
    }

    fn new_name(&self) -> BucketName {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        BucketName::parse(&format!("contract-{number}")).unwrap()
    }

    async fn bucket_of_others(&self) -> BucketName {
        let bucket = self.new_name();
        self.cloud
            .insert_by_hand(&bucket, Bucket::new("mars", self.cloud.now()));
        bucket
    }

    async fn put_by_hand(&self, bucket: &BucketName, key: &str) {
        self.edit(bucket, |bucket| {
            drop(bucket.objects.insert(key.into(), b"by hand".to_vec()))
        });
    }

    async fn begin_upload_by_hand(&self, bucket: &BucketName, key: &str) {
        self.edit(bucket, |bucket| bucket.uploads.push(key.into()));
    }

    async fn leave_a_version_behind(&self, bucket: &BucketName) {
        self.edit(bucket, |bucket| {
            bucket.noncurrent.push("deleted".into());
            bucket.delete_markers.push("deleted".into());
        });
    }

    async fn bucket_with_a_locked_object(&self, key: &str) -> BucketName {
        let bucket = new_bucket(self).await;
        self.put_by_hand(&bucket, key).await;
        self.edit(&bucket, |bucket| _ = bucket.locked.insert(key.into()));
        bucket
    }

    async fn write_policy_by_hand(&self, bucket: &BucketName, policy: &str) {
        let policy = BucketPolicy::parse(policy).unwrap();
        let written = self
            .cloud
            .edit_by_hand(bucket, |bucket| bucket.policy = policy);
        written.unwrap();
    }

    async fn open_access_list_by_hand(&self, bucket: &BucketName) {
        let read = Grant {
            by: GrantedBy::AccessList,
            principals: vec!["*".to_owned()],
            actions: vec!["READ".to_owned()],
        };
        let written = self
            .cloud
            .edit_by_hand(bucket, |bucket| bucket.access_list = vec![read]);
        written.unwrap();
    }

    async fn tag_by_hand(&self, bucket: &BucketName, key: &str, value: &str) {
        self.edit(bucket, |bucket| {
            drop(bucket.tags.0.insert(key.into(), value.into()))
        });
    }

    async fn add_rule_of_others(&self, bucket: &BucketName) {
        self.edit(bucket, |bucket| bucket.rules.push(Self::words()));
    }

    async fn has_rule_of_others(&self, bucket: &BucketName) -> bool {
        self.cloud
            .bucket(bucket)
            .unwrap()
            .rules
            .contains(&Self::words())
    }

    async fn remove_rule_by_hand(&self, bucket: &BucketName, id: &str) {
        self.edit(bucket, |bucket| bucket.rules.retain(|rule| rule.id != id));
    }

    async fn disable_rule_by_hand(&self, bucket: &BucketName, id: &str) {
        self.edit(bucket, |bucket| {
            let rule = bucket.rules.iter_mut().find(|rule| rule.id == id).unwrap();
            rule.body = RuleBody::Other("disabled".into());
        });
    }

    fn user(&self, credential: &Credential) -> Box<dyn User> {
        Box::new(MemoryUser(self.cloud.session(credential)))
    }
}

struct MemoryUser(MemorySession);

fn denial(refusal: Refusal) -> Denial {
    match refusal {
        Refusal::AccessDenied => Denial::AccessDenied,
        Refusal::NotFound => Denial::NotFound,
        Refusal::ExpiredToken => Denial::Other("ExpiredToken".into()),
    }
}

#[async_trait]
impl User for MemoryUser {
    async fn put(&self, bucket: &BucketName, key: &str, body: &str) -> Result<(), Denial> {
        self.0.put(bucket, key, body.as_bytes()).map_err(denial)
    }

    async fn get(&self, bucket: &BucketName, key: &str) -> Result<String, Denial> {
        self.0
            .get(bucket, key)
            .map(|body| String::from_utf8(body).unwrap())
            .map_err(denial)
    }

    async fn list(&self, bucket: &BucketName, prefix: &str) -> Result<Vec<String>, Denial> {
        self.0.list(bucket, prefix).map_err(denial)
    }

    async fn copy(&self, bucket: &BucketName, from: &str, to: &str) -> Result<(), Denial> {
        self.0.copy(bucket, from, to).map_err(denial)
    }

    async fn delete(&self, bucket: &BucketName, key: &str) -> Result<(), Denial> {
        self.0.delete(bucket, key).map_err(denial)
    }

    async fn delete_all(&self, bucket: &BucketName, keys: &[&str]) -> Result<(), Denial> {
        keys.iter()
            .try_for_each(|key| self.0.delete(bucket, key))
            .map_err(denial)
    }

    async fn upload_in_parts(
        &self,
        bucket: &BucketName,
        key: &str,
        body: &str,
    ) -> Result<(), Denial> {
        self.0.put(bucket, key, body.as_bytes()).map_err(denial)
    }
}
