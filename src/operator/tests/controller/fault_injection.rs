//! Every call, to the API server and to the store, fails in every way: what is left behind?
//!
//! Calls are recorded from a clean run, never typed. After each fault the controller runs on (or
//! a new process does, after a crash), and everything has to end as if nothing had happened:
//! same buckets, same status, nothing made twice, nothing that nobody knows of.

use std::time::Duration;

use hubstorage_cloud::faults::{Fault, FaultPlan};
use hubstorage_cloud::memory::{Behaviour, Bucket};
use hubstorage_core::api::STAMP_ANNOTATION;
use hubstorage_core::bucket_policy::BucketPolicy;
use hubstorage_core::lifecycle::{Days, Effect, Rule, RuleBody};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::emptying;
use crate::fixtures::{ACCOUNT, HUB_ACCOUNT, hub, hub_with, notebook, scratch};
use crate::roles;
use crate::world::World;

/// How long a store that lags tells of what was. A round takes a minute.
const LAG: Duration = Duration::from_secs(150);

/// Rounds in which something may still be told of as it was: twice the lag, as what was done again
/// lags again.
const ROUNDS_THAT_LAG: usize = 6;

/// Rounds after which a creation that was begun has ended one way or the other (`begun.rs`).
pub const ROUNDS_UNTIL_NOTHING_COMES: usize = 17;

/// Something that happens, and is tried with every fault.
struct Scenario {
    /// The world in which it happens.
    world: fn() -> World,
    /// Whether that world has come to rest before.
    is_settled: bool,
    /// What happens.
    change: fn(&World),
}

impl Scenario {
    async fn begin(&self) -> World {
        let mut world = (self.world)();
        if self.is_settled {
            world.settle().await;
            world.witness.forget();
        }
        (self.change)(&world);
        world
    }

    /// A clean run: its calls, and how it ends.
    async fn record(&self) -> (Vec<String>, World) {
        let mut world = self.begin().await;
        let plan = world.inject(FaultPlan::none());
        world.settle().await;
        (plan.calls(), world)
    }

    /// Runs with every fault at every call; the number of runs.
    async fn explore(&self) -> usize {
        let (calls, clean) = self.record().await;
        let wanted = clean.end_state();
        let mut explored = 0;
        for (k, call) in calls.iter().enumerate() {
            for fault in Fault::ALL {
                let trial = format!("{fault:?} at call {k}, {call}");
                let world = self.strike(k, fault, trial).await;
                assert_eq!(world.end_state(), wanted, "{}", world.trial);
                explored += 1;
            }
        }
        self.run_where_the_store_lags(&wanted).await;
        println!(
            "{explored} fault points: {} calls, {} faults each",
            calls.len(),
            Fault::ALL.len()
        );
        explored
    }

    /// Runs where the store tells for a while of buckets as they were: 404 after the call that creates
    /// one, rules and settings as they were before they were set.
    async fn run_where_the_store_lags(&self, wanted: &str) {
        let mut world = self.begin().await;
        world.trial = "where the store lags".to_owned();
        world.cloud.behave(|behaviour| behaviour.lag = LAG);
        world.rounds(ROUNDS_THAT_LAG).await;
        world.settle().await;
        world.ended_well();
        world.stays_as_it_is().await;
        assert_eq!(world.end_state(), wanted, "{}", world.trial);
    }

    async fn strike(&self, k: usize, fault: Fault, trial: String) -> World {
        let mut world = self.begin().await;
        world.trial = trial;
        let plan = reach(&mut world, k, fault).await;
        if plan.has_crashed() {
            plan.restart();
            world.restart();
        }
        world.settle().await;

        world.ended_well();
        world.stays_as_it_is().await;
        world
    }
}

/// Goes on until call `k` has been made, at which `fault` strikes.
async fn reach(world: &mut World, k: usize, fault: Fault) -> FaultPlan {
    let plan = world.inject(FaultPlan::at(k, fault));
    while plan.calls().len() <= k {
        let calls = plan.calls().len();
        world.round().await;
        assert!(plan.calls().len() > calls, "{}: never reached", world.trial);
    }
    plan
}

