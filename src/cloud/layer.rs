//! Something that is done around every call of a store: faults, a look at a lease, a budget.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use hubstorage_core::bucket_policy::{BucketPolicy, Grant};
use hubstorage_core::lifecycle::{Effect, Rule};
use hubstorage_core::names::{BucketName, RoleName};
use hubstorage_core::roles::{DeclaredRole, FoundRole};
use hubstorage_core::settings::Setting;
use jiff::Timestamp;

use crate::{
    Batch, CloudError, Contents, Creation, ObjectStore, Operation, Removal, RoleCreation, RolePart,
    RoleStore, Tags, Unclaimed,
};

/// What is done around every call.
pub trait Layer: Send + Sync + Debug {
    /// Carries out `call`, or not.
    fn around<T: Send>(
        &self,
        operation: Operation,
        bucket: Option<&BucketName>,
        call: impl Future<Output = Result<T, CloudError>> + Send,
    ) -> impl Future<Output = Result<T, CloudError>> + Send;
}

/// A store, or its roles, with a layer around it.
#[derive(Debug)]
pub struct Layered<L, S: ?Sized> {
    store: Arc<S>,
    layer: L,
}

impl<L: Clone, S: ?Sized> Clone for Layered<L, S> {
    fn clone(&self) -> Self {
        Self::new(self.store.clone(), self.layer.clone())
    }
}

impl<L, S: ?Sized> Layered<L, S> {
    /// `store` within `layer`.
    pub fn new(store: Arc<S>, layer: L) -> Self {
        Self { store, layer }
    }
}

#[async_trait]
impl<L: Layer, S: RoleStore + ?Sized> RoleStore for Layered<L, S> {
    async fn role(&self, name: &RoleName) -> Result<Option<FoundRole>, CloudError> {
        let call = self.store.role(name);
        self.layer.around(Operation::Role, None, call).await
    }

    async fn create_role(&self, role: &DeclaredRole) -> Result<RoleCreation, CloudError> {
        let call = self.store.create_role(role);
        self.layer.around(Operation::CreateRole, None, call).await
    }

    async fn change_role(&self, role: &DeclaredRole, part: RolePart) -> Result<(), CloudError> {
        let call = self.store.change_role(role, part);
        self.layer.around(Operation::ChangeRole, None, call).await
    }

    async fn delete_role(&self, name: &RoleName) -> Result<(), CloudError> {
        let call = self.store.delete_role(name);
        self.layer.around(Operation::DeleteRole, None, call).await
    }
}

#[async_trait]
impl<L: Layer, S: ObjectStore + ?Sized> ObjectStore for Layered<L, S> {
    async fn check_access(&self) -> Result<Option<String>, CloudError> {
        let call = self.store.check_access();
        self.layer.around(Operation::CheckAccess, None, call).await
    }

    async fn bucket_tags(&self, bucket: &BucketName) -> Result<Option<Tags>, CloudError> {
        let call = self.store.bucket_tags(bucket);
        self.layer
            .around(Operation::BucketTags, Some(bucket), call)
            .await
    }

    async fn lifecycle_rules(&self, bucket: &BucketName) -> Result<Vec<Rule<()>>, CloudError> {
        let call = self.store.lifecycle_rules(bucket);
        self.layer
            .around(Operation::LifecycleRules, Some(bucket), call)
            .await
    }

    async fn bucket_policy(&self, bucket: &BucketName) -> Result<BucketPolicy, CloudError> {
        let call = self.store.bucket_policy(bucket);
        self.layer
            .around(Operation::BucketPolicy, Some(bucket), call)
            .await
    }

    async fn access_list(&self, bucket: &BucketName) -> Result<Vec<Grant>, CloudError> {
        let call = self.store.access_list(bucket);
        self.layer
            .around(Operation::AccessList, Some(bucket), call)
            .await
    }

    async fn deviation(
        &self,
        bucket: &BucketName,
        setting: &Setting,
    ) -> Result<Option<String>, CloudError> {
        let call = self.store.deviation(bucket, setting);
        self.layer
            .around(Operation::Deviation, Some(bucket), call)
            .await
    }

    async fn created(&self, bucket: &BucketName) -> Result<Option<Timestamp>, CloudError> {
        let call = self.store.created(bucket);
        self.layer
            .around(Operation::Created, Some(bucket), call)
            .await
    }

    async fn unclaimed(&self, bucket: &BucketName) -> Result<Unclaimed, CloudError> {
        let call = self.store.unclaimed(bucket);
        self.layer
            .around(Operation::Unclaimed, Some(bucket), call)
            .await
    }

    async fn create_bucket(
        &self,
        bucket: &BucketName,
        tags: &Tags,
    ) -> Result<Creation, CloudError> {
        let call = self.store.create_bucket(bucket, tags);
        self.layer
            .around(Operation::CreateBucket, Some(bucket), call)
            .await
    }

    async fn set_bucket_tags(&self, bucket: &BucketName, tags: &Tags) -> Result<(), CloudError> {
        let call = self.store.set_bucket_tags(bucket, tags);
        self.layer
            .around(Operation::SetBucketTags, Some(bucket), call)
            .await
    }

    async fn set_lifecycle_rules(
        &self,
        bucket: &BucketName,
        declared: &[Effect],
    ) -> Result<(), CloudError> {
        let call = self.store.set_lifecycle_rules(bucket, declared);
        self.layer
            .around(Operation::SetLifecycleRules, Some(bucket), call)
            .await
    }

    async fn apply_setting(
        &self,
        bucket: &BucketName,
        setting: &Setting,
    ) -> Result<(), CloudError> {
        let call = self.store.apply_setting(bucket, setting);
        self.layer
            .around(Operation::ApplySetting, Some(bucket), call)
            .await
    }
    async fn contents(&self, bucket: &BucketName) -> Result<Contents, CloudError> {
        let call = self.store.contents(bucket);
        self.layer
            .around(Operation::Contents, Some(bucket), call)
            .await
    }

    async fn empty_some(&self, bucket: &BucketName) -> Result<Batch, CloudError> {
        let call = self.store.empty_some(bucket);
        self.layer
            .around(Operation::EmptySome, Some(bucket), call)
            .await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<Removal, CloudError> {
        let call = self.store.delete_bucket(bucket);
        self.layer
            .around(Operation::DeleteBucket, Some(bucket), call)
            .await
    }
}
