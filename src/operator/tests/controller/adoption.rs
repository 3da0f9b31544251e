//! Buckets that were there before: who is let in, what is taken over, and what stays as it was.

use hubstorage_cloud::Tags;
use hubstorage_cloud::memory::{Behaviour, Bucket};
use hubstorage_core::api::{
    ConditionType, Encryption, EncryptionType, HubStorage, OWNER_TAG, Origin, Reason, Versioning,
};
use hubstorage_core::bucket_policy::BucketPolicy;
use hubstorage_core::lifecycle::{Rule, RuleBody};
use serde_json::{Value, json};

use crate::fixtures::{ACCOUNT, hub, hub_with, scratch};
use crate::world::World;

use ConditionType::{Ready, Stalled};

/// The hub with the scratch bucket alone, and these fields in it.
fn with_bucket(fields: Value) -> HubStorage {
    let mut bucket = json!({"name": "scratch", "bucketName": "earth-scratch"});
    json_patch::merge(&mut bucket, &fields);
    hub_with("earth", "earth", json!({"buckets": [bucket]}))
}

/// A statement of others that refuses something: it grants nothing to anybody.
const FOREIGN: &str = r#"{"Id":"terraform","Version":"2012-10-17","Statement":[{"Sid":"KeepLogs","Effect":"Deny","Principal":{"AWS":"*"},"Action":"s3:DeleteObject","Resource":"arn:aws:s3:::earth-scratch/logs/*"}]}"#;

/// A bucket that somebody made with other tools, and uses.
fn theirs(world: &World) -> Bucket {
    let mut bucket = Bucket::new(ACCOUNT, world.cloud.now());
    bucket.tags = [("team".to_owned(), "climate".to_owned())]
        .into_iter()
        .collect::<Tags>();
    bucket.rules = vec![Rule {
        id: "logs".to_owned(),
        body: RuleBody::Other("logs/ expire after 30 days".to_owned()),
    }];
    bucket.policy = BucketPolicy::parse(FOREIGN).unwrap();
    bucket.versioning = Some(Versioning::Enabled);
    bucket.encryption = Some(Encryption {
        type_: EncryptionType::KMS,
        kms_key_id: Some("theirs".to_owned()),
    });
    bucket.objects.insert("bob/a".to_owned(), b"data".to_vec());
    bucket
}

fn tagged(mut bucket: Bucket, owner: &str) -> Bucket {
    bucket.tags.0.insert(OWNER_TAG.to_owned(), owner.to_owned());
    bucket
}

/// A store with this bucket, and the hub that names it.
async fn settled(behaviour: Behaviour, bucket: fn(&World) -> Bucket, hub: &HubStorage) -> World {
    let mut world = World::new(behaviour);
    let bucket = bucket(&world);
    world.cloud.insert_by_hand(&scratch(), bucket);
    world.server.apply(hub);
    world.cloud.advance(std::time::Duration::from_secs(3600));
    world.settle().await;
    world
}

fn of_status(world: &World) -> Option<Origin> {
    let status = world.hub(&hub()).status.unwrap();
    status.buckets.first().and_then(|bucket| bucket.origin)
}

fn in_store(world: &World) -> Bucket {
    world.cloud.bucket(&scratch()).unwrap()
}

#[tokio::test]
async fn a_bucket_without_our_tag_is_refused_unless_adoption_is_always() {
    for adoption in ["Never", "IfOwned"] {
        let hub = with_bucket(json!({"adoption": adoption}));
        let mut world = settled(Behaviour::aws(), theirs, &hub).await;
        assert_eq!(world.cloud.writes(), [], "{adoption}");
        world.says(
            &hub,
            Stalled,
            "True",
            Reason::BucketOwnedByOthers,
            &["spec.buckets[scratch]", "set adoption to Always"],
        );
        assert_eq!(of_status(&world), None);
        world.stays_as_it_is().await;
    }
    let hub = with_bucket(json!({"adoption": "Always"}));
    let world = settled(Behaviour::aws(), theirs, &hub).await;
    assert!(world.is_ready(&hub));
    assert_eq!(of_status(&world), Some(Origin::Adopted));
    assert_eq!(world.server.events_of("BucketAdopted").len(), 1);
}

