//! [`ObjectStore`] over the S3 API.

use std::error::Error;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketLocationConstraint, CreateBucketConfiguration,
    LifecycleRule, Tag, Tagging, TransitionDefaultMinimumObjectSize,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::error::operation::BuildError;
use hubstorage_core::api::Capability;
use hubstorage_core::bucket_policy::{BucketPolicy, Grant};
use hubstorage_core::lifecycle::{self, Effect, Rule, RuleBody};
use hubstorage_core::names::BucketName;
use hubstorage_core::settings::Setting;
use jiff::Timestamp;

use super::account::Account;
use super::elements::UnknownElements;
use super::errors::{Call, Parties, status};
use super::settings::is_unknown;
use super::{Addressing, S3Config, access_list, rules, transport};
use crate::{Batch, CloudError, Contents, Creation, ObjectStore, Removal, Tags, Unclaimed};

/// The region whose name no location constraint may bear (`CreateBucket`, S3 API reference).
const CLASSIC_REGION: &str = "us-east-1";

/// The managing side of S3 or a compatible.
#[derive(Debug)]
pub struct S3Store {
    pub(super) client: Client,
    parties: Parties,
    region: String,
    pub(super) is_aws: bool,
    /// On Amazon, where buckets have to be those of one account: which, and who is asked.
    account: Option<(Account, aws_sdk_sts::Client)>,
}

/// A bucket's lifecycle configuration as it is.
#[derive(Default)]
struct Lifecycle {
    rules: Vec<Rule<LifecycleRule>>,
    /// A setting of the whole configuration, on AWS only, that a write without it would reset.
    minimum_size: Option<TransitionDefaultMinimumObjectSize>,
    /// XML elements that a write would lose.
    unknown: Vec<String>,
}

impl S3Store {
    /// Prepares the client for buckets of our own account, on Amazon: those of another one are refused,
    /// whatever their policy allows. Nothing is called yet; [`ObjectStore::check_access`] goes before
    /// every other call, since it learns which account that is.
    ///
    /// # Errors
    /// [`CloudError::InvalidCaBundle`] and [`CloudError::NoCredentials`].
    pub async fn connect(config: &S3Config) -> Result<Self, CloudError> {
        let sdk = transport::connect(config).await?;
        Ok(Self::over(&sdk, config))
    }

    /// The same over a transport that is there.
    pub(super) fn over(sdk: &SdkConfig, config: &S3Config) -> Self {
        let is_aws = config.endpoint.is_none();
        let account = is_aws.then(|| (Account::default(), aws_sdk_sts::Client::new(sdk)));
        Self::of(sdk, config, account)
    }

    /// For buckets of whatever account.
    pub(super) fn of_any_account(sdk: &SdkConfig, config: &S3Config) -> Self {
        Self::of(sdk, config, None)
    }

    fn of(
        sdk: &SdkConfig,
        config: &S3Config,
        account: Option<(Account, aws_sdk_sts::Client)>,
    ) -> Self {
        // Checksum trailers, the SDK's default, are refused by compatibles of before 2025.
        let mut s3 = Builder::from(sdk)
            .force_path_style(config.addressing == Addressing::Path)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some((account, _)) = &account {
            s3 = s3.interceptor(account.clone());
        }
        Self {
            client: Client::from_conf(s3.build()),
            parties: config.parties(),
            region: config.region.clone(),
            is_aws: config.endpoint.is_none(),
            account,
        }
    }

