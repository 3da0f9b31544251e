//! MinIO, as a world.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketVersioningStatus, CompletedMultipartUpload, CompletedPart,
    Delete, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
    ObjectIdentifier, Tag, Tagging, VersioningConfiguration,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use hubstorage_cloud::s3::{Addressing, Keys, S3Config, S3Probe, S3Store, StsSource};
use hubstorage_cloud::{Credential, CredentialSource, IsolationProbe, ObjectStore, Secret};
use hubstorage_core::names::BucketName;
use jiff::Timestamp;
use url::Url;

use crate::world::{Denial, RULE_OF_OTHERS, Traits, User, World};

const REGION: &str = "us-east-1";

/// Where MinIO is, and its two identities.
#[derive(Clone)]
pub struct Settings {
    endpoint: Url,
    manage: Keys,
    vend: Keys,
}

impl Settings {
    /// # Errors
    /// The first variable that is not set.
    pub fn from_env() -> Result<Self, String> {
        let get = |name: &str| {
            let name = format!("HUBSTORAGE_MINIO_{name}");
            std::env::var(&name).map_err(|_| name)
        };
        let keys = |identity: &str| {
            Ok::<_, String>(Keys::Static {
                access_key_id: get(&format!("{identity}_KEY"))?,
                secret_access_key: Secret::new(get(&format!("{identity}_SECRET"))?),
            })
        };
        let endpoint = Url::parse(&get("ENDPOINT")?)
            .map_err(|_| "a valid HUBSTORAGE_MINIO_ENDPOINT".to_owned())?;
        Ok(Self {
            endpoint,
            manage: keys("MANAGE")?,
            vend: keys("VEND")?,
        })
    }

    fn config(&self, keys: Keys) -> S3Config {
        S3Config {
            region: REGION.into(),
            endpoint: Some(self.endpoint.clone()),
            addressing: Addressing::Path,
            ca_bundle: None,
            keys,
        }
    }
}

pub struct Minio {
    settings: Settings,
    by_hand: Client,
    made: Mutex<Vec<BucketName>>,
}

impl Minio {
    pub fn new(settings: Settings) -> Self {
        let Keys::Static {
            access_key_id,
            secret_access_key,
        } = &settings.manage
        else {
            panic!("keys are static")
        };
        let keys = Credentials::from_keys(access_key_id, secret_access_key.expose(), None);
        let by_hand = client(&settings.endpoint, keys);
        Self {
            settings,
            by_hand,
            made: Mutex::default(),
        }
    }

    async fn store_as(&self, access_key_id: &str, secret: &str) -> Box<dyn ObjectStore> {
        let keys = Keys::Static {
            access_key_id: access_key_id.into(),
            secret_access_key: Secret::new(secret),
        };
        Box::new(S3Store::connect(&self.settings.config(keys)).await.unwrap())
    }

    async fn rules(&self, bucket: &BucketName) -> Vec<LifecycleRule> {
        let found = self
            .by_hand
            .get_bucket_lifecycle_configuration()
            .bucket(bucket.as_str())
            .send()
            .await;
        found
            .map(|found| found.rules().to_vec())
            .unwrap_or_default()
    }

    async fn write_rules(&self, bucket: &BucketName, rules: Vec<LifecycleRule>) {
        let configuration = BucketLifecycleConfiguration::builder()
            .set_rules(Some(rules))
            .build()
            .unwrap();
        let put = self
            .by_hand
            .put_bucket_lifecycle_configuration()
            .bucket(bucket.as_str());
        put.lifecycle_configuration(configuration)
            .send()
            .await
            .unwrap();
    }
}

/// An SDK client of the tests' own, so that they do not see the store through the code under test.
fn client(endpoint: &Url, keys: Credentials) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .endpoint_url(endpoint.as_str().trim_end_matches('/'))
        .credentials_provider(keys)
        .http_client(http)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .build();
    Client::from_conf(config)
}

