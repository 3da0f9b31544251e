//! A store over S3, as a world.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketCannedAcl, BucketLifecycleConfiguration, BucketLocationConstraint,
    BucketVersioningStatus, ChecksumAlgorithm, CreateBucketConfiguration, ExpirationStatus,
    LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, ObjectLockMode, Tag, Tagging,
    VersioningConfiguration,
};
use hubstorage_cloud::s3::{Addressing, Keys, Managing, S3Config, S3Probe, S3Store, StsSource};
use hubstorage_cloud::{
    AssumedRole, Credential, CredentialSource, IsolationProbe, ObjectStore, RoleStore, Secret,
};
use hubstorage_core::names::{BucketName, Prefix};
use hubstorage_core::policies::{Access, Place, PolicyDocument, Reach};
use jiff::Timestamp;
use url::Url;

use crate::sdk::{SdkUser, client, session};
use crate::stores::{Store, Stranger};
use crate::world::{RULE_OF_OTHERS, Traits, User, World};

/// Where a store is, and its identities.
#[derive(Clone)]
pub struct Settings {
    store: &'static Store,
    endpoint: Url,
    manage: Key,
    /// Of whoever works in the store by hand; the managing one, where that may do everything.
    hand: Option<Key>,
    vend: Key,
    /// Where the stranger is a user.
    stranger: Option<Key>,
    /// The role that the vending identity assumes, where there are roles.
    role: Option<String>,
}

/// A user's key.
#[derive(Clone)]
struct Key {
    id: String,
    secret: String,
}

impl Key {
    fn for_store(&self) -> Keys {
        Keys::Static {
            from: "a Secret".into(),
            access_key_id: self.id.clone(),
            secret_access_key: Secret::new(self.secret.clone()),
        }
    }

    fn with_secret(&self, secret: &str) -> Self {
        Self {
            id: self.id.clone(),
            secret: secret.into(),
        }
    }

    fn for_sdk(&self) -> Credentials {
        Credentials::from_keys(&self.id, &self.secret, None)
    }
}

impl Settings {
    /// # Errors
    /// The first variable that is not set.
    pub fn from_env(store: &'static Store) -> Result<Self, String> {
        let get = |name: &str| {
            let name = format!("HUBSTORAGE_{}_{name}", store.variable);
            std::env::var(&name).map_err(|_| name)
        };
        let key = |identity: &str| {
            Ok::<_, String>(Key {
                id: get(&format!("{identity}_KEY"))?,
                secret: get(&format!("{identity}_SECRET"))?,
            })
        };
        let endpoint = get("ENDPOINT")?;
        Ok(Self {
            store,
            endpoint: Url::parse(&endpoint).map_err(|_| format!("a URL like {endpoint:?}"))?,
            manage: key("MANAGE")?,
            hand: key("HAND").ok(),
            vend: key("VEND")?,
            stranger: match store.stranger {
                Stranger::OtherUser => Some(key("STRANGER")?),
                Stranger::SameUser | Stranger::OtherAccount(_) => None,
            },
            role: get("VEND_ROLE").ok(),
        })
    }

    fn config(&self, key: &Key) -> S3Config {
        S3Config {
            region: self.store.region.into(),
            endpoint: Some(self.endpoint.clone()),
            addressing: Addressing::Path,
            ca_bundle: None,
            keys: key.for_store(),
        }
    }
}

pub struct S3World {
    settings: Settings,
    by_hand: Client,
    made: Mutex<Vec<BucketName>>,
}

impl S3World {
    pub fn new(settings: Settings) -> Self {
        let keys = settings.hand.as_ref().unwrap_or(&settings.manage).for_sdk();
        let by_hand = client(&settings.endpoint, settings.store.region, keys);
        Self {
            settings,
            by_hand,
            made: Mutex::default(),
        }
    }