#[tokio::test]
async fn a_bucket_with_our_tag_is_taken_over_unless_adoption_is_never() {
    let ours = |world: &World| tagged(theirs(world), "here/earth/earth");
    let hub = with_bucket(json!({}));
    let world = settled(Behaviour::aws(), ours, &hub).await;
    assert!(world.is_ready(&hub));
    assert_eq!(of_status(&world), Some(Origin::Adopted));
    assert_eq!(world.cloud.writes(), []);

    let hub = with_bucket(json!({"adoption": "Never"}));
    let world = settled(Behaviour::aws(), ours, &hub).await;
    let words = ["earth-scratch", "Set adoption to IfOwned"];
    world.says(&hub, Stalled, "True", Reason::BucketExists, &words);
}

#[tokio::test]
async fn a_bucket_of_another_owner_is_refused_with_the_owner_named_however_it_is_asked_for() {
    let others = |world: &World| tagged(theirs(world), "here/mars/mars");
    for fields in [
        json!({"adoption": "Never"}),
        json!({"adoption": "IfOwned"}),
        json!({"adoption": "Always"}),
        json!({"management": "AccessOnly"}),
    ] {
        let hub = with_bucket(fields.clone());
        let world = settled(Behaviour::minio(), others, &hub).await;
        let words = ["earth-scratch", "belongs to here/mars/mars"];
        world.says(&hub, Stalled, "True", Reason::BucketOwnedByOthers, &words);
        assert_eq!(
            in_store(&world),
            others(&World::new(Behaviour::minio())),
            "{fields}"
        );
    }
}

#[tokio::test]
async fn what_the_spec_does_not_name_stays_as_it_was_and_what_it_names_is_kept() {
    for behaviour in [Behaviour::aws(), Behaviour::minio()] {
        let hub = with_bucket(json!({"adoption": "Always", "lifecycle": {"expireAfterDays": 7}}));
        let mut world = settled(behaviour, theirs, &hub).await;
        assert!(world.is_ready(&hub));
        let (before, mut now) = (theirs(&World::new(Behaviour::aws())), in_store(&world));
        assert_eq!(now.rules[0], before.rules[0]);
        assert!(now.rules.len() > 3, "{:?}", now.rules);
        assert_eq!(
            now.tags.0.remove(OWNER_TAG).as_deref(),
            Some("here/earth/earth")
        );
        now.rules.truncate(1);
        assert_eq!(now, before);
        world.stays_as_it_is().await;
    }
}

#[tokio::test]
async fn a_bucket_that_others_keep_is_used_and_never_touched() {
    let hub = with_bucket(json!({"management": "AccessOnly"}));
    let mut world = settled(Behaviour::minio(), theirs, &hub).await;
    assert!(world.is_ready(&hub));
    assert_eq!(world.cloud.writes(), []);
    assert_eq!(of_status(&world), Some(Origin::AccessOnly));
    let status = world.hub(&hub).status.unwrap();
    let store = crate::fixtures::provider().spec.s3.unwrap().store();
    let names: Vec<_> = status.existing_buckets(&store).map(|b| &b.name).collect();
    assert_eq!(names, ["scratch"], "pods are sent there, and vended for");
    world.stays_as_it_is().await;

    world.cloud.remove_by_hand(&scratch());
    world.settle().await;
    world.says(&hub, Ready, "False", Reason::BucketMissing, &["AccessOnly"]);
    assert_eq!(world.cloud.writes(), []);
}

/// The hub that names every setting.
fn with_settings() -> HubStorage {
    with_bucket(json!({
        "adoption": "Always", "versioning": "Enabled", "publicAccess": "Blocked",
        "objectOwnership": "BucketOwnerEnforced", "insecureTransport": "Denied",
        "encryption": {"type": "KMS", "kmsKeyID": "theirs"},
    }))
}

