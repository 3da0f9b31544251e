//! Walks that are generated: specs are applied one after the other, bad ones among them, while the
//! controller is anywhere in its work, sees what was, is killed, and calls fail. However the way
//! was, the end is that of a fresh installation with the last spec.

use hubstorage_cloud::faults::{Fault, FaultPlan};
use hubstorage_cloud::memory::{Behaviour, Bucket};
use hubstorage_core::api::{ObjectOwnership, PublicAccess, Versioning};
use hubstorage_core::names::BucketName;
use kube::runtime::reflector::ObjectRef;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::fault_injection::ROUNDS_UNTIL_NOTHING_COMES;
use crate::fixtures::{PROVIDER, hub};
use crate::world::{World, forget};

/// Walks in each kind of store.
const WALKS: u32 = 60;

/// One step of a walk.
#[derive(Debug, Clone)]
enum Step {
    /// Somebody applies this spec.
    Apply(Value),
    /// The watch sees what is, and everything is looked at once.
    Look,
    /// The hub is looked at as the watch last saw it: news that were missed, come twice or late.
    LookAgain,
    /// One of the next calls fails.
    Fail(usize, Fault),
    /// The controller's process ends, and another one begins.
    Restart,
}

/// A field of a bucket: its name and one of its values, or nothing.
fn field<const N: usize>(
    name: &'static str,
    values: [Value; N],
) -> BoxedStrategy<Option<(String, Value)>> {
    let values = select(values.to_vec());
    option::of(values.prop_map(move |value| (name.to_owned(), value))).boxed()
}

/// What a bucket may declare so that every hub can have it.
fn good_bucket(name: &'static str) -> impl Strategy<Value = Value> {
    let lifecycles = [
        json!({"expireAfterDays": 7}),
        json!({"expireAfterDays": 3, "abortIncompleteUploadsAfterDays": 2}),
        json!({"transitions": [{"afterDays": 30, "storageClass": "GLACIER"}]}),
    ];
    let fields = [
        field(
            "bucketName",
            [
                json!(format!("earth-{name}-1")),
                json!(format!("earth-{name}-2")),
            ],
        ),
        field("lifecycle", lifecycles),
        field("versioning", [json!("Enabled"), json!("Suspended")]),
        field(
            "encryption",
            [
                json!({"type": "StoreManaged"}),
                json!({"type": "KMS", "kmsKeyId": "key"}),
            ],
        ),
        field("publicAccess", [json!("Blocked"), json!("Unmanaged")]),
        field("insecureTransport", [json!("Denied"), json!("Unmanaged")]),
        field(
            "objectOwnership",
            [json!("BucketOwnerEnforced"), json!("Unmanaged")],
        ),
        field("env", [json!([{"name": "SCRATCH_BUCKET"}])]),
        field(
            "deletionPolicy",
            [json!("DeleteIfEmpty"), json!("DeleteContents")],
        ),
    ];
    fields.to_vec().prop_map(move |fields| {
        let mut bucket = json!({"name": name});
        let declared = fields.into_iter().flatten();
        bucket.as_object_mut().unwrap().extend(declared);
        bucket
    })
}

/// A spec that every hub can have.
fn good() -> impl Strategy<Value = Value> {
    let one = good_bucket("scratch").prop_map(|bucket| vec![bucket]);
    let both = (good_bucket("scratch"), good_bucket("persistent"))
        .prop_map(|(one, other)| vec![one, other]);
    prop_oneof![one, both]
        .prop_map(|buckets| json!({"providerRef": {"name": PROVIDER}, "buckets": buckets}))
}

