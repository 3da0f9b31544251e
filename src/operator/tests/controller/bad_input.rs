//! What people get wrong: each is said in a condition that names the field and the way out,
//! nothing is written to the store, and all is well once the cause is mended.

use hubstorage_cloud::CloudError;
use hubstorage_cloud::memory::{Behaviour, Bucket};
use hubstorage_core::api::{
    ConditionStatus, ConditionType, HubStorage, OWNER_TAG, Reason, StorageProvider,
};
use kube::ResourceExt as _;
use serde_json::json;

use crate::fault_injection::ROUNDS_UNTIL_NOTHING_COMES;
use crate::fixtures::{
    hub, hub_with, hub_with_scratch_alone, namespace, provider, provider_with, scratch,
};
use crate::world::World;

use ConditionType::{BucketsReady, Ready, Reconciling, Stalled};

/// Asserts that `hub` is stalled (or waits) for `reason`, in words that hold all of `words`, and
/// that the store was not written to.
pub fn assert_refused(
    world: &World,
    hub: &HubStorage,
    why: ConditionType,
    reason: Reason,
    words: &[&str],
) {
    world.says(
        hub,
        Ready,
        &ConditionStatus::False.to_string(),
        reason,
        words,
    );
    world.says(hub, why, "True", reason, words);
    assert_eq!(world.cloud.writes(), [], "nothing is written to the store");
}

pub async fn assert_mended(mut world: World, hub: &HubStorage) {
    world.rounds(ROUNDS_UNTIL_NOTHING_COMES).await;
    world.settle().await;
    assert!(world.is_ready(hub), "{:?}", world.hub(hub).status);
    world.stays_as_it_is().await;
}

pub async fn settled(world: World) -> World {
    let mut world = world;
    world.settle().await;
    world
}

#[tokio::test]
async fn a_provider_that_does_not_exist() {
    let world = World::empty(Behaviour::aws())
        .with(&namespace("earth"))
        .with(&hub());
    let mut world = settled(world).await;
    assert_refused(
        &world,
        &hub(),
        Stalled,
        Reason::ProviderNotFound,
        &[
            "spec.providerRef.name",
            "no StorageProvider store",
            "Create it",
        ],
    );
    world.stays_as_it_is().await;
    assert_mended(world.with(&provider()), &hub()).await;
}

#[tokio::test]
async fn a_provider_that_is_for_other_namespaces() {
    let world = World::new(Behaviour::aws()).with(&hub());
    world.server.edit(&namespace("earth"), |namespace| {
        namespace["metadata"]["labels"] = json!({"tier": "test"})
    });
    let world = settled(world).await;
    assert_refused(
        &world,
        &hub(),
        Stalled,
        Reason::NamespaceNotAllowed,
        &[
            "StorageProvider store is not for namespace earth",
            "spec.namespaces",
            "tier",
            "Label the namespace",
        ],
    );
    assert_mended(world.with(&namespace("earth")), &hub()).await;
}

#[tokio::test]
async fn a_bucket_name_that_the_provider_does_not_allow() {
    let narrow = provider_with(json!({"bucketNames": ["mars-*", "venus-*"]}));
    let world = settled(World::new(Behaviour::aws()).with(&narrow).with(&hub())).await;
    assert_refused(
        &world,
        &hub(),
        Stalled,
        Reason::BucketNameNotAllowed,
        &[
            "spec.buckets[scratch].bucketName",
            "earth-scratch",
            "mars-*, venus-*",
            "Choose another bucketName",
            "spec.bucketNames",
        ],
    );
    assert_mended(world.with(&provider()), &hub()).await;
}

#[tokio::test]
async fn a_bucket_name_that_no_store_takes() {
    let bad = hub_with(
        "earth",
        "earth",
        json!({"buckets": [{"name": "scratch", "bucketName": "a--b"}]}),
    );
    let world = settled(World::new(Behaviour::aws()).with(&bad)).await;
    assert_refused(
        &world,
        &bad,
        Stalled,
        Reason::BucketNameInvalid,
        &[
            "spec.buckets[scratch].bucketName",
            "\"a--b\"",
            "two hyphens",
        ],
    );
    assert_mended(world.with(&hub()), &hub()).await;
}