    pub(super) fn call<'a>(&'a self, permission: &'static str, bucket: &'a BucketName) -> Call<'a> {
        Call {
            parties: &self.parties,
            permission,
            bucket: Some(bucket),
        }
    }

    /// When the bucket was created, if it is one of ours: stores list only the caller's buckets.
    async fn listed(&self, bucket: &BucketName) -> Result<Option<Timestamp>, CloudError> {
        let call = Call {
            parties: &self.parties,
            permission: "s3:ListAllMyBuckets",
            bucket: None,
        };
        let mut token = None;
        loop {
            // Stores that do not know the prefix answer with everything, so names are compared.
            let page = self
                .client
                .list_buckets()
                .prefix(bucket.as_str())
                .set_continuation_token(token)
                .send()
                .await
                .map_err(|error| call.failed(&error))?;
            let found = page
                .buckets()
                .iter()
                .find(|listed| listed.name() == Some(bucket.as_str()));
            if let Some(created) = found.map(|listed| listed.creation_date()) {
                let created = created.and_then(|at| Timestamp::new(at.secs(), 0).ok());
                // A bucket of unknown age is never taken for a new one.
                return Ok(Some(created.unwrap_or(Timestamp::UNIX_EPOCH)));
            }
            token = page
                .continuation_token()
                .filter(|token| !token.is_empty())
                .map(str::to_owned);
            if token.is_none() {
                return Ok(None);
            }
        }
    }

    /// Tells a bucket of somebody else from one of ours where a permission is missing.
    ///
    /// A 403 says neither that the bucket exists (MinIO gives it before it looks) nor whose it is.
    /// Ours are listed. One that is not listed belongs to others if the store is known to answer
    /// 404 for names that do not exist; whether it does, a name that nobody has shows.
    async fn denied(&self, bucket: &BucketName, error: CloudError) -> CloudError {
        if !matches!(self.listed(bucket).await, Ok(None)) {
            return error;
        }
        let absent = BucketName::derive("absent", bucket.as_str(), "absent", "absent");
        if self.exists(&absent).await {
            error
        } else {
            CloudError::OwnedByOthers {
                bucket: bucket.clone(),
            }
        }
    }

    /// False only if the store says so.
    async fn exists(&self, bucket: &BucketName) -> bool {
        let head = self
            .client
            .head_bucket()
            .bucket(bucket.as_str())
            .send()
            .await;
        !head.is_err_and(|answer| status(&answer) == Some(404))
    }

    async fn lifecycle(&self, bucket: &BucketName) -> Result<Lifecycle, CloudError> {
        let elements = UnknownElements::default();
        let get = self
            .client
            .get_bucket_lifecycle_configuration()
            .bucket(bucket.as_str());
        match get.customize().interceptor(elements.clone()).send().await {
            Ok(found) => Ok(Lifecycle {
                rules: found.rules().iter().map(rules::read).collect(),
                minimum_size: found.transition_default_minimum_object_size,
                unknown: elements.names(),
            }),
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => {
                Ok(Lifecycle::default())
            }
            Err(error) => Err(self
                .call("s3:GetLifecycleConfiguration", bucket)
                .failed(&error)),
        }
    }

    /// Writes the whole set.
    async fn put_lifecycle(
        &self,
        bucket: &BucketName,
        observed: &Lifecycle,
        declared: &[Effect],
    ) -> Result<(), CloudError> {
        let call = self.call("s3:PutLifecycleConfiguration", bucket);
        let rules = lifecycle::merge(&observed.rules, declared)
            .into_iter()
            .map(rules::write)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unbuildable(call, &error))?;
        // A configuration without rules is malformed.
        if rules.is_empty() {
            let deleted = self
                .client
                .delete_bucket_lifecycle()
                .bucket(bucket.as_str())
                .send()
                .await;
            return deleted.map(drop).map_err(|error| call.failed(&error));
        }
        let configuration = BucketLifecycleConfiguration::builder()
            .set_rules(Some(rules))
            .build()
            .map_err(|error| unbuildable(call, &error))?;
        self.client
            .put_bucket_lifecycle_configuration()
            .bucket(bucket.as_str())
            .set_transition_default_minimum_object_size(observed.minimum_size.clone())
            .lifecycle_configuration(configuration)
            .send()
            .await
            .map(drop)
            .map_err(|error| call.failed(&error))
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn check_access(&self) -> Result<Option<String>, CloudError> {
        let call = Call {
            parties: &self.parties,
            permission: "s3:ListAllMyBuckets",
            bucket: None,
        };
        if let Some((account, sts)) = &self.account {
            account.learn(sts, &self.parties).await?;
        }
        let listed = self.client.list_buckets().max_buckets(1).send().await;
        let owner = listed.map_err(|error| call.failed(&error))?.owner;
        Ok(owner
            .and_then(|owner| owner.id)
            .filter(|account| !account.is_empty()))
    }

    async fn bucket_tags(&self, bucket: &BucketName) -> Result<Option<Tags>, CloudError> {
        let error = match self
            .client
            .get_bucket_tagging()
            .bucket(bucket.as_str())
            .send()
            .await
        {
            Ok(found) => {
                return Ok(Some(
                    found
                        .tag_set()
                        .iter()
                        .map(|tag| (tag.key(), tag.value()))
                        .collect(),
                ));
            }
            Err(error) => error,
        };
        let failed = self.call("s3:GetBucketTagging", bucket).failed(&error);
        match (error.code(), &failed) {
            // MinIO gives this answer for a bucket that does not exist too, and for names that it
            // keeps to itself. One that is not listed is not ours; creating it tells why.
            (Some("NoSuchTagSet"), _) => Ok(self.listed(bucket).await?.map(|_| Tags::default())),
            (_, CloudError::NoSuchBucket { .. }) => Ok(None),
            (_, CloudError::AccessDenied { .. }) => Err(self.denied(bucket, failed).await),
            // A redirect proves that the bucket exists, in another region: AWS tells everybody.
            (Some("PermanentRedirect"), _) if self.listed(bucket).await?.is_none() => {
                Err(CloudError::OwnedByOthers {
                    bucket: bucket.clone(),
                })
            }
            _ => Err(failed),
        }
    }

    async fn lifecycle_rules(&self, bucket: &BucketName) -> Result<Vec<Rule<()>>, CloudError> {
        let without_spelling = |rule: Rule<LifecycleRule>| Rule {
            id: rule.id,
            body: match rule.body {
                RuleBody::Known(effect) => RuleBody::Known(effect),
                RuleBody::Other(_) => RuleBody::Other(()),
            },
        };
        Ok(self
            .lifecycle(bucket)
            .await?
            .rules
            .into_iter()
            .map(without_spelling)
            .collect())
    }

    async fn bucket_policy(&self, bucket: &BucketName) -> Result<BucketPolicy, CloudError> {
        self.policy(bucket).await
    }

    async fn access_list(&self, bucket: &BucketName) -> Result<Vec<Grant>, CloudError> {
        let get = self.client.get_bucket_acl().bucket(bucket.as_str());
        match get.send().await {
            Ok(found) => Ok(access_list::of_others(&found)),
            Err(error) if is_unknown(&error) => Ok(Vec::new()),
            Err(error) => Err(self.call("s3:GetBucketAcl", bucket).failed(&error)),
        }
    }

    async fn deviation(
        &self,
        bucket: &BucketName,
        setting: &Setting,
    ) -> Result<Option<String>, CloudError> {
        self.found_instead(bucket, setting).await
    }

    async fn created(&self, bucket: &BucketName) -> Result<Option<Timestamp>, CloudError> {
        // A bucket of unknown age cannot be told from another one of its name.
        let created = self.listed(bucket).await?;
        Ok(created.filter(|created| *created != Timestamp::UNIX_EPOCH))
    }

    async fn unclaimed(&self, bucket: &BucketName) -> Result<Unclaimed, CloudError> {
        let created = self.listed(bucket).await?;
        let created = created.ok_or_else(|| CloudError::NoSuchBucket {
            bucket: bucket.clone(),
        })?;
        Ok(Unclaimed {
            created,
            empty: self.look_into(bucket).await?.is_empty(),
        })
    }

    async fn create_bucket(
        &self,
        bucket: &BucketName,
        tags: &Tags,
    ) -> Result<Creation, CloudError> {
        let call = self.call("s3:CreateBucket", bucket);
        let is_classic = self.region == CLASSIC_REGION;
        let mut configuration = CreateBucketConfiguration::builder();
        if !is_classic {
            configuration = configuration
                .location_constraint(BucketLocationConstraint::from(self.region.as_str()));
        }
        if self.is_aws {
            configuration = configuration.set_tags(Some(
                tag_set(tags).map_err(|error| unbuildable(call, &error))?,
            ));
        }
        // Compatibles refuse a body that holds no constraint, so that there is none.
        let configuration = (!is_classic || self.is_aws).then(|| configuration.build());
        let created = self
            .client
            .create_bucket()
            .bucket(bucket.as_str())
            .set_create_bucket_configuration(configuration)
            .send()
            .await;
        match created {
            // In us-east-1 AWS also answers 200 when the bucket was ours already, and then
            // nothing tells whether the tags were taken.
            Ok(_) => Ok(Creation::Created {
                tagged: self.is_aws && !is_classic,
            }),
            Err(error) => match error.code() {
                Some("BucketAlreadyOwnedByYou") => Ok(Creation::AlreadyThere),
                Some("BucketAlreadyExists") => Err(CloudError::OwnedByOthers {
                    bucket: bucket.clone(),
                }),
                // MinIO's answer for the names that it keeps for itself, such as `minio`.
                Some("AllAccessDisabled") => Err(CloudError::InvalidBucketName {
                    bucket: bucket.clone(),
                    cause: "the name is reserved".into(),
                }),
                _ => Err(call.failed(&error)),
            },
        }
    }

    async fn set_bucket_tags(&self, bucket: &BucketName, tags: &Tags) -> Result<(), CloudError> {
        let call = self.call("s3:PutBucketTagging", bucket);
        let Some(observed) = self.bucket_tags(bucket).await? else {
            return Err(CloudError::NoSuchBucket {
                bucket: bucket.clone(),
            });
        };
        let mut merged = observed.clone();
        merged.0.extend(tags.0.clone());
        if merged == observed {
            return Ok(());
        }
        let tagging = tag_set(&merged)
            .and_then(|tags| Tagging::builder().set_tag_set(Some(tags)).build())
            .map_err(|error| unbuildable(call, &error))?;
        let put = self
            .client
            .put_bucket_tagging()
            .bucket(bucket.as_str())
            .tagging(tagging)
            .send()
            .await;
        put.map(drop).map_err(|error| call.failed(&error))
    }

    async fn set_lifecycle_rules(
        &self,
        bucket: &BucketName,
        declared: &[Effect],
    ) -> Result<(), CloudError> {
        let observed = self.lifecycle(bucket).await?;
        if lifecycle::difference(&observed.rules, declared).is_empty() {
            return Ok(());
        }
        if !observed.unknown.is_empty() {
            return Err(CloudError::UnknownRules {
                bucket: bucket.clone(),
                elements: observed.unknown.join(", "),
            });
        }
        let Err(refused) = self.put_lifecycle(bucket, &observed, declared).await else {
            return Ok(());
        };
        if !says_malformed(&refused) {
            return Err(refused);
        }
        // The same set without the suspect: taken, it proves that nothing else was the cause.
        let mut suspects: Vec<Capability> = declared.iter().filter_map(Effect::needs).collect();
        suspects.dedup();
        for capability in suspects {
            let others: Vec<Effect> = declared
                .iter()
                .copied()
                .filter(|effect| effect.needs() != Some(capability))
                .collect();
            if self.put_lifecycle(bucket, &observed, &others).await.is_ok() {
                return Err(CloudError::Unsupported { capability });
            }
        }
        let plain: Vec<Effect> = declared
            .iter()
            .copied()
            .filter(|effect| effect.needs().is_none())
            .collect();
        // More than one is lacking: the first is said now, the next one at the next try.
        match declared.iter().find_map(Effect::needs) {
            Some(capability) if self.put_lifecycle(bucket, &observed, &plain).await.is_ok() => {
                Err(CloudError::Unsupported { capability })
            }
            _ => Err(refused),
        }
    }

    async fn apply_setting(
        &self,
        bucket: &BucketName,
        setting: &Setting,
    ) -> Result<(), CloudError> {
        self.configure(bucket, setting).await
    }

    async fn contents(&self, bucket: &BucketName) -> Result<Contents, CloudError> {
        self.look_into(bucket).await
    }

    async fn empty_some(&self, bucket: &BucketName) -> Result<Batch, CloudError> {
        self.delete_some(bucket).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<Removal, CloudError> {
        self.remove(bucket).await
    }
}

fn tag_set(tags: &Tags) -> Result<Vec<Tag>, BuildError> {
    tags.0
        .iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build())
        .collect()
}

/// What a store answers to a lifecycle action that it does not know.
fn says_malformed(error: &CloudError) -> bool {
    matches!(error, CloudError::Failed { code, .. }
        if ["MalformedXML", "NotImplemented", "InvalidRequest", "InvalidArgument", "InvalidStorageClass"]
            .contains(&code.as_str()))
}

pub(super) fn is_not_implemented<E: ProvideErrorMetadata + Error>(
    error: &SdkError<E, HttpResponse>,
) -> bool {
    error.code() == Some("NotImplemented") || status(error) == Some(501)
}

pub(super) fn unbuildable(call: Call<'_>, error: &BuildError) -> CloudError {
    CloudError::Failed {
        permission: call.permission,
        resource: call.bucket.map_or_else(|| "*".into(), ToString::to_string),
        code: "InvalidRequest".into(),
        message: error.to_string(),
    }
}
