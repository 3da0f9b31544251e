//! Settings besides lifecycle rules, and the bucket's policy.

use std::collections::BTreeSet;

use hubstorage_cloud::CloudError;
use hubstorage_core::api::{Capability, Encryption, EncryptionType, Versioning};
use hubstorage_core::bucket_policy::{BucketPolicy, Statement};
use hubstorage_core::names::BucketName;
use hubstorage_core::settings::Setting;

use crate::world::{World, new_bucket};

/// Every setting that has a call of its own.
fn every() -> [Setting; 5] {
    [
        Setting::PublicAccessBlock,
        Setting::BucketOwnerEnforced,
        Setting::Versioning(Versioning::Enabled),
        Setting::Versioning(Versioning::Suspended),
        Setting::Encryption(Encryption {
            type_: EncryptionType::StoreManaged,
            kms_key_id: None,
        }),
    ]
}

pub async fn a_setting_that_the_store_can_do_is_set_and_found(world: &dyn World) {
    let store = world.store().await;
    for setting in every() {
        if !world.traits().supports.has(setting.needs()) {
            continue;
        }
        let bucket = new_bucket(world).await;
        for _ in 0..2 {
            store.apply_setting(&bucket, &setting).await.unwrap();
            assert_eq!(store.deviation(&bucket, &setting).await, Ok(None));
        }
    }
}

pub async fn a_setting_that_the_store_cannot_do_is_named_when_it_is_set_at_the_latest(
    world: &dyn World,
) {
    let store = world.store().await;
    for setting in every() {
        let capability = setting.needs();
        if world.traits().supports.has(capability) {
            continue;
        }
        let bucket = new_bucket(world).await;
        let told = match store.deviation(&bucket, &setting).await {
            Err(error) => Err(error),
            Ok(found) => {
                assert!(found.is_some(), "{setting} is said to be in force");
                store.apply_setting(&bucket, &setting).await
            }
        };
        assert_eq!(
            told,
            Err(CloudError::Unsupported { capability }),
            "{setting}"
        );
    }
}

pub async fn versioning_that_was_changed_is_seen(world: &dyn World) {
    // What a store without versioning says instead is another behaviour's.
    if !world.traits().supports.has(Capability::Versioning) {
        return;
    }
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    let [enabled, suspended] =
        [Versioning::Enabled, Versioning::Suspended].map(Setting::Versioning);
    let never = store.deviation(&bucket, &suspended).await;
    assert_eq!(never, Ok(None), "a new bucket keeps no versions");
    for (is, other) in [(&enabled, &suspended), (&suspended, &enabled)] {
        store.apply_setting(&bucket, is).await.unwrap();
        let found = store.deviation(&bucket, other).await.unwrap();
        assert!(found.is_some(), "{other}");
    }
}

pub async fn a_new_bucket_has_no_policy(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    assert_eq!(
        store.bucket_policy(&bucket).await,
        Ok(BucketPolicy::default())
    );
}

/// Somebody lets everybody read what is under `public/`.
fn open(bucket: &BucketName) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"Public","Effect":"Allow","Principal":{{"AWS":["*"]}},"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::{bucket}/public/*"]}}]}}"#
    )
}

pub async fn statements_of_ours_come_and_go_beside_those_of_others(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    world.write_policy_by_hand(&bucket, &open(&bucket)).await;
    let before = store.bucket_policy(&bucket).await.unwrap();
    let ours = BTreeSet::from([Statement::DenyAnonymous]);

    for wanted in [&ours, &ours, &BTreeSet::new()] {
        let setting = Setting::Statements(wanted.clone());
        store.apply_setting(&bucket, &setting).await.unwrap();
        let policy = store.bucket_policy(&bucket).await.unwrap();
        assert_eq!(policy.deviations(&bucket, wanted), [""; 0]);
        assert_eq!(policy.grants(), before.grants());
    }
    assert_eq!(store.bucket_policy(&bucket).await.unwrap(), before);
}

pub async fn an_access_list_tells_who_else_gets_in(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    assert_eq!(store.access_list(&bucket).await, Ok(Vec::new()));
    if !world.traits().access_lists {
        return;
    }
    world.open_access_list_by_hand(&bucket).await;
    let found = store.access_list(&bucket).await.unwrap();
    let words: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["the access control list grants READ to *"]);
}

pub async fn the_last_statement_can_be_removed(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    for wanted in [BTreeSet::from([Statement::DenyAnonymous]), BTreeSet::new()] {
        let setting = Setting::Statements(wanted);
        store.apply_setting(&bucket, &setting).await.unwrap();
    }
    assert_eq!(
        store.bucket_policy(&bucket).await,
        Ok(BucketPolicy::default())
    );
}

pub async fn a_bucket_keeps_its_time_of_creation(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    let created = store.created(&bucket).await.unwrap();
    assert!(created.is_some());
    let setting = Setting::Statements(BTreeSet::from([Statement::DenyAnonymous]));
    store.apply_setting(&bucket, &setting).await.unwrap();
    assert_eq!(store.created(&bucket).await, Ok(created));
    assert_eq!(store.created(&world.new_name()).await, Ok(None));
}
