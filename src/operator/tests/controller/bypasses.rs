//! Other ways to the store than ours, as `IsolationReady` tells of them.

use std::time::Duration;

use hubstorage::controller::bypasses::TRIAL_POD;
use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{ConditionType, HubStorage, Reason};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use serde_json::{Value, json};

use crate::fixtures::{HUB_ACCOUNT, hub, hub_with, notebook};
use crate::isolation::{ISOLATED, probed};
use crate::process::TRIAL_IMAGE;
use crate::world::World;

use ConditionType::{IsolationReady, Ready};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A hub whose store holds users apart, where the controller may make pods.
async fn probed_world() -> World {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.settle().await;
    probed(&world, [ISOLATED, ISOLATED]);
    world.settle().await;
    world.server.allow_pods("earth");
    world
}

/// A server of bob's, with these fields of its spec.
fn server(spec: Value) -> Pod {
    let mut pod = serde_json::to_value(notebook("jupyter-bob", "bob", HUB_ACCOUNT)).unwrap();
    let labels = &mut pod["metadata"]["labels"];
    labels["app"] = json!("jupyterhub");
    labels["hub.jupyter.org/servername"] = json!("");
    pod["spec"] = json!({"containers": [{"name": "notebook"}], "serviceAccountName": "users"});
    json_patch::merge(&mut pod["spec"], &spec);
    serde_json::from_value(pod).unwrap()
}

fn account(annotations: Value) -> ServiceAccount {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "users", "namespace": "earth", "annotations": annotations},
    }))
    .unwrap()
}

fn trial(world: &World) -> Option<Value> {
    let pods = world.server.list::<Pod>();
    let mut pods = pods
        .into_iter()
        .map(|pod| serde_json::to_value(pod).unwrap());
    pods.find(|pod| pod["metadata"]["name"] == TRIAL_POD)
}

/// The trial pod ends, and says this.
fn trial_ends(world: &World, outcome: Value) {
    let pod: Pod = serde_json::from_value(trial(world).expect("a trial is under way")).unwrap();
    world.server.edit(&pod, |pod| {
        pod["status"] = json!({"phase": "Succeeded", "containerStatuses": [{
            "name": "trial", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "message": outcome.to_string()}},
        }]});
    });
}

fn gives_nothing() -> Value {
    json!({"outcome": "GivesNothing", "how": "nothing answers"})
}

/// The same with these objects, when all that follows from them is written.
async fn probed_world_with(pod: &Pod) -> World {
    let mut world = probed_world().await.with(pod);
    world.settle().await;
    world
}

async fn look(world: &mut World) {
    world.look_for_bypasses(&hub()).await.unwrap();
}

#[tokio::test]
async fn where_no_other_way_is_found_users_are_isolated() {
    let mut world = probed_world_with(&server(json!({}))).await;
    look(&mut world).await;
    let (reason, words) = (Reason::MetadataServiceUntried, ["it is about to be"]);
    world.says(&hub(), IsolationReady, "Unknown", reason, &words);

    trial_ends(&world, gives_nothing());
    look(&mut world).await;

    let words = ["share no identity", "nothing answers"];
    world.says(&hub(), IsolationReady, "True", Reason::Isolated, &words);
    assert!(world.is_ready(&hub()));
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_trial_pod_is_like_a_users_and_carries_nothing() {
    let server = server(json!({
        "nodeSelector": {"pool": "users"}, "tolerations": [{"key": "users", "operator": "Exists"}],
        "volumes": [{"name": "home", "emptyDir": {}}],
    }));
    let mut world = probed_world_with(&server).await;
    look(&mut world).await;

    let trial = trial(&world).unwrap();
    let labels = json!({"app": "jupyterhub", "component": "singleuser-server"});
    assert_eq!(trial["metadata"]["labels"], labels);
    assert_eq!(
        trial["metadata"]["ownerReferences"][0]["kind"],
        "HubStorage"
    );
    let spec = &trial["spec"];
    assert_eq!(spec["nodeSelector"], json!({"pool": "users"}));
    assert_eq!(spec["tolerations"][0]["key"], "users");
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["volumes"], Value::Null);
    assert_eq!(spec["containers"][0]["image"], TRIAL_IMAGE);
    assert_eq!(spec["containers"][0]["env"], Value::Null);
}

