//! Lifecycle rules.

use std::num::NonZeroU16;

use hubstorage_cloud::{CloudError, ObjectStore};
use hubstorage_core::api::Capability;
use hubstorage_core::lifecycle::{self, Changed, Days, Effect, Rule, RuleBody};
use hubstorage_core::names::BucketName;

use crate::world::{RULE_OF_OTHERS, World, new_bucket};

const WEEK: Days = Days(NonZeroU16::new(7).unwrap());
const MONTH: Days = Days(NonZeroU16::new(30).unwrap());

fn declared(world: &dyn World, days: Days) -> Vec<Effect> {
    lifecycle::achievable(&lifecycle::expiring(days), world.traits().supports).apply
}

/// The full rule set of a week, as far as this store takes it.
pub fn supported(world: &dyn World) -> Vec<Effect> {
    declared(world, WEEK)
}

/// A store, and a new bucket of it with that rule set.
async fn bucket_with_rules(world: &dyn World) -> (Box<dyn ObjectStore>, BucketName) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    let set = store.set_lifecycle_rules(&bucket, &supported(world)).await;
    set.unwrap();
    (store, bucket)
}

fn known(effects: &[Effect]) -> Vec<Rule<()>> {
    effects
        .iter()
        .map(|effect| Rule {
            id: effect.rule_id(),
            body: RuleBody::Known(*effect),
        })
        .collect()
}

fn by_id(mut rules: Vec<Rule<()>>) -> Vec<Rule<()>> {
    rules.sort_by(|a, b| a.id.cmp(&b.id));
    rules
}

pub async fn rules_read_back_as_declared(world: &dyn World) {
    let (store, bucket) = bucket_with_rules(world).await;
    let read = store.lifecycle_rules(&bucket).await.unwrap();
    assert!(
        lifecycle::difference(&read, &supported(world)).is_empty(),
        "{read:?}"
    );
    assert_eq!(by_id(read), by_id(known(&supported(world))));
}

pub async fn rules_set_twice_stay_the_same(world: &dyn World) {
    let (store, bucket) = bucket_with_rules(world).await;
    let once = store.lifecycle_rules(&bucket).await.unwrap();
    store
        .set_lifecycle_rules(&bucket, &supported(world))
        .await
        .unwrap();
    assert_eq!(store.lifecycle_rules(&bucket).await.unwrap(), once);
}

pub async fn rules_of_others_survive_a_change_of_ours(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    world.add_rule_of_others(&bucket).await;
    for days in [WEEK, MONTH] {
        store
            .set_lifecycle_rules(&bucket, &declared(world, days))
            .await
            .unwrap();
    }
    store.set_lifecycle_rules(&bucket, &[]).await.unwrap();
    let read = store.lifecycle_rules(&bucket).await.unwrap();
    assert_eq!(
        read,
        [Rule {
            id: RULE_OF_OTHERS.into(),
            body: RuleBody::Other(())
        }]
    );
    assert!(world.has_rule_of_others(&bucket).await);
}

pub async fn rules_that_are_no_longer_declared_are_removed(world: &dyn World) {
    let (store, bucket) = bucket_with_rules(world).await;
    store
        .set_lifecycle_rules(&bucket, &[Effect::Expire(MONTH)])
        .await
        .unwrap();
    assert_eq!(
        store.lifecycle_rules(&bucket).await.unwrap(),
        known(&[Effect::Expire(MONTH)])
    );
}

pub async fn the_last_rule_can_be_removed(world: &dyn World) {
    let (store, bucket) = bucket_with_rules(world).await;
    store.set_lifecycle_rules(&bucket, &[]).await.unwrap();
    assert_eq!(store.lifecycle_rules(&bucket).await.unwrap(), []);
}

pub async fn a_rule_removed_by_hand_is_seen_and_put_back(world: &dyn World) {
    let (store, bucket) = bucket_with_rules(world).await;
    let expire = Effect::Expire(WEEK);
    world.remove_rule_by_hand(&bucket, &expire.rule_id()).await;
    let read = store.lifecycle_rules(&bucket).await.unwrap();
    assert_eq!(
        lifecycle::difference(&read, &supported(world)).missing,
        [expire]
    );
    store
        .set_lifecycle_rules(&bucket, &supported(world))
        .await
        .unwrap();
    assert_eq!(
        by_id(store.lifecycle_rules(&bucket).await.unwrap()),
        by_id(known(&supported(world)))
    );
}

pub async fn a_rule_changed_by_hand_is_seen(world: &dyn World) {
    let (store, bucket) = bucket_with_rules(world).await;
    let expire = Effect::Expire(WEEK);
    world.disable_rule_by_hand(&bucket, &expire.rule_id()).await;
    let read = store.lifecycle_rules(&bucket).await.unwrap();
    let changed = lifecycle::difference(&read, &supported(world)).changed;
    let disabled = Changed {
        id: expire.rule_id(),
        is: None,
        should: Some(expire),
    };
    assert_eq!(changed, [disabled]);
}

pub async fn an_effect_that_the_store_cannot_do_is_named_and_the_others_are_in_force(
    world: &dyn World,
) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    world.add_rule_of_others(&bucket).await;
    let set = store
        .set_lifecycle_rules(&bucket, &lifecycle::expiring(WEEK))
        .await;
    let can = world
        .traits()
        .supports
        .has(Capability::AbortIncompleteUploads);
    assert_eq!(
        set,
        if can {
            Ok(())
        } else {
            Err(CloudError::Unsupported {
                capability: Capability::AbortIncompleteUploads,
            })
        }
    );
    let read = store.lifecycle_rules(&bucket).await.unwrap();
    assert!(
        lifecycle::difference(&read, &supported(world)).is_empty(),
        "{read:?}"
    );
    assert!(world.has_rule_of_others(&bucket).await);
}