#[async_trait]
impl World for Minio {
    fn traits(&self) -> Traits {
        Traits {
            aborts_incomplete_uploads: false,
            tells_owners_apart: false,
            refused_name: Some(BucketName::parse("minio").unwrap()),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn store(&self) -> Box<dyn ObjectStore> {
        Box::new(
            S3Store::connect(&self.settings.config(self.settings.manage.clone()))
                .await
                .unwrap(),
        )
    }

    async fn source(&self) -> Box<dyn CredentialSource> {
        Box::new(
            StsSource::connect(&self.settings.config(self.settings.vend.clone()), None)
                .await
                .unwrap(),
        )
    }

    async fn probe(&self) -> Box<dyn IsolationProbe> {
        Box::new(S3Probe::new(&self.settings.config(self.settings.vend.clone()), None).unwrap())
    }

    async fn store_with_unknown_key(&self) -> Box<dyn ObjectStore> {
        self.store_as("nobody-has-this-key", "some-secret").await
    }

    async fn store_with_wrong_secret(&self) -> Box<dyn ObjectStore> {
        let Keys::Static { access_key_id, .. } = &self.settings.manage else {
            panic!("keys are static")
        };
        self.store_as(access_key_id, "not-its-secret").await
    }

    async fn source_with_wrong_secret(&self) -> Box<dyn CredentialSource> {
        let Keys::Static { access_key_id, .. } = self.settings.vend.clone() else {
            panic!("keys are static")
        };
        let keys = Keys::Static {
            access_key_id,
            secret_access_key: Secret::new("not-its-secret"),
        };
        Box::new(
            StsSource::connect(&self.settings.config(keys), None)
                .await
                .unwrap(),
        )
    }

    async fn store_at_a_closed_port(&self) -> Box<dyn ObjectStore> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut config = self.settings.config(self.settings.manage.clone());
        config.endpoint = Some(Url::parse(&format!("http://127.0.0.1:{port}")).unwrap());
        Box::new(S3Store::connect(&config).await.unwrap())
    }

    fn new_name(&self) -> BucketName {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let started = Timestamp::now().as_millisecond();
        // The local platform's users reach buckets of the tests only, and know them by this.
        let name = BucketName::parse(&format!(
            "e2e-contract-{}-{started}-{number}",
            std::process::id()
        ))
        .unwrap();
        self.made.lock().unwrap().push(name.clone());
        name
    }

    async fn bucket_of_others(&self) -> BucketName {
        let bucket = self.new_name();
        self.by_hand
            .create_bucket()
            .bucket(bucket.as_str())
            .send()
            .await
            .unwrap();
        bucket
    }

    async fn put_by_hand(&self, bucket: &BucketName, key: &str) {
        let put = self.by_hand.put_object().bucket(bucket.as_str()).key(key);
        put.body(ByteStream::from_static(b"by hand"))
            .send()
            .await
            .unwrap();
    }

    async fn leave_a_version_behind(&self, bucket: &BucketName) {
        let enabled = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        let put = self.by_hand.put_bucket_versioning().bucket(bucket.as_str());
        put.versioning_configuration(enabled).send().await.unwrap();
        self.put_by_hand(bucket, "deleted").await;
        self.by_hand
            .delete_object()
            .bucket(bucket.as_str())
            .key("deleted")
            .send()
            .await
            .unwrap();
    }

    async fn tag_by_hand(&self, bucket: &BucketName, key: &str, value: &str) {
        let tag = Tag::builder().key(key).value(value).build().unwrap();
        let tagging = Tagging::builder().tag_set(tag).build().unwrap();
        self.by_hand
            .put_bucket_tagging()
            .bucket(bucket.as_str())
            .tagging(tagging)
            .send()
            .await
            .unwrap();
    }

    async fn add_rule_of_others(&self, bucket: &BucketName) {
        let mut rules = self.rules(bucket).await;
        rules.push(rule_of_others());
        self.write_rules(bucket, rules).await;
    }

    async fn has_rule_of_others(&self, bucket: &BucketName) -> bool {
        let found = self
            .rules(bucket)
            .await
            .into_iter()
            .find(|rule| rule.id() == Some(RULE_OF_OTHERS));
        let wanted = rule_of_others();
        found.is_some_and(|found| {
            let days = |rule: &LifecycleRule| rule.expiration().and_then(LifecycleExpiration::days);
            let prefix = |rule: &LifecycleRule| {
                rule.filter()
                    .and_then(|filter| filter.prefix().map(str::to_owned))
            };
            days(&found) == days(&wanted)
                && prefix(&found) == prefix(&wanted)
                && found.status == wanted.status
        })
    }

    async fn remove_rule_by_hand(&self, bucket: &BucketName, id: &str) {
        let mut rules = self.rules(bucket).await;
        rules.retain(|rule| rule.id() != Some(id));
        self.write_rules(bucket, rules).await;
    }

    async fn disable_rule_by_hand(&self, bucket: &BucketName, id: &str) {
        let mut rules = self.rules(bucket).await;
        rules
            .iter_mut()
            .find(|rule| rule.id() == Some(id))
            .unwrap()
            .status = ExpirationStatus::Disabled;
        self.write_rules(bucket, rules).await;
    }

    fn user(&self, credential: &Credential) -> Box<dyn User> {
        let keys = Credentials::from_keys(
            &credential.access_key_id,
            credential.secret_access_key.expose(),
            Some(credential.session_token.expose().to_owned()),
        );
        Box::new(MinioUser(client(&self.settings.endpoint, keys)))
    }

    async fn clean_up(&self) {
        let made = self.made.lock().unwrap().clone();
        for bucket in made {
            // MinIO's own header: the bucket goes with everything in it. One that was never
            // made is not there to be deleted.
            let delete = self
                .by_hand
                .delete_bucket()
                .bucket(bucket.as_str())
                .customize();
            let forced = delete.mutate_request(|request| {
                request.headers_mut().insert("x-minio-force-delete", "true");
            });
            drop(forced.send().await);
        }
    }
}

fn rule_of_others() -> LifecycleRule {
    LifecycleRule::builder()
        .id(RULE_OF_OTHERS)
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("part/").build())
        .expiration(LifecycleExpiration::builder().days(30).build())
        .build()
        .unwrap()
}