#[tokio::test]
async fn a_metadata_service_that_gives_credentials_makes_the_hub_unready() {
    let mut world = probed_world_with(&server(json!({}))).await;
    look(&mut world).await;
    let what = "on Amazon EC2, the credentials of role eks-node";
    trial_ends(&world, json!({"outcome": "Gives", "what": what}));
    look(&mut world).await;

    let reason = Reason::MetadataServiceReachable;
    world.says(&hub(), IsolationReady, "False", reason, &[what]);
    world.says(&hub(), Ready, "False", reason, &[what]);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn an_outcome_outlives_a_restart_and_the_last_server() {
    let server = server(json!({}));
    let mut world = probed_world_with(&server).await;
    look(&mut world).await;
    trial_ends(&world, gives_nothing());
    look(&mut world).await;
    world.settle().await;
    let before = world.server.write_requests().len();

    world.restart();
    world.settle().await;
    world.says(&hub(), IsolationReady, "True", Reason::Isolated, &[]);
    world.server.delete(&server);
    world.cloud.advance(DAY * 2);
    look(&mut world).await;

    world.says(&hub(), IsolationReady, "True", Reason::Isolated, &[]);
    assert_eq!(world.server.write_requests().len(), before);
}

#[tokio::test]
async fn a_day_later_or_after_an_edit_it_is_tried_again_and_what_stood_stands_meanwhile() {
    let mut world = probed_world_with(&server(json!({}))).await;
    look(&mut world).await;
    trial_ends(&world, gives_nothing());
    look(&mut world).await;
    let uid = |world: &World| trial(world).map(|pod| pod["metadata"]["uid"].clone());
    let first = uid(&world);

    world.cloud.advance(DAY);
    look(&mut world).await;
    look(&mut world).await;
    let second = uid(&world);
    assert!(second.is_some() && second != first);
    world.says(&hub(), IsolationReady, "True", Reason::Isolated, &[]);
    trial_ends(&world, gives_nothing());
    look(&mut world).await;

    let env = json!({"buckets": [
        {"name": "scratch", "bucketName": "earth-scratch", "env": [{"name": "SCRATCH_BUCKET"}]},
        {"name": "persistent", "bucketName": "earth-persistent"},
    ]});
    world.server.apply(&hub_with("earth", "earth", env));
    world.settle().await;
    look(&mut world).await;
    look(&mut world).await;
    let third = uid(&world);
    assert!(third.is_some() && third != second);
    world.says(&hub(), IsolationReady, "True", Reason::Isolated, &[]);
}

#[tokio::test]
async fn why_nobody_tries_is_told() {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.settle().await;
    probed(&world, [ISOLATED, ISOLATED]);
    world.settle().await;
    let reason = Reason::MetadataServiceUntried;
    let told = |world: &World, words: &[&str]| {
        world.says(&hub(), IsolationReady, "Unknown", reason, words);
    };

    look(&mut world).await;
    told(
        &world,
        &[
            "may make no trial pod in namespace earth",
            "metadata-trial.yaml",
        ],
    );
    world.server.allow_pods("earth");
    look(&mut world).await;
    told(&world, &["no server of a user runs"]);
    assert!(world.is_ready(&hub()));

    let mut world = world.with(&server(json!({})));
    world.settle().await;
    look(&mut world).await;
    world.cloud.advance(Duration::from_secs(180));
    look(&mut world).await;
    told(
        &world,
        &["does not come to its end", "no node has begun with it"],
    );
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_pod_that_ended_without_an_outcome_is_made_again() {
    let mut world = probed_world_with(&server(json!({}))).await;
    look(&mut world).await;
    let failed: Pod = serde_json::from_value(trial(&world).unwrap()).unwrap();
    world.server.edit(&failed, |pod| {
        pod["status"] = json!({"phase": "Failed", "reason": "Evicted"});
    });
    look(&mut world).await;
    let (reason, words) = (Reason::MetadataServiceUntried, ["Evicted"]);
    world.says(&hub(), IsolationReady, "Unknown", reason, &words);

    world.cloud.advance(DAY / 4);
    look(&mut world).await;
    look(&mut world).await;

    assert_ne!(trial(&world).unwrap()["status"]["phase"], "Failed");
}

#[tokio::test]
async fn zero_to_jupyterhubs_own_block_is_taken_for_what_it_is() {
    let blocks = json!({"initContainers": [{"name": "block-cloud-metadata"}]});
    let mut world = probed_world_with(&server(blocks)).await;
    look(&mut world).await;
    let words = ["init container of Zero to JupyterHub"];
    world.says(&hub(), IsolationReady, "True", Reason::Isolated, &words);
    assert_eq!(trial(&world), None);
}

#[tokio::test]
async fn an_identity_of_a_cloud_on_the_service_account_is_told_until_it_is_gone() {
    let role = "arn:aws:iam::111122223333:role/everything";
    let annotated = account(json!({"eks.amazonaws.com/role-arn": role}));
    let mut world = probed_world_with(&server(json!({}))).await.with(&annotated);
    look(&mut world).await;
    let reason = Reason::CloudIdentityOnPods;
    let words = ["service account users", "eks.amazonaws.com/role-arn"];
    world.says(&hub(), IsolationReady, "False", reason, &words);
    assert!(!world.is_ready(&hub()));
    world.restart();
    world.settle().await;
    world.says(&hub(), IsolationReady, "False", reason, &words);

    world.server.apply(&account(json!({})));
    look(&mut world).await;

    let reason = Reason::MetadataServiceUntried;
    world.says(&hub(), IsolationReady, "Unknown", reason, &[]);
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn what_a_pods_own_token_may_do_is_asked_where_the_pod_has_one() {
    let users = "system:serviceaccount:earth:users";
    let token = json!({"serviceAccountToken": {"path": "token"}});
    let volumes = json!([{"name": "kube-api-access-x", "projected": {"sources": [token]}}]);
    let mut world = probed_world_with(&server(json!({}))).await;
    world.server.allow(users, "create", "pods");
    world.server.allow(users, "create", "pods/exec");
    look(&mut world).await;
    assert_ne!(
        world.condition(&hub(), IsolationReady).reason,
        Reason::ServiceAccountPrivileged.to_string(),
        "nobody has its token"
    );

    world.server.apply(&server(json!({"volumes": volumes})));
    world.settle().await;
    look(&mut world).await;

    let reason = Reason::ServiceAccountPrivileged;
    let words = ["service account users", "create pods, exec"];
    world.says(&hub(), IsolationReady, "False", reason, &words);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn pods_that_are_no_users_or_have_ended_tell_nothing() {
    let identity = json!({"hostNetwork": true, "containers": [{"name": "x", "env": [{"name": "AWS_ACCESS_KEY_ID"}]}]});
    let mut ended = server(identity.clone());
    ended.metadata.name = Some("jupyter-ended".to_owned());
    let mut other = server(identity);
    other.metadata.name = Some("other".to_owned());
    let labels = other.metadata.labels.as_mut().unwrap();
    labels.insert("component".to_owned(), "image-puller".to_owned());
    let mut world = probed_world().await.with(&ended).with(&other);
    world
        .server
        .edit(&ended, |pod| pod["status"] = json!({"phase": "Succeeded"}));

    look(&mut world).await;

    let (reason, words) = (Reason::MetadataServiceUntried, ["no server of a user runs"]);
    world.says(&hub(), IsolationReady, "Unknown", reason, &words);
}

#[tokio::test]
async fn pods_that_nobody_vouches_for_leave_isolation_unknown() {
    let mut unstamped = server(json!({}));
    unstamped.metadata.name = Some("jupyter-missed".to_owned());
    unstamped.metadata.annotations = None;
    let mut world = probed_world_with(&server(json!({}))).await.with(&unstamped);
    look(&mut world).await;
    trial_ends(&world, gives_nothing());
    look(&mut world).await;

    let (reason, words) = (Reason::PodsUnverified, ["1: jupyter-missed"]);
    world.says(&hub(), IsolationReady, "Unknown", reason, &words);

    let later = world.cloud.now() + Duration::from_secs(3600);
    world.guard_is(hubstorage::guard::GuardState::InForce { since: later });
    look(&mut world).await;
    let words = ["2: jupyter-bob, jupyter-missed"];
    world.says(&hub(), IsolationReady, "Unknown", reason, &words);
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn a_hub_that_only_observes_or_is_paused_makes_no_pod() {
    for mode in ["Observe", "Paused"] {
        let observing: HubStorage = hub_with("earth", "earth", json!({"mode": mode}));
        let mut world = World::new(Behaviour::aws())
            .with(&observing)
            .with(&server(json!({})));
        world.server.allow_pods("earth");
        world.settle().await;
        look(&mut world).await;
        assert_eq!(trial(&world), None, "{mode}");
    }
}

#[tokio::test]
async fn what_the_node_gave_stands_while_it_is_tried_again() {
    let mut world = probed_world_with(&server(json!({}))).await;
    look(&mut world).await;
    let gives = json!({"outcome": "Gives", "what": "the credentials of role eks-node"});
    trial_ends(&world, gives);
    look(&mut world).await;

    world.cloud.advance(DAY);
    for _ in 0..3 {
        look(&mut world).await;
        let reason = Reason::MetadataServiceReachable;
        world.says(&hub(), IsolationReady, "False", reason, &["eks-node"]);
    }
    assert_eq!(trial(&world).unwrap()["status"], Value::Null);
    world.restart();
    world.settle().await;
    look(&mut world).await;
    let reason = Reason::MetadataServiceReachable;
    world.says(&hub(), IsolationReady, "False", reason, &["eks-node"]);
}

#[tokio::test]
async fn when_the_last_server_stops_nothing_becomes_better_by_that() {
    let annotated = account(json!({"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/all"}));
    let bobs = server(json!({}));
    let mut world = probed_world_with(&bobs).await.with(&annotated);
    look(&mut world).await;
    trial_ends(&world, gives_nothing());
    look(&mut world).await;
    world.server.delete(&bobs);
    look(&mut world).await;
    let reason = Reason::CloudIdentityOnPods;
    world.says(&hub(), IsolationReady, "False", reason, &[]);
    world.server.apply(&account(json!({})));
    look(&mut world).await;
    world.says(&hub(), IsolationReady, "True", Reason::Isolated, &[]);

    let keys =
        json!({"containers": [{"name": "notebook", "env": [{"name": "AWS_ACCESS_KEY_ID"}]}]});
    let with_keys = server(keys);
    let mut world = world.with(&with_keys);
    look(&mut world).await;
    world.says(&hub(), IsolationReady, "False", reason, &[]);
    world.server.delete(&with_keys);
    for _ in 0..2 {
        look(&mut world).await;
        let (reason, words) = (Reason::MetadataServiceUntried, ["what the last ones had"]);
        world.says(&hub(), IsolationReady, "Unknown", reason, &words);
    }
}