    /// Which store it is.
    pub fn which(&self) -> &'static Store {
        self.settings.store
    }

    pub fn endpoint(&self) -> &Url {
        &self.settings.endpoint
    }

    /// What somebody of the managing identity's account does by hand.
    pub fn by_hand(&self) -> &Client {
        &self.by_hand
    }

    /// The managing identity's key, for services that have no client here.
    pub fn manager(&self) -> Credentials {
        self.settings.manage.for_sdk()
    }

    async fn create_as(&self, client: &Client, bucket: &BucketName) {
        client
            .create_bucket()
            .bucket(bucket.as_str())
            .set_create_bucket_configuration(self.location())
            .send()
            .await
            .unwrap();
    }

    /// What a bucket has to say of its place.
    pub fn location(&self) -> Option<CreateBucketConfiguration> {
        let region = self.settings.store.region;
        (region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        })
    }

    async fn store_as(&self, key: &Key) -> Box<dyn ObjectStore> {
        let config = self.settings.config(key);
        Box::new(S3Store::connect(&config).await.unwrap())
    }

    async fn source_as(&self, key: &Key) -> Box<dyn CredentialSource> {
        let config = self.settings.config(key);
        Box::new(StsSource::connect(&config).await.unwrap())
    }

    /// Somebody else who makes buckets.
    async fn stranger(&self) -> Client {
        let Settings {
            store, endpoint, ..
        } = &self.settings;
        let keys = match (store.stranger, &self.settings.stranger) {
            (Stranger::OtherAccount(role), _) => {
                let source = self.source().await;
                let lifetime = Duration::from_secs(900);
                // Any policy does where none limits anything.
                let policy = PolicyDocument::allowing(&[Reach {
                    bucket: BucketName::parse("any").unwrap(),
                    place: Place::Own(Prefix::escaped(b"any")),
                    access: Access::ReadWrite,
                }])
                .unwrap();
                let assumed = source
                    .assume(
                        Some(AssumedRole::untagged(role)),
                        "stranger",
                        &policy,
                        lifetime,
                    )
                    .await;
                session(&assumed.unwrap())
            }
            (_, Some(key)) => key.for_sdk(),
            (_, None) => self.settings.manage.for_sdk(),
        };
        client(endpoint, store.region, keys)
    }

    /// The bucket's rules as the store tells of them.
    pub async fn rules(&self, bucket: &BucketName) -> Vec<LifecycleRule> {
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

    /// Has the bucket keep versions.
    pub async fn enable_versions(&self, bucket: &BucketName) {
        let enabled = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        let put = self.by_hand.put_bucket_versioning().bucket(bucket.as_str());
        put.versioning_configuration(enabled).send().await.unwrap();
    }

    /// Deletes what a bucket holds, as far as it lists it.
    async fn empty(&self, bucket: &str) {
        if let Ok(held) = self
            .by_hand
            .list_object_versions()
            .bucket(bucket)
            .send()
            .await
        {
            let versions = held.versions().iter().map(|it| (it.key(), it.version_id()));
            let markers = held
                .delete_markers()
                .iter()
                .map(|it| (it.key(), it.version_id()));
            for (key, version) in versions.chain(markers) {
                let delete = self.by_hand.delete_object().bucket(bucket);
                let delete = delete.set_key(key.map(str::to_owned));
                let delete = delete.set_version_id(version.map(str::to_owned));
                let delete = delete.bypass_governance_retention(true);
                drop(delete.send().await);
            }
        }
        if let Ok(held) = self
            .by_hand
            .list_multipart_uploads()
            .bucket(bucket)
            .send()
            .await
        {
            for upload in held.uploads() {
                let abort = self.by_hand.abort_multipart_upload().bucket(bucket);
                let abort = abort.set_key(upload.key.clone());
                let abort = abort.set_upload_id(upload.upload_id.clone());
                drop(abort.send().await);
            }
        }
    }
}