/// The spec goes on without the bucket `scratch`, or with another name for its entry, whatever became of its
/// creation, also where the store tells of buckets late. Nothing is left that nobody knows of.
async fn assert_followed_up(fault: Fault, lag: Duration, buckets: &Value) {
    let clean = World::new(Behaviour::minio()).with(&hub());
    let creating = position_of_the_creation(clean).await;
    let mut world = World::new(Behaviour::minio()).with(&hub());
    world.trial = format!("{fault:?}, a lag of {lag:?}, {buckets}");
    world.cloud.behave(|behaviour| behaviour.lag = lag);
    let plan = reach(&mut world, creating, fault).await;
    let named = world.hub(&hub()).spec.buckets;
    let edit = |world: &World, buckets: Value| {
        let hub = hub();
        world
            .server
            .edit(&hub, |hub| hub["spec"]["buckets"] = buckets);
    };
    edit(&world, buckets.clone());
    if plan.has_crashed() {
        plan.restart();
        world.restart();
    }
    world.rounds(ROUNDS_UNTIL_NOTHING_COMES).await;
    world.settle().await;
    world.stays_as_it_is().await;
    let was_made = world.cloud.bucket(&scratch()).is_some();
    let is_named = buckets.to_string().contains(scratch().as_str());
    assert_eq!(
        was_made,
        fault != Fault::Error || is_named,
        "{}",
        world.trial
    );
    let told = world.server.events_of("BucketRetained");
    let is_told = told
        .iter()
        .any(|event| event.note.contains("earth-scratch"));
    assert_eq!(is_told, was_made && !is_named, "{}: {told:?}", world.trial);

    edit(&world, json!(named));
    world.settle().await;
    world.ended_well();
}

#[tokio::test]
async fn a_creation_is_followed_up_though_the_spec_does_not_name_the_bucket_any_more() {
    let without = json!([{"name": "persistent", "bucketName": "earth-persistent"}]);
    let renamed = json!([{"name": "temporary", "bucketName": "earth-scratch"}]);
    for buckets in [without, renamed] {
        for fault in Fault::ALL {
            for lag in [Duration::ZERO, LAG] {
                assert_followed_up(fault, lag, &buckets).await;
            }
        }
    }
}

async fn position_of_the_creation(mut world: World) -> usize {
    let plan = world.inject(FaultPlan::none());
    world.settle().await;
    let calls = plan.calls();
    let mut creations = calls.iter();
    creations
        .position(|call| call.contains("create_bucket") && call.contains(scratch().as_str()))
        .unwrap_or_else(|| panic!("{calls:?}"))
}

fn on_aws() -> World {
    World::new(Behaviour::aws())
        .with(&hub())
        .with(&notebook("jupyter-bob", "bob", HUB_ACCOUNT))
}

fn on_minio() -> World {
    World::new(Behaviour::minio())
        .with(&hub())
        .with(&notebook("jupyter-bob", "bob", HUB_ACCOUNT))
}

fn nothing(_: &World) {}

fn set_expiry(world: &World) {
    world.server.edit(&hub(), |hub| {
        hub["spec"]["buckets"][0]["lifecycle"]["expireAfterDays"] = json!(30);
    });
}

/// Somebody at the store's console.
fn edit_scratch(world: &World, edit: impl FnOnce(&mut Bucket)) {
    world
        .cloud
        .edit_by_hand(&scratch(), edit)
        .expect("the bucket is there");
}

fn remove_rule(world: &World) {
    edit_scratch(world, |bucket| drop(bucket.rules.remove(0)));
}

fn change_rule(world: &World) {
    let shorter = Effect::Expire(Days(1.try_into().unwrap()));
    edit_scratch(world, |bucket| {
        bucket.rules[0].body = RuleBody::Known(shorter)
    });
}

fn remove_rule_beside_one_of_others(world: &World) {
    edit_scratch(world, |bucket| {
        bucket.rules.clear();
        bucket.rules.push(Rule {
            id: "logs".to_owned(),
            body: RuleBody::Other("logs/ expire after 30 days".to_owned()),
        });
    });
}

fn remove_bucket(world: &World) {
    world
        .cloud
        .remove_by_hand(&scratch())
        .expect("the bucket is there");
}

/// A bucket of somebody else, to be taken over with everything that can be declared of it.
fn adopt(world: &World) {
    let mut theirs = Bucket::new(ACCOUNT, world.cloud.now());
    theirs.objects.insert("bob/a".to_owned(), Vec::new());
    world.cloud.insert_by_hand(&scratch(), theirs);
    world.server.apply(&hub_with("earth", "earth", json!({"buckets": [{
        "name": "scratch", "bucketName": "earth-scratch", "adoption": "Always",
        "lifecycle": {"expireAfterDays": 7}, "versioning": "Suspended", "publicAccess": "Blocked",
        "insecureTransport": "Denied", "objectOwnership": "BucketOwnerEnforced",
    }]})));
}