/// A spec that somebody will take back: one that cannot be, or a hub that is only watched.
fn passing() -> impl Strategy<Value = Value> {
    let changes = [
        json!({"providerRef": {"name": "missing"}}),
        json!({"buckets": [{"name": "scratch", "bucketName": "No such name"}]}),
        json!({"buckets": [{"name": "scratch", "bucketName": "same"}, {"name": "persistent", "bucketName": "same"}]}),
        json!({"mode": "Observe"}),
        json!({"mode": "Paused"}),
    ];
    (good(), select(changes.to_vec())).prop_map(|(mut spec, change)| {
        json_patch::merge(&mut spec, &change);
        spec
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => good().prop_map(Step::Apply),
        2 => passing().prop_map(Step::Apply),
        4 => Just(Step::Look),
        2 => Just(Step::LookAgain),
        2 => (0..25_usize, select(Fault::ALL.to_vec())).prop_map(|(k, fault)| Step::Fail(k, fault)),
        1 => Just(Step::Restart),
    ]
}

async fn walk(behaviour: Behaviour, steps: &[Step], last: &Value) -> World {
    let mut world = World::new(behaviour).with(&hub());
    world.witness.let_read();
    let mut plan = FaultPlan::none();
    for step in steps {
        match step {
            Step::Apply(spec) => apply(&world, spec),
            Step::Look => drop(world.round().await),
            Step::LookAgain => {
                let key = ObjectRef::from_obj(&hub());
                if world.controller.context.stores.hubs.get(&key).is_some() {
                    // What fails here was made to, and is tried again.
                    let _ = world.reconcile_hub_as_seen(&hub()).await;
                }
            }
            Step::Fail(k, fault) => plan = world.inject(FaultPlan::at(*k, *fault)),
            Step::Restart => world.restart(),
        }
        if plan.has_crashed() {
            plan.restart();
            world.restart();
        }
    }
    world.inject(FaultPlan::none());
    apply(&world, last);
    world.rounds(ROUNDS_UNTIL_NOTHING_COMES).await;
    world.settle().await;
    world.stays_as_it_is().await;
    world
}

fn apply(world: &World, spec: &Value) {
    world.server.edit(&hub(), |hub| hub["spec"] = spec.clone());
}

/// The hub's status, and the buckets that it declares, without what the spec leaves to others: of that,
/// what an earlier spec said stays.
fn end(world: &World) -> (Value, Vec<(String, Bucket)>) {
    let hub = world.hub(&hub());
    let mut status = json!(hub.status);
    forget(
        &mut status,
        &["lastTransitionTime", "created", "observedGeneration"],
    );
    let known = &hub.status.as_ref().unwrap().buckets;
    let buckets = hub.spec.buckets.iter().map(|declared| {
        let known = known
            .iter()
            .find(|known| known.name == declared.name)
            .unwrap();
        let name = BucketName::parse(&known.bucket_name).unwrap();
        let mut bucket = world.bucket_without_nonce(&name).unwrap();
        bucket.created = jiff::Timestamp::UNIX_EPOCH;
        if declared.public_access == Some(PublicAccess::Unmanaged) {
            bucket.public_access_blocked = false;
        }
        if declared.object_ownership == Some(ObjectOwnership::Unmanaged) {
            bucket.owner_enforced = false;
        }
        // A bucket that never kept versions and one that does no more are told apart by nobody.
        let keeps_versions = declared.versioning == Some(Versioning::Enabled);
        bucket.versioning = bucket.versioning.filter(|_| keeps_versions);
        bucket.encryption = bucket.encryption.filter(|_| declared.encryption.is_some());
        (known.bucket_name.clone(), bucket)
    });
    (status, buckets.collect())
}

fn every_walk_ends_like_a_fresh_installation(behaviour: &Behaviour) {
    let config = Config {
        cases: WALKS,
        failure_persistence: None,
        ..Config::default()
    };
    // The same walks each time, so that nobody's change fails by luck; others where luck is sought.
    let mut runner = match std::env::var_os("HUBSTORAGE_SOAK") {
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
        Some(_) => TestRunner::new(config),
    };
    let walks = (prop::collection::vec(step(), 1..25), good());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runner
        .run(&walks, |(steps, last)| {
            let (walked, fresh) = runtime.block_on(async {
                let walked = walk(behaviour.clone(), &steps, &last).await;
                let fresh = walk(behaviour.clone(), &[], &last).await;
                (walked, fresh)
            });
            let made = walked.witness.created();
            prop_assert!(
                made.values().all(|times| *times == 1),
                "made twice: {made:?}"
            );
            prop_assert!(fresh.is_ready(&hub()), "{:?}", fresh.hub(&hub()).status);
            prop_assert_eq!(end(&walked), end(&fresh));
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn every_walk_ends_like_a_fresh_installation_on_aws() {
    every_walk_ends_like_a_fresh_installation(&Behaviour::aws());
}

#[test]
fn every_walk_ends_like_a_fresh_installation_on_minio() {
    every_walk_ends_like_a_fresh_installation(&Behaviour::minio());
}