#[tokio::test]
async fn the_same_bucket_name_twice() {
    let twice = json!({"buckets": [
        {"name": "scratch", "bucketName": "common", "lifecycle": {"expireAfterDays": 7}},
        {"name": "persistent", "bucketName": "common"},
    ]});
    let twice = hub_with("earth", "earth", twice);
    let world = settled(World::new(Behaviour::aws()).with(&twice)).await;
    assert_refused(
        &world,
        &twice,
        Stalled,
        Reason::BucketNameInvalid,
        &[
            "spec.buckets[persistent].bucketName",
            "common is the bucket of spec.buckets[scratch] already",
            "Give each a bucket of its own",
        ],
    );
    assert_mended(world.with(&hub()), &hub()).await;
}

#[tokio::test]
async fn an_intent_for_one_bucket_is_no_claim_on_another_of_the_same_name() {
    let with_name = |bucket: &str| {
        hub_with(
            "earth",
            "earth",
            json!({"buckets": [{"name": "scratch", "bucketName": bucket}]}),
        )
    };
    let mut world = settled(World::new(Behaviour::minio()).with(&with_name("minio"))).await;
    let theirs = Bucket::new(crate::fixtures::ACCOUNT, world.cloud.now());
    world.cloud.insert_by_hand(&scratch(), theirs.clone());
    world.cloud.advance(std::time::Duration::from_secs(60));
    world.server.apply(&with_name("earth-scratch"));
    world.settle().await;
    assert_eq!(world.cloud.bucket(&scratch()), Some(theirs));
    world.says(
        &hub(),
        Stalled,
        "True",
        Reason::BucketOwnedByOthers,
        &["earth-scratch"],
    );
}

#[tokio::test]
async fn a_bucket_name_that_this_store_keeps_for_itself() {
    let reserved = hub_with(
        "earth",
        "earth",
        json!({"buckets": [{"name": "scratch", "bucketName": "minio"}]}),
    );
    let world = settled(World::new(Behaviour::minio()).with(&reserved)).await;
    world.says(
        &reserved,
        Ready,
        "False",
        Reason::BucketNameInvalid,
        &["minio", "choose another bucketName"],
    );
    world.says(
        &reserved,
        Stalled,
        "True",
        Reason::BucketNameInvalid,
        &["minio"],
    );
    assert_eq!(world.inventory(), "");
    assert_mended(world.with(&hub()), &hub()).await;
}

/// Each bucket of somebody else, and what the message says of it.
async fn assert_left_alone(behaviour: Behaviour, theirs: Bucket, words: &[&str]) {
    let world = World::new(behaviour).with(&hub_with_scratch_alone());
    world.cloud.insert_by_hand(&scratch(), theirs);
    let before = world.inventory();
    let mut world = settled(world).await;
    let mut told = vec![
        "spec.buckets[scratch]",
        "earth-scratch",
        "Choose another bucketName",
        OWNER_TAG,
    ];
    told.extend(words);
    assert_refused(&world, &hub(), Stalled, Reason::BucketOwnedByOthers, &told);
    world.says(
        &hub(),
        BucketsReady,
        "False",
        Reason::BucketOwnedByOthers,
        &told,
    );
    assert_eq!(world.inventory(), before);
    assert_eq!(
        world.hub(&hub()).status.unwrap().buckets,
        [],
        "pods must not be sent there"
    );
    world.stays_as_it_is().await;

    world.cloud.remove_by_hand(&scratch());
    assert_mended(world, &hub()).await;
}

fn bucket_of(owner: &str) -> Bucket {
    let world = World::empty(Behaviour::aws());
    Bucket::new(owner, world.cloud.now())
}

#[tokio::test]
async fn a_bucket_that_bears_the_tag_of_another_hub() {
    let mut theirs = bucket_of(crate::fixtures::ACCOUNT);
    theirs
        .tags
        .0
        .insert(OWNER_TAG.to_owned(), "here/mars/mars".to_owned());
    assert_left_alone(
        Behaviour::minio(),
        theirs,
        &["it belongs to here/mars/mars"],
    )
    .await;
}

#[tokio::test]
async fn a_bucket_that_bears_the_tag_of_another_installation() {
    let mut theirs = bucket_of(crate::fixtures::ACCOUNT);
    theirs
        .tags
        .0
        .insert(OWNER_TAG.to_owned(), "there/earth/earth".to_owned());
    assert_left_alone(
        Behaviour::aws(),
        theirs,
        &["it belongs to there/earth/earth"],
    )
    .await;
}

#[tokio::test]
async fn an_untagged_bucket_that_holds_data() {
    let mut theirs = bucket_of(crate::fixtures::ACCOUNT);
    theirs
        .objects
        .insert("precious".to_owned(), b"data".to_vec());
    assert_left_alone(
        Behaviour::minio(),
        theirs,
        &["set its tag hubstorage.io/owner to here/earth/earth"],
    )
    .await;
}

