//! What was seen is believed while the watches live, and not much longer.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use hubstorage::controller::{Wake, Watches};
use hubstorage::guard::{self, GuardKind, GuardState};
use hubstorage::pulse::{Cadence, Pulses};
use hubstorage_cloud::memory::Behaviour;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api_server::ApiServer;
use crate::hub::{BOBS_ADDRESS, Hub, hub_of, provider};
use crate::log_everything;

/// Bounds a hang; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// As in the cluster, in seconds for minutes.
const CADENCE: Cadence = Cadence {
    renew: 1,
    patience: Duration::from_secs(4),
};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_watches_fail_answers_that_it_is_not_ready_until_they_are_back() {
    log_everything();
    let hub = Hub::start_at(Behaviour::minio(), false, CADENCE).await;
    hub.vended().await;

    hub.api.cut_watches(true);

    let answer = hub.refused("NotReady").await;
    let message = answer.body["message"].as_str().unwrap();
    assert!(
        answer.status == 503 && message.contains("the watch of"),
        "{answer:?}"
    );
    assert!(hub.readiness.check().is_err());
    hub.api.cut_watches(false);
    hub.vended().await;
    assert_eq!(hub.readiness.check(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_have_nothing_to_tell_are_believed() {
    log_everything();
    let hub = Hub::start_at(Behaviour::minio(), false, CADENCE).await;
    hub.vended().await;
    let renewals = |resource: &str| {
        let calls = hub.api.calls();
        let of_resource =
            |call: &&String| call.contains(&format!("/{resource}?")) && call.contains("watch=true");
        calls.iter().filter(of_resource).count()
    };

    // A second each: longer than anything is believed without a sign of life.
    let quiet = async {
        for resource in [
            "hubstorages",
            "storageproviders",
            "hubusers",
            "pods",
            "secrets",
        ] {
            while renewals(resource) < 7 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, quiet).await.unwrap();

    assert_eq!(hub.readiness.check(), Ok(()));
    let answer = hub.ask(&hub.bobs_token(), BOBS_ADDRESS).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_is_no_longer_seen_is_missing_until_it_is_seen_again() {
    log_everything();
    let api = ApiServer::start(json!({"keys": []})).await;
    for document in guard::documents() {
        let mut object = document.object();
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        object["metadata"]["generation"] = json!(1);
        api.put(
            &format!("{}/{}", document.kind.plural(), document.name),
            object,
        );
    }
    let stop = CancellationToken::new();
    let _ended = stop.clone().drop_guard();
    let [mut state] = guard::watch_at(api.client(), CADENCE, [guard::documents()], stop);
    let in_force = |state: &GuardState| matches!(state, GuardState::InForce { .. });
    until(&mut state, in_force).await;

    api.cut_watches(true);

    let missing = until(&mut state, |state| !in_force(state)).await;
    let GuardState::Missing { why } = missing else {
        panic!("{missing:?}");
    };
    let policies = GuardKind::Policy.plural();
    let bindings = GuardKind::Binding.plural();
    assert!(
        why.contains("the watch of") && (why.contains(policies) || why.contains(bindings)),
        "{why}"
    );
    api.cut_watches(false);
    until(&mut state, in_force).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_was_changed_long_ago_does_not_count_from_a_restart_of_its_reader() {
    log_everything();
    let api = ApiServer::start(json!({"keys": []})).await;
    for document in guard::documents() {
        let mut object = document.object();
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        object["metadata"]["generation"] = json!(3);
        object["metadata"]["managedFields"] =
            json!([{"manager": "kubectl", "operation": "Apply", "time": "2026-03-03T00:00:00Z"}]);
        let key = format!("{}/{}", document.kind.plural(), document.name);
        api.put(&key, object);
    }
    let stop = CancellationToken::new();
    let _ended = stop.clone().drop_guard();

    let [mut state] = guard::watch_at(api.client(), CADENCE, [guard::documents()], stop);

    let in_force = |state: &GuardState| matches!(state, GuardState::InForce { .. });
    let GuardState::InForce { since } = until(&mut state, in_force).await else {
        unreachable!("it is in force");
    };
    assert!(since.to_string().starts_with("2026-03-03T00:"), "{since}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_whose_watches_fail_says_so_until_they_are_back() {
    log_everything();
    let api = ApiServer::start(json!({"keys": []})).await;
    let pulses = Pulses::default();
    let mut watches = Watches::start(&api.client(), &CADENCE, &pulses);
    let listed = tokio::time::timeout(PATIENCE, watches.listed());
    listed.await.unwrap();
    assert_eq!(pulses.check(), Ok(()));
    let until = async |silent: bool| {
        let told = async {
            while pulses.check().is_err() != silent {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap();
    };

    api.cut_watches(true);

    until(true).await;
    let why = pulses.check().unwrap_err();
    assert!(why.contains("the watch of"), "{why}");
    api.cut_watches(false);
    until(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_appears_changes_or_goes_wakes_the_providers_that_it_is_for_and_their_hubs() {
    log_everything();
    let api = ApiServer::start(json!({"keys": []})).await;
    let with_secret = |name: &str, secret: &str| {
        let mut provider = provider(name);
        provider["spec"]["s3"]["credentials"] =
            json!({"type": "Secret", "secretRef": {"name": secret}});
        provider
    };
    api.put("storageproviders/minio", with_secret("minio", "keys"));
    api.put("storageproviders/other", with_secret("other", "other-keys"));
    let mut watches = Watches::start(&api.client(), &CADENCE, &Pulses::default());
    let listed = tokio::time::timeout(PATIENCE, watches.listed());
    listed.await.unwrap();
    // The hubs are woken by their own appearance, since they come later, and their providers with them.
    for (namespace, of) in [("earth", "minio"), ("mars", "other")] {
        let key = format!("hubstorages/{namespace}/{namespace}");
        api.put(&key, hub_of(namespace, of));
        watches.hubs.next().await.unwrap();
        assert_eq!(name_of(watches.providers.next().await.unwrap()), of);
    }
    let secret = |value: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "keys", "namespace": "hubstorage-system"},
            "data": {"AWS_SECRET_ACCESS_KEY": value},
        })
    };
    let key = "secrets/hubstorage-system/keys";
    let changes: [&dyn Fn(); 3] = [
        &|| api.put(key, secret("b25l")),
        &|| api.put(key, secret("dHdv")),
        &|| api.delete(key),
    ];

    for change in changes {
        change();

        let woken = async {
            let provider = watches.providers.next().await.unwrap();
            (
                name_of(provider),
                name_of(watches.hubs.next().await.unwrap()),
            )
        };
        let woken = tokio::time::timeout(PATIENCE, woken).await.unwrap();
        assert_eq!(woken, ("minio".to_owned(), "earth".to_owned()));
    }
    assert!(watches.secrets.of("keys").is_none(), "it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_are_woken_by_their_provider_but_not_by_what_they_have_told_it() {
    log_everything();
    let api = ApiServer::start(json!({"keys": []})).await;
    api.put("storageproviders/minio", provider("minio"));
    api.put("hubstorages/earth/earth", hub_of("earth", "minio"));
    let mut watches = Watches::start(&api.client(), &CADENCE, &Pulses::default());
    let listed = tokio::time::timeout(PATIENCE, watches.listed());
    listed.await.unwrap();
    let condition = |type_: &str, message: &str| {
        json!({
            "type": type_, "status": "False", "reason": "CredentialsRejected", "message": message,
            "lastTransitionTime": "2026-05-01T10:00:00Z",
        })
    };
    let tells = |conditions: serde_json::Value| {
        api.edit("storageproviders/minio", |provider| {
            provider["status"] = json!({"observedGeneration": 1, "conditions": conditions})
        });
    };
    let ready = condition("Ready", "");
    let woken = async |watches: &mut Watches| {
        let hub = tokio::time::timeout(PATIENCE, watches.hubs.next());
        name_of(hub.await.unwrap().unwrap())
    };

    tells(json!([ready]));
    assert_eq!(woken(&mut watches).await, "earth");
    for message in ["one", "two"] {
        tells(json!([ready, condition("VendingReady", message)]));
        let provider = tokio::time::timeout(PATIENCE, watches.providers.next());
        assert_eq!(name_of(provider.await.unwrap().unwrap()), "minio");
    }
    api.delete("storageproviders/minio");

    assert_eq!(woken(&mut watches).await, "earth", "by its end");
    assert!(watches.hubs.next().now_or_never().is_none(), "and no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_secrets_no_more_than_the_metadata_is_asked_for() {
    log_everything();
    let hub = Hub::start_at(Behaviour::minio(), false, CADENCE).await;
    hub.vended().await;
    let mut controller = Watches::start(&hub.api.client(), &CADENCE, &Pulses::default());
    let listed = tokio::time::timeout(PATIENCE, controller.listed());
    listed.await.unwrap();

    let calls = hub.api.whole_objects_asked_for();

    for metadata_alone in ["/secrets?", "/pods?", "/namespaces?"] {
        assert!(hub.api.calls_to(metadata_alone) > 0, "{metadata_alone}");
        let whole = calls.iter().find(|call| call.contains(metadata_alone));
        assert_eq!(whole, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_begins_when_every_list_is_there_however_much_is_in_them() {
    log_everything();
    let api = ApiServer::start(json!({"keys": []})).await;
    // Each wakes its hub's reconcilers: more than a channel holds.
    for number in 0..3000 {
        let name = format!("jupyter-{number}");
        let pod = json!({
            "metadata": {"name": name, "namespace": "earth", "labels": {"hub.jupyter.org/username": name}},
        });
        api.put(&format!("pods/earth/{name}"), pod);
    }
    let hub = json!({
        "metadata": {"name": "hub", "namespace": "earth"},
        "spec": {"providerRef": {"name": "store"}, "buckets": [{"name": "scratch"}]},
    });
    api.put("hubstorages/earth/hub", hub);
    api.hold_lists(true);
    let mut watches = Watches::start(&api.client(), &CADENCE, &Pulses::default());
    let early = watches.listed().now_or_never();
    assert_eq!(early, None);

    api.hold_lists(false);

    let listed = tokio::time::timeout(PATIENCE, watches.listed());
    listed.await.unwrap();
    assert_eq!(watches.stores.pods.len(), 3000);
    assert_eq!(watches.stores.hubs.len(), 1);
}

/// The name of what is woken; all at once are not meant here.
fn name_of<K: kube::Resource<DynamicType = ()>>(wake: Wake<K>) -> String {
    match wake {
        Wake::One(object, _) => object.name,
        Wake::All(_) => panic!("all were woken"),
    }
}

async fn until(
    state: &mut watch::Receiver<GuardState>,
    is: impl FnMut(&GuardState) -> bool,
) -> GuardState {
    let waiting = tokio::time::timeout(PATIENCE, state.wait_for(is));
    waiting.await.unwrap().unwrap().clone()
}
