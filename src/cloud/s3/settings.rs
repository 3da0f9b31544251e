//! Settings of a bucket besides its lifecycle rules: how they are found, and how they are set.
//!
//! A compatible may answer a call that it does not know as if it were another one (Ceph RGW takes
//! `PUT ?ownershipControls` for a creation of the bucket), so what was set is read back there.

use std::collections::BTreeSet;
use std::error::Error;

use aws_sdk_s3::types::{
    BucketVersioningStatus, ObjectOwnership, OwnershipControls, OwnershipControlsRule,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, VersioningConfiguration,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use hubstorage_core::api::{Capability, Encryption, EncryptionType, Versioning};
use hubstorage_core::bucket_policy::{BucketPolicy, Statement};
use hubstorage_core::names::BucketName;
use hubstorage_core::settings::Setting;

use super::S3Store;
use super::errors::{Call, status};
use super::store::{is_not_implemented, unbuildable};
use crate::CloudError;

impl S3Store {
    /// The bucket's policy.
    pub(super) async fn policy(&self, bucket: &BucketName) -> Result<BucketPolicy, CloudError> {
        let call = self.call("s3:GetBucketPolicy", bucket);
        let get = self.client.get_bucket_policy().bucket(bucket.as_str());
        match get.send().await {
            Ok(found) => BucketPolicy::parse(found.policy().unwrap_or("{}")).map_err(|_| {
                CloudError::UnreadablePolicy {
                    bucket: bucket.clone(),
                }
            }),
            Err(error) if error.code() == Some("NoSuchBucketPolicy") => Ok(BucketPolicy::default()),
            Err(error) => Err(unsupported(call, Capability::BucketPolicy, &error)),
        }
    }

    /// What is found instead of a setting, in words.
    pub(super) async fn found_instead(
        &self,
        bucket: &BucketName,
        setting: &Setting,
    ) -> Result<Option<String>, CloudError> {
        match setting {
            Setting::PublicAccessBlock => {
                let off = self.switches_off(bucket).await?;
                Ok((!off.is_empty()).then(|| format!("public access open ({})", off.join(", "))))
            }
            Setting::BucketOwnerEnforced => self.ownership(bucket).await,
            Setting::Versioning(wanted) => self.versioning(bucket, *wanted).await,
            Setting::Encryption(wanted) => self.encryption(bucket, wanted).await,
            Setting::Statements(wanted) => {
                let deviations = self.policy(bucket).await?.deviations(bucket, wanted);
                Ok((!deviations.is_empty()).then(|| deviations.join(", ")))
            }
        }
    }

    /// Sets it, beside what others set.
    pub(super) async fn configure(
        &self,
        bucket: &BucketName,
        setting: &Setting,
    ) -> Result<(), CloudError> {
        match setting {
            Setting::PublicAccessBlock => self.block_public_access(bucket).await?,
            Setting::BucketOwnerEnforced => self.enforce_ownership(bucket).await?,
            Setting::Versioning(wanted) => self.set_versioning(bucket, *wanted).await?,
            Setting::Encryption(wanted) => self.set_encryption(bucket, wanted).await?,
            Setting::Statements(wanted) => self.set_statements(bucket, wanted).await?,
        }
        if self.is_aws || self.found_instead(bucket, setting).await?.is_none() {
            return Ok(());
        }
        Err(CloudError::Unsupported {
            capability: setting.needs(),
        })
    }

    /// The public access block as it is.
    async fn public_access_block(
        &self,
        bucket: &BucketName,
    ) -> Result<PublicAccessBlockConfiguration, CloudError> {
        let get = self
            .client
            .get_public_access_block()
            .bucket(bucket.as_str());
        let none = || PublicAccessBlockConfiguration::builder().build();
        match get.send().await {
            Ok(found) => Ok(found.public_access_block_configuration.unwrap_or_else(none)),
            Err(error) if error.code() == Some("NoSuchPublicAccessBlockConfiguration") => {
                Ok(none())
            }
            Err(error) => Err(unsupported(
                self.call("s3:GetBucketPublicAccessBlock", bucket),
                Capability::PublicAccessBlock,
                &error,
            )),
        }
    }

    /// Those of the four switches that should be on and are off. Ceph RGW refuses every upload
    /// that names an ACL once `BlockPublicAcls` is on, also a private one, so it is asked for on
    /// AWS only.
    async fn switches_off(&self, bucket: &BucketName) -> Result<Vec<&'static str>, CloudError> {
        let found = self.public_access_block(bucket).await?;
        let switches = [
            ("BlockPublicAcls", found.block_public_acls, self.is_aws),
            ("IgnorePublicAcls", found.ignore_public_acls, true),
            ("BlockPublicPolicy", found.block_public_policy, true),
            ("RestrictPublicBuckets", found.restrict_public_buckets, true),
        ];
        Ok(switches
            .into_iter()
            .filter(|(_, is_on, is_wanted)| *is_wanted && *is_on != Some(true))
            .map(|(name, ..)| name)
            .collect())
    }

    async fn block_public_access(&self, bucket: &BucketName) -> Result<(), CloudError> {
        let found = self.public_access_block(bucket).await?;
        let configuration = PublicAccessBlockConfiguration::builder()
            .block_public_acls(self.is_aws || found.block_public_acls == Some(true))
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true)
            .build();
        let put = self
            .client
            .put_public_access_block()
            .bucket(bucket.as_str())
            .public_access_block_configuration(configuration)
            .send()
            .await;
        let call = self.call("s3:PutBucketPublicAccessBlock", bucket);
        put.map(drop)
            .map_err(|error| unsupported(call, Capability::PublicAccessBlock, &error))
    }

    async fn ownership(&self, bucket: &BucketName) -> Result<Option<String>, CloudError> {
        let get = self
            .client
            .get_bucket_ownership_controls()
            .bucket(bucket.as_str());
        let found = match get.send().await {
            Ok(found) => found.ownership_controls,
            Err(error) if error.code() == Some("OwnershipControlsNotFoundError") => None,
            Err(error) => {
                return Err(unsupported(
                    self.call("s3:GetBucketOwnershipControls", bucket),
                    Capability::ObjectOwnership,
                    &error,
                ));
            }
        };
        let rules = found.map(|found| found.rules).unwrap_or_default();
        match rules.first().map(|rule| rule.object_ownership()) {
            Some(ObjectOwnership::BucketOwnerEnforced) => Ok(None),
            Some(other) => Ok(Some(format!("object ownership {other}"))),
            None => Ok(Some("access control lists in effect".to_owned())),
        }
    }

    async fn enforce_ownership(&self, bucket: &BucketName) -> Result<(), CloudError> {
        let call = self.call("s3:PutBucketOwnershipControls", bucket);
        let controls = OwnershipControlsRule::builder()
            .object_ownership(ObjectOwnership::BucketOwnerEnforced)
            .build()
            .and_then(|rule| OwnershipControls::builder().rules(rule).build())
            .map_err(|error| unbuildable(call, &error))?;
        let put = self
            .client
            .put_bucket_ownership_controls()
            .bucket(bucket.as_str())
            .ownership_controls(controls)
            .send()
            .await;
        put.map(drop)
            .map_err(|error| unsupported(call, Capability::ObjectOwnership, &error))
    }

    async fn versioning(
        &self,
        bucket: &BucketName,
        wanted: Versioning,
    ) -> Result<Option<String>, CloudError> {
        let get = self.client.get_bucket_versioning().bucket(bucket.as_str());
        let found = get.send().await.map_err(|error| {
            unsupported(
                self.call("s3:GetBucketVersioning", bucket),
                Capability::Versioning,
                &error,
            )
        })?;
        let is_enabled = found.status == Some(BucketVersioningStatus::Enabled);
        Ok(match (wanted, is_enabled) {
            (Versioning::Enabled, true) | (Versioning::Suspended, false) => None,
            (Versioning::Enabled, false) => Some("versioning off".to_owned()),
            (Versioning::Suspended, true) => Some("versioning on".to_owned()),
        })
    }

    async fn set_versioning(
        &self,
        bucket: &BucketName,
        wanted: Versioning,
    ) -> Result<(), CloudError> {
        let status = match wanted {
            Versioning::Enabled => BucketVersioningStatus::Enabled,
            Versioning::Suspended => BucketVersioningStatus::Suspended,
        };
        let put = self
            .client
            .put_bucket_versioning()
            .bucket(bucket.as_str())
            .versioning_configuration(VersioningConfiguration::builder().status(status).build())
            .send()
            .await;
        let call = self.call("s3:PutBucketVersioning", bucket);
        put.map(drop)
            .map_err(|error| unsupported(call, Capability::Versioning, &error))
    }

    async fn encryption(
        &self,
        bucket: &BucketName,
        wanted: &Encryption,
    ) -> Result<Option<String>, CloudError> {
        let get = self.client.get_bucket_encryption().bucket(bucket.as_str());
        let found = match get.send().await {
            Ok(found) => found.server_side_encryption_configuration,
            Err(error)
                if error.code() == Some("ServerSideEncryptionConfigurationNotFoundError") =>
            {
                None
            }
            Err(error) => {
                return Err(unsupported(
                    self.call("s3:GetEncryptionConfiguration", bucket),
                    Capability::Encryption,
                    &error,
                ));
            }
        };
        let rules = found.map(|found| found.rules).unwrap_or_default();
        let default = rules
            .first()
            .and_then(|rule| rule.apply_server_side_encryption_by_default.as_ref());
        let Some(default) = default else {
            return Ok(Some("no encryption by default".to_owned()));
        };
        let key = default.kms_master_key_id.as_deref();
        let is_right = match wanted.type_ {
            EncryptionType::StoreManaged => default.sse_algorithm == ServerSideEncryption::Aes256,
            EncryptionType::KMS => {
                default.sse_algorithm == ServerSideEncryption::AwsKms
                    && key == wanted.kms_key_id.as_deref()
            }
        };
        Ok((!is_right).then(|| match key {
            Some(key) => format!("encryption {} with key {key}", default.sse_algorithm),
            None => format!("encryption {}", default.sse_algorithm),
        }))
    }

    async fn set_encryption(
        &self,
        bucket: &BucketName,
        wanted: &Encryption,
    ) -> Result<(), CloudError> {
        let call = self.call("s3:PutEncryptionConfiguration", bucket);
        let (algorithm, key) = match wanted.type_ {
            EncryptionType::StoreManaged => (ServerSideEncryption::Aes256, None),
            EncryptionType::KMS => (ServerSideEncryption::AwsKms, wanted.kms_key_id.clone()),
        };
        // One key for the bucket instead of one call to the key service for every object.
        let with_bucket_key = (wanted.type_ == EncryptionType::KMS && self.is_aws).then_some(true);
        let configuration = ServerSideEncryptionByDefault::builder()
            .sse_algorithm(algorithm)
            .set_kms_master_key_id(key)
            .build()
            .and_then(|default| {
                let rule = ServerSideEncryptionRule::builder()
                    .apply_server_side_encryption_by_default(default)
                    .set_bucket_key_enabled(with_bucket_key)
                    .build();
                ServerSideEncryptionConfiguration::builder()
                    .rules(rule)
                    .build()
            })
            .map_err(|error| unbuildable(call, &error))?;
        let put = self
            .client
            .put_bucket_encryption()
            .bucket(bucket.as_str())
            .server_side_encryption_configuration(configuration)
            .send()
            .await;
        put.map(drop)
            .map_err(|error| unsupported(call, Capability::Encryption, &error))
    }

    async fn set_statements(
        &self,
        bucket: &BucketName,
        wanted: &BTreeSet<Statement>,
    ) -> Result<(), CloudError> {
        let merged = self.policy(bucket).await?.with(bucket, wanted);
        let failed = |permission| self.call(permission, bucket);
        match merged {
            Some(policy) => {
                let put = self
                    .client
                    .put_bucket_policy()
                    .bucket(bucket.as_str())
                    .policy(policy);
                put.send().await.map(drop).map_err(|error| {
                    unsupported(
                        failed("s3:PutBucketPolicy"),
                        Capability::BucketPolicy,
                        &error,
                    )
                })
            }
            None => {
                let delete = self.client.delete_bucket_policy().bucket(bucket.as_str());
                delete.send().await.map(drop).map_err(|error| {
                    unsupported(
                        failed("s3:DeleteBucketPolicy"),
                        Capability::BucketPolicy,
                        &error,
                    )
                })
            }
        }
    }
}

/// The error of a call that not every store knows.
fn unsupported<E>(
    call: Call<'_>,
    capability: Capability,
    error: &SdkError<E, HttpResponse>,
) -> CloudError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if is_unknown(error) {
        CloudError::Unsupported { capability }
    } else {
        call.failed(error)
    }
}

/// Whether the store does not know the call. A success that cannot be read as the answer to it is none
/// either: Ceph RGW and moto answer some of these calls in a form of their own.
pub(super) fn is_unknown<E: ProvideErrorMetadata + Error>(
    error: &SdkError<E, HttpResponse>,
) -> bool {
    is_not_implemented(error)
        || status(error) == Some(200)
        || matches!(
            error.code(),
            Some("MethodNotAllowed" | "UnsupportedOperation" | "MalformedPolicy")
        )
}