#[tokio::test]
async fn an_untagged_bucket_that_is_empty_but_older_than_any_intent() {
    assert_left_alone(
        Behaviour::minio(),
        bucket_of(crate::fixtures::ACCOUNT),
        &["bears no tag"],
    )
    .await;
}

#[tokio::test]
async fn a_bucket_that_our_keys_do_not_reach() {
    assert_left_alone(
        Behaviour::aws(),
        bucket_of("somebody else"),
        &["our keys do not reach it"],
    )
    .await;
}

#[tokio::test]
async fn a_bucket_that_is_given_to_us_by_its_tag() {
    let world = World::new(Behaviour::minio()).with(&hub_with_scratch_alone());
    let mut theirs = bucket_of(crate::fixtures::ACCOUNT);
    theirs
        .objects
        .insert("precious".to_owned(), b"data".to_vec());
    world.cloud.insert_by_hand(&scratch(), theirs);
    let world = settled(world).await;
    let given = |bucket: &mut Bucket| {
        drop(
            bucket
                .tags
                .0
                .insert(OWNER_TAG.to_owned(), "here/earth/earth".to_owned()),
        )
    };
    world.cloud.edit_by_hand(&scratch(), given);
    assert_mended(world, &hub()).await;
}

#[tokio::test]
async fn one_bucket_of_somebody_else_does_not_keep_the_other_from_being_made() {
    let world = World::new(Behaviour::minio()).with(&hub());
    world
        .cloud
        .insert_by_hand(&scratch(), bucket_of(crate::fixtures::ACCOUNT));
    let world = settled(world).await;
    world.says(
        &hub(),
        Ready,
        "False",
        Reason::BucketOwnedByOthers,
        &["scratch"],
    );
    let known: Vec<String> = world
        .hub(&hub())
        .status
        .unwrap()
        .buckets
        .into_iter()
        .map(|bucket| bucket.name)
        .collect();
    assert_eq!(known, ["persistent"]);
}

