//! A provider that comes to point to another store, or to another account, under existing buckets.

use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{ConditionType, Reason, StorageProvider};
use kube::ResourceExt as _;
use serde_json::json;

use crate::fixtures::{ACCOUNT, PROVIDER, hub, provider, provider_with};
use crate::world::World;

use ConditionType::{Ready, Stalled};

const FIRST: &str = "Amazon S3 us-east-1";
const OTHER: &str = "https://other.example.org";

async fn settled(mut world: World) -> World {
    world.settle().await;
    world
}

fn provider_elsewhere() -> StorageProvider {
    provider_with(json!({"s3": {"endpoint": OTHER}}))
}

/// The store and the account in the provider's status.
fn home(world: &World) -> (Option<String>, Option<String>) {
    let providers = world.server.list::<StorageProvider>();
    let found = providers.iter().find(|found| found.name_any() == PROVIDER);
    let status = found.unwrap().status.clone().unwrap_or_default();
    (status.store, status.account)
}

fn at(store: &str, account: &str) -> (Option<String>, Option<String>) {
    (Some(store.to_owned()), Some(account.to_owned()))
}

/// Provider and hub say what was first seen; nothing is done, and all comes back.
async fn assert_refused(mut world: World, words: &[&str], back: impl FnOnce(&World)) {
    let (calls, inventory) = (world.cloud.calls().len(), world.inventory());
    // The hub looks before its provider is known to have moved, and after.
    world.reconcile_hub(&hub()).await.unwrap();
    world.settle().await;

    world.provider_says(Ready, "False", Reason::ProviderMoved, words);
    world.provider_says(Stalled, "True", Reason::ProviderMoved, words);
    world.says(&hub(), Stalled, "True", Reason::ProviderMoved, words);
    assert_eq!(home(&world), at(FIRST, ACCOUNT));
    assert_eq!(
        world.cloud.calls().len(),
        calls,
        "nobody is connected to it"
    );
    assert_eq!(world.inventory(), inventory);
    world.stays_as_it_is().await;

    back(&world);
    world.settle().await;
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn where_a_provider_is_and_whose_its_keys_are_is_written_down_when_it_is_first_seen() {
    let world = settled(World::new(Behaviour::aws())).await;
    assert_eq!(home(&world), at(FIRST, ACCOUNT));
}

#[tokio::test]
async fn another_endpoint_under_existing_buckets_is_refused_with_the_first_one_named() {
    let world = settled(World::new(Behaviour::aws()).with(&hub())).await;
    let world = world.with(&provider_elsewhere());
    let words = [FIRST, OTHER, "Change its spec.s3 back"];
    assert_refused(world, &words, |world| world.server.apply(&provider())).await;
}

#[tokio::test]
async fn keys_of_another_account_under_existing_buckets_are_refused_with_the_first_one_named() {
    let world = settled(World::new(Behaviour::aws()).with(&hub())).await;
    world.keys_are_of("stranger");
    let words = [ACCOUNT, "stranger", FIRST, "Put keys of the first account"];
    assert_refused(world, &words, |world| world.keys_are_of(ACCOUNT)).await;
}

#[tokio::test]
async fn a_provider_without_buckets_may_go_where_it_likes() {
    let mut world = settled(World::new(Behaviour::aws()).with(&provider_elsewhere())).await;
    assert_eq!(home(&world), at(OTHER, ACCOUNT));

    world.keys_are_of("stranger");
    let mut world = {
        world.settle().await;
        assert_eq!(home(&world), at(OTHER, "stranger"));
        world.with(&provider())
    };
    world.settle().await;
    assert_eq!(home(&world), at(FIRST, "stranger"));

    let world = settled(world.with(&hub())).await;
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn what_was_first_seen_outlasts_a_restart_and_an_outage() {
    let mut world = settled(World::new(Behaviour::aws()).with(&hub())).await;
    world.keys_are_of("stranger");
    world.restart();
    world.settle().await;
    world.provider_says(Stalled, "True", Reason::ProviderMoved, &[ACCOUNT]);

    world.keys_are_of(ACCOUNT);
    let outage = hubstorage_cloud::CloudError::Unreachable {
        endpoint: "store".to_owned(),
        cause: "refused".to_owned(),
    };
    world.cloud.fail_with(Some(outage));
    world.settle().await;

    assert_eq!(home(&world), at(FIRST, ACCOUNT));
}