struct MinioUser(Client);

fn denial<E: ProvideErrorMetadata + std::fmt::Debug>(error: SdkError<E, HttpResponse>) -> Denial {
    match (
        error.raw_response().map(|answer| answer.status().as_u16()),
        error.code(),
    ) {
        (Some(403), Some("AccessDenied")) => Denial::AccessDenied,
        (Some(404), _) => Denial::NotFound,
        _ => Denial::Other(format!("{error:?}")),
    }
}

#[async_trait]
impl User for MinioUser {
    async fn put(&self, bucket: &BucketName, key: &str, body: &str) -> Result<(), Denial> {
        let put = self.0.put_object().bucket(bucket.as_str()).key(key);
        put.body(ByteStream::from(body.as_bytes().to_vec()))
            .send()
            .await
            .map(drop)
            .map_err(denial)
    }

    async fn get(&self, bucket: &BucketName, key: &str) -> Result<String, Denial> {
        let got = self
            .0
            .get_object()
            .bucket(bucket.as_str())
            .key(key)
            .send()
            .await
            .map_err(denial)?;
        Ok(String::from_utf8(got.body.collect().await.unwrap().to_vec()).unwrap())
    }

    async fn list(&self, bucket: &BucketName, prefix: &str) -> Result<Vec<String>, Denial> {
        let listed = self
            .0
            .list_objects_v2()
            .bucket(bucket.as_str())
            .prefix(prefix)
            .send()
            .await
            .map_err(denial)?;
        Ok(listed
            .contents()
            .iter()
            .map(|object| object.key().unwrap().to_owned())
            .collect())
    }

    async fn copy(&self, bucket: &BucketName, from: &str, to: &str) -> Result<(), Denial> {
        let copy = self.0.copy_object().bucket(bucket.as_str()).key(to);
        copy.copy_source(format!("{bucket}/{from}"))
            .send()
            .await
            .map(drop)
            .map_err(denial)
    }

    async fn delete(&self, bucket: &BucketName, key: &str) -> Result<(), Denial> {
        self.0
            .delete_object()
            .bucket(bucket.as_str())
            .key(key)
            .send()
            .await
            .map(drop)
            .map_err(denial)
    }

    async fn delete_all(&self, bucket: &BucketName, keys: &[&str]) -> Result<(), Denial> {
        let objects = keys
            .iter()
            .map(|key| ObjectIdentifier::builder().key(*key).build().unwrap())
            .collect();
        let delete = Delete::builder()
            .set_objects(Some(objects))
            .build()
            .unwrap();
        let deleted = self
            .0
            .delete_objects()
            .bucket(bucket.as_str())
            .delete(delete)
            .send()
            .await
            .map_err(denial)?;
        match deleted.errors().first().and_then(|error| error.code()) {
            None => Ok(()),
            Some("AccessDenied") => Err(Denial::AccessDenied),
            Some(code) => Err(Denial::Other(code.to_owned())),
        }
    }

    async fn upload_in_parts(
        &self,
        bucket: &BucketName,
        key: &str,
        body: &str,
    ) -> Result<(), Denial> {
        let bucket = bucket.as_str();
        let upload = self
            .0
            .create_multipart_upload()
            .bucket(bucket)
            .key(key)
            .send()
            .await
            .map_err(denial)?;
        let id = upload.upload_id().unwrap();
        let part = self
            .0
            .upload_part()
            .bucket(bucket)
            .key(key)
            .upload_id(id)
            .part_number(1);
        part.body(ByteStream::from(body.as_bytes().to_vec()))
            .send()
            .await
            .map_err(denial)?;
        let listed = self
            .0
            .list_parts()
            .bucket(bucket)
            .key(key)
            .upload_id(id)
            .send()
            .await
            .map_err(denial)?;
        let parts = listed.parts().iter().map(|part| {
            let completed = CompletedPart::builder().set_part_number(part.part_number);
            completed.set_e_tag(part.e_tag.clone()).build()
        });
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.collect()))
            .build();
        let complete = self
            .0
            .complete_multipart_upload()
            .bucket(bucket)
            .key(key)
            .upload_id(id);
        complete
            .multipart_upload(parts)
            .send()
            .await
            .map(drop)
            .map_err(denial)
    }
}