fn change_settings(world: &World) {
    edit_scratch(world, |bucket| {
        bucket.public_access_blocked = false;
        bucket.owner_enforced = false;
        bucket.policy = BucketPolicy::default();
    });
}

fn delete(world: &World) {
    edit_scratch(world, |bucket| {
        drop(bucket.objects.insert("bob/a".to_owned(), Vec::new()))
    });
    world.server.delete(&hub());
}

fn with_policy(policy: &str) -> World {
    let world = on_minio();
    world.cloud.behave(|behaviour| behaviour.batch = 3);
    emptying::set_policy(&world, policy);
    world
}

fn if_empty() -> World {
    with_policy("DeleteIfEmpty")
}

fn with_contents() -> World {
    with_policy("DeleteContents")
}

fn delete_empty(world: &World) {
    world.server.delete(&hub());
}

fn fill_and_delete(world: &World) {
    edit_scratch(world, emptying::fill);
    world.server.delete(&hub());
}

/// A server starts while the webhook does not answer.
fn miss_pod(world: &World) {
    let mut pod = notebook("jupyter-ann", "ann", HUB_ACCOUNT);
    pod.annotations_mut().remove(STAMP_ANNOTATION);
    world.server.apply(&pod);
}

/// Somebody opens the role to everybody.
fn open_role(world: &World) {
    roles::edit(world, |role| {
        role.trust["Statement"][0]["Principal"] = json!({"AWS": "*"});
        role.policy = Value::Null;
    });
}

/// Declares a test for each scenario.
macro_rules! scenarios {
    ($($name:ident: $world:expr, $settled:expr, $change:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let scenario = Scenario { world: $world, is_settled: $settled, change: $change };
            assert!(scenario.explore().await > 0);
        }
    )*};
}

scenarios! {
    a_hub_is_created_where_tags_go_with_the_create_call: on_aws, false, nothing;
    a_hub_is_created_where_tags_come_after_the_create_call: on_minio, false, nothing;
    an_expiry_is_edited: on_aws, true, set_expiry;
    an_expiry_is_edited_where_a_rule_is_not_supported: on_minio, true, set_expiry;
    a_rule_was_removed_by_hand: on_aws, true, remove_rule;
    a_rule_was_changed_by_hand: on_minio, true, change_rule;
    all_rules_were_replaced_by_one_of_somebody_else: on_aws, true, remove_rule_beside_one_of_others;
    a_bucket_was_deleted_by_hand: on_aws, true, remove_bucket;
    a_bucket_was_deleted_by_hand_where_tags_come_after_the_create_call: on_minio, true, remove_bucket;
    a_bucket_is_taken_over: || World::new(Behaviour::aws()), true, adopt;
    settings_were_changed_by_hand: on_aws, true, change_settings;
    a_pod_is_missed_by_the_webhook: on_aws, true, miss_pod;
    a_hub_is_deleted: on_minio, true, delete;
    a_hub_is_deleted_with_an_empty_bucket: if_empty, true, delete_empty;
    a_hub_is_held_by_a_bucket_that_is_not_empty: if_empty, true, fill_and_delete;
    a_hub_is_deleted_with_all_that_its_bucket_holds: with_contents, true, fill_and_delete;
    a_hub_is_created_with_a_role: roles::with_roles, false, nothing;
    a_role_was_changed_by_hand: roles::with_roles, true, open_role;
    a_hub_is_deleted_with_its_role: roles::with_roles, true, delete_empty;
}

#[tokio::test]
async fn a_clean_run_calls_both_the_api_server_and_the_store() {
    let scenario = Scenario {
        world: on_minio,
        is_settled: false,
        change: nothing,
    };
    let (calls, world) = scenario.record().await;
    for wanted in [
        "PATCH hubstorages earth earth by hubstorage-controller",
        "PATCH hubstorages earth earth/status by hubstorage-controller",
        "create_bucket earth-scratch",
        "set_bucket_tags earth-scratch",
        "set_lifecycle_rules earth-scratch",
        "check_access",
    ] {
        assert!(
            calls.iter().any(|call| call.contains(wanted)),
            "{wanted}: {calls:#?}"
        );
    }
    assert!(world.is_ready(&hub()));
}