#[async_trait]
impl World for S3World {
    fn traits(&self) -> Traits {
        self.settings.store.traits()
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn store(&self) -> Box<dyn ObjectStore> {
        self.store_as(&self.settings.manage).await
    }

    async fn roles(&self) -> Box<dyn RoleStore> {
        let config = self.settings.config(&self.settings.manage);
        Box::new(Managing::connect(&config).await.unwrap().roles)
    }

    fn role(&self) -> Option<String> {
        self.settings.role.clone()
    }

    fn vending_principal(&self) -> String {
        self.settings.store.vending_principal.to_owned()
    }

    fn other_principal(&self) -> String {
        self.settings.store.other_principal.to_owned()
    }

    async fn source(&self) -> Box<dyn CredentialSource> {
        self.source_as(&self.settings.vend).await
    }

    async fn probe(&self) -> Box<dyn IsolationProbe> {
        let config = self.settings.config(&self.settings.vend);
        Box::new(S3Probe::new(&config).unwrap())
    }

    async fn store_with_unknown_key(&self) -> Box<dyn ObjectStore> {
        let key = Key {
            id: "nobody-has-this-key".into(),
            secret: "some-secret".into(),
        };
        self.store_as(&key).await
    }

    async fn store_with_wrong_secret(&self) -> Box<dyn ObjectStore> {
        let key = self.settings.manage.with_secret("not-its-secret");
        self.store_as(&key).await
    }

    async fn source_with_wrong_secret(&self) -> Box<dyn CredentialSource> {
        let key = self.settings.vend.with_secret("not-its-secret");
        self.source_as(&key).await
    }

    async fn store_at_a_closed_port(&self) -> Box<dyn ObjectStore> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut config = self.settings.config(&self.settings.manage);
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
        self.create_as(&self.stranger().await, &bucket).await;
        bucket
    }

    async fn put_by_hand(&self, bucket: &BucketName, key: &str) {
        let put = self.by_hand.put_object().bucket(bucket.as_str()).key(key);
        put.body(ByteStream::from_static(b"by hand"))
            .send()
            .await
            .unwrap();
    }

    async fn begin_upload_by_hand(&self, bucket: &BucketName, key: &str) {
        let begin = self.by_hand.create_multipart_upload();
        let begin = begin.bucket(bucket.as_str()).key(key);
        begin.send().await.unwrap();
    }

    async fn leave_a_version_behind(&self, bucket: &BucketName) {
        self.enable_versions(bucket).await;
        self.put_by_hand(bucket, "deleted").await;
        self.by_hand
            .delete_object()
            .bucket(bucket.as_str())
            .key("deleted")
            .send()
            .await
            .unwrap();
    }

    async fn bucket_with_a_locked_object(&self, key: &str) -> BucketName {
        let bucket = self.new_name();
        self.by_hand
            .create_bucket()
            .bucket(bucket.as_str())
            .set_create_bucket_configuration(self.location())
            .object_lock_enabled_for_bucket(true)
            .send()
            .await
            .unwrap();
        let until = SystemTime::now() + Duration::from_secs(3600);
        self.by_hand
            .put_object()
            .bucket(bucket.as_str())
            .key(key)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .object_lock_mode(ObjectLockMode::Governance)
            .object_lock_retain_until_date(until.into())
            .body(ByteStream::from_static(b"by hand"))
            .send()
            .await
            .unwrap();
        bucket
    }

    async fn write_policy_by_hand(&self, bucket: &BucketName, policy: &str) {
        let put = self.by_hand.put_bucket_policy().bucket(bucket.as_str());
        put.policy(policy).send().await.unwrap();
    }

    async fn open_access_list_by_hand(&self, bucket: &BucketName) {
        let put = self.by_hand.put_bucket_acl().bucket(bucket.as_str());
        let public = BucketCannedAcl::PublicRead;
        put.acl(public).send().await.unwrap();
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
        let Settings {
            store, endpoint, ..
        } = &self.settings;
        Box::new(SdkUser(client(endpoint, store.region, session(credential))))
    }

    async fn clean_up(&self) {
        let made = self.made.lock().unwrap().clone();
        for bucket in made {
            // One that was never made, or that is somebody else's, is not ours to delete.
            self.empty(bucket.as_str()).await;
            // MinIO's own header, for uploads that it does not list.
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