/// Fails every call to the store with `error`, from before the hub is made until it is mended.
async fn assert_store_trouble(
    error: CloudError,
    reason: Reason,
    why: ConditionType,
    words: &[&str],
) {
    let world = World::new(Behaviour::aws()).with(&hub());
    world.cloud.fail_with(Some(error));
    let mut world = settled(world).await;
    world.provider_says(Ready, "False", reason, words);
    world.provider_says(why, "True", reason, words);
    let mut told = vec!["StorageProvider store is not Ready"];
    told.extend(words);
    assert_refused(&world, &hub(), Reconciling, Reason::ProviderNotReady, &told);
    world.stays_as_it_is().await;
    world.cloud.fail_with(None);
    assert_mended(world, &hub()).await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer() {
    let error = CloudError::Unreachable {
        endpoint: "https://s3.example.org".to_owned(),
        cause: "refused".to_owned(),
    };
    let words = [
        "https://s3.example.org is unreachable",
        "check spec.s3.endpoint",
    ];
    assert_store_trouble(error, Reason::EndpointUnreachable, Reconciling, &words).await;
}

#[tokio::test]
async fn keys_that_the_store_does_not_take() {
    let error = CloudError::CredentialsRejected {
        endpoint: "store".to_owned(),
        keys: "Secret hubstorage-system/manage".to_owned(),
        code: "SignatureDoesNotMatch".to_owned(),
    };
    let words = [
        "does not accept the keys of Secret hubstorage-system/manage",
        "SignatureDoesNotMatch",
    ];
    assert_store_trouble(error, Reason::CredentialsRejected, Stalled, &words).await;
}

#[tokio::test]
async fn a_permission_that_is_missing() {
    let world = World::new(Behaviour::aws()).with(&hub());
    world.cloud.behave(|behaviour| {
        behaviour.missing_permissions.insert("s3:CreateBucket");
    });
    let world = settled(world).await;
    world.says(
        &hub(),
        Ready,
        "False",
        Reason::AccessDenied,
        &[
            "s3:CreateBucket",
            "earth-scratch",
            "add it to the identity's policy",
        ],
    );
    world.says(&hub(), Stalled, "True", Reason::AccessDenied, &[]);
    assert_eq!(world.inventory(), "");
    world
        .cloud
        .behave(|behaviour| behaviour.missing_permissions.clear());
    assert_mended(world, &hub()).await;
}

#[tokio::test]
async fn a_hub_that_was_fine_keeps_its_buckets_in_status_while_the_store_is_in_trouble() {
    let troubles = [
        CloudError::Unreachable {
            endpoint: "store".to_owned(),
            cause: "refused".to_owned(),
        },
        CloudError::CredentialsRejected {
            endpoint: "store".to_owned(),
            keys: "Secret hubstorage-system/manage".to_owned(),
            code: "InvalidAccessKeyId".to_owned(),
        },
        CloudError::AccessDenied {
            permission: "s3:GetBucketTagging",
            resource: "earth-scratch".to_owned(),
        },
    ];
    for trouble in troubles {
        let mut world = settled(World::new(Behaviour::aws()).with(&hub())).await;
        let buckets = |world: &World| {
            let status = world.hub(&hub()).status.unwrap();
            status
                .existing_buckets(&provider().spec.s3.unwrap().store())
                .map(|bucket| bucket.name.clone())
                .collect::<Vec<_>>()
        };
        let before = buckets(&world);
        world.cloud.fail_with(Some(trouble.clone()));
        // The hub looks before its provider is known to be in trouble.
        world.reconcile_hub(&hub()).await.unwrap();
        assert!(!world.is_ready(&hub()));
        assert_eq!(
            buckets(&world),
            before,
            "{trouble}: pods go on being sent there"
        );
        assert!(world.orphans().is_empty(), "{trouble}");
        world.cloud.fail_with(None);
        assert_mended(world, &hub()).await;
    }
}

#[tokio::test]
async fn a_cloud_that_is_not_built_yet() {
    let gcs: StorageProvider = provider_with(json!({"s3": null, "gcs": {"project": "climate"}}));
    let world = World::empty(Behaviour::aws())
        .with(&namespace("earth"))
        .with(&gcs)
        .with(&hub());
    let mut world = settled(world).await;
    world.provider_says(
        Ready,
        "False",
        Reason::Unsupported,
        &["StorageProvider store", "only spec.s3 is"],
    );
    world.provider_says(Stalled, "True", Reason::Unsupported, &[]);
    assert_refused(
        &world,
        &hub(),
        Reconciling,
        Reason::ProviderNotReady,
        &["Unsupported", "only spec.s3 is"],
    );
    world.stays_as_it_is().await;
    assert_mended(world.with(&provider()), &hub()).await;
}

#[tokio::test]
async fn a_second_hub_in_the_namespace_changes_nothing_until_the_first_is_gone() {
    let second = hub_with(
        "earth",
        "a-second",
        json!({"buckets": [{"name": "more", "bucketName": "earth-more"}]}),
    );
    let mut world = settled(World::new(Behaviour::aws()).with(&hub())).await;
    let before = world.inventory();
    world.server.apply(&second);
    world.settle().await;
    world.says(
        &second,
        Ready,
        "False",
        Reason::SecondHubStorage,
        &[
            "HubStorage earth was in namespace earth first",
            "Delete one of the two",
        ],
    );
    world.says(&second, Stalled, "True", Reason::SecondHubStorage, &[]);
    assert!(world.is_ready(&hub()), "the first is not disturbed");
    assert_eq!(world.inventory(), before);
    assert!(world.hub(&second).finalizers().is_empty());
    world.stays_as_it_is().await;

    world.server.delete(&hub());
    assert_mended(world, &second).await;
}

#[tokio::test]
async fn buckets_whose_session_policy_cannot_fit_for_a_user_with_a_long_name() {
    let bucket = |at: usize| json!({"name": format!("b{at}"), "bucketName": format!("{at}-{}", "x".repeat(60))});
    let buckets: Vec<_> = (0..8).map(bucket).collect();
    let many = hub_with("earth", "earth", json!({"buckets": buckets}));
    let world = settled(World::new(Behaviour::aws()).with(&many)).await;
    assert_refused(
        &world,
        &many,
        Stalled,
        Reason::InvalidConfiguration,
        &["spec.buckets", "2048"],
    );
}

#[tokio::test]
async fn a_pod_selector_that_nobody_can_evaluate() {
    let selector =
        json!({"matchExpressions": [{"key": "component", "operator": "in", "values": ["x"]}]});
    let sources = json!([{
        "name": "notebook", "podSelector": selector, "creators": [{"serviceAccount": {"name": "hub"}}],
    }]);
    let odd = hub_with("earth", "earth", json!({"users": {"sources": sources}}));
    let world = settled(World::new(Behaviour::aws()).with(&odd)).await;
    assert_refused(
        &world,
        &odd,
        Stalled,
        Reason::InvalidConfiguration,
        &["spec.users.sources[notebook].podSelector"],
    );
}