type Change = (&'static str, fn(&mut Bucket));

#[tokio::test]
async fn each_setting_that_was_changed_is_put_back_with_one_event_that_says_what_was_found() {
    let changes: [Change; 6] = [
        ("block public access", |bucket| {
            bucket.public_access_blocked = false
        }),
        ("switch access control lists off", |bucket| {
            bucket.owner_enforced = false
        }),
        ("keep old versions", |bucket| {
            bucket.versioning = Some(Versioning::Suspended);
        }),
        ("encrypt with KMS key theirs", |bucket| {
            bucket.encryption = None
        }),
        ("no statement HubStorageDenyInsecureTransport", |bucket| {
            bucket.policy = BucketPolicy::parse(FOREIGN).unwrap();
        }),
        (
            "statement HubStorageDenyInsecureTransport changed",
            |bucket| {
                let ours = bucket.policy.with(&scratch(), &[].into()).unwrap();
                let mut policy: Value = serde_json::from_str(&ours).unwrap();
                let altered = json!({"Sid": "HubStorageDenyInsecureTransport", "Effect": "Deny",
                "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::earth-scratch/*"});
                policy["Statement"].as_array_mut().unwrap().push(altered);
                bucket.policy = BucketPolicy::parse(&policy.to_string()).unwrap();
            },
        ),
    ];
    let mut world = settled(Behaviour::aws(), theirs, &with_settings()).await;
    assert!(world.is_ready(&hub()));
    let right = in_store(&world);
    for (found, change) in changes {
        let before = world.server.events_of("DriftCorrected").len();
        world.cloud.edit_by_hand(&scratch(), change);
        assert_ne!(in_store(&world), right, "{found}");
        world.settle().await;
        assert_eq!(in_store(&world), right, "{found}");
        let told = world.server.events_of("DriftCorrected").split_off(before);
        assert_eq!(told.len(), 1, "{found}: {told:?}");
        assert_eq!(told[0].type_, "Warning");
    }
}

#[tokio::test]
async fn what_was_found_stands_in_the_event() {
    let mut world = settled(Behaviour::aws(), theirs, &with_settings()).await;
    world.cloud.edit_by_hand(&scratch(), |bucket| {
        bucket.public_access_blocked = false;
        bucket.policy = BucketPolicy::default();
    });
    world.settle().await;
    let told = world.server.events_of("DriftCorrected");
    let notes: Vec<&str> = told.iter().map(|event| event.note.as_str()).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("found not block public access"));
    assert!(notes[1].contains("found no statement HubStorageDenyInsecureTransport"));
}

#[tokio::test]
async fn where_the_store_has_no_switch_a_statement_keeps_the_public_out() {
    let hub = with_bucket(json!({"adoption": "Always", "publicAccess": "Blocked"}));
    let mut world = settled(Behaviour::minio(), theirs, &hub).await;
    let wanted = [hubstorage_core::bucket_policy::Statement::DenyAnonymous].into();
    let right = in_store(&world);
    assert_eq!(
        right.policy.deviations(&scratch(), &wanted),
        [] as [String; 0]
    );

    world.cloud.edit_by_hand(&scratch(), |bucket| {
        let public = r#"{"Version":"2012-10-17","Statement":[{"Sid":"Public","Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::earth-scratch/*"}]}"#;
        bucket.policy = BucketPolicy::parse(public).unwrap();
    });
    world.settle().await;
    let policy = in_store(&world).policy;
    assert_eq!(policy.deviations(&scratch(), &wanted), [] as [String; 0]);
    assert_eq!(policy.grants().len(), 1, "others' statement survives");
    let told = world.server.events_of("DriftCorrected");
    assert!(
        told[0]
            .note
            .contains("found no statement HubStorageDenyAnonymous")
    );
}
