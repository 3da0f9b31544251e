//! Homes that are nearly full, as nodes tell it: who is told of them, and that they grow.

use hubstorage::controller::usage::Trouble;
use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{ConditionType, HubStorage, HubUser, Reason};
use hubstorage_core::homes::NodeSummary;
use hubstorage_core::names::{Username, hub_user_name};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use crate::fixtures::{home, hub_with, storage_class};
use crate::world::World;

use ConditionType::{HomesHaveRoom, HomesWithinLimit};

const GIB: u64 = 1 << 30;

fn hub(fields: Value) -> HubStorage {
    let mut home = json!({"type": "Claim", "size": "10Gi", "maxSize": "12Gi"});
    json_patch::merge(&mut home, &fields);
    hub_with("earth", "earth", json!({"home": home}))
}

/// Homes grow by 1Gi when they are 90 % full.
fn growing() -> HubStorage {
    hub(json!({"growth": {"step": "1Gi"}}))
}

fn bob() -> HubUser {
    let name = hub_user_name("earth", &Username::parse("bob").unwrap());
    serde_json::from_value(json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubUser",
        "metadata": {"name": name, "namespace": "earth"},
        "spec": {"hubRef": {"name": "earth"}, "username": "bob"},
    }))
    .unwrap()
}

/// A world with bob, his home of 10Gi, and a node that has it mounted.
struct Full {
    world: World,
    hub: HubStorage,
    claim: PersistentVolumeClaim,
    looks: u64,
}

impl Full {
    async fn of(hub: HubStorage) -> Self {
        let world = World::new(Behaviour::aws()).with(&hub).with(&bob());
        let class = storage_class("growing");
        world.server.apply(&class);
        world
            .server
            .edit(&class, |class| class["allowVolumeExpansion"] = json!(true));
        let claim = home("claim-bob", "bob", "10Gi");
        world.server.apply(&claim);
        let mut full = Self {
            world,
            hub,
            claim,
            looks: 0,
        };
        full.driver_grows();
        full.world.settle().await;
        full
    }

    /// What the driver does: the volume has what was asked for.
    fn driver_grows(&self) {
        let asked = self.asks_for();
        self.world.server.edit(&self.claim, |claim| {
            claim["status"] = json!({"phase": "Bound", "capacity": {"storage": asked}})
        });
    }

    fn asks_for(&self) -> String {
        let claim = self.world.server.get(&self.claim).unwrap();
        let resources = claim.spec.unwrap().resources.unwrap();
        resources.requests.unwrap()["storage"].0.clone()
    }

    /// The node looks once more, and finds so much of the volume used; everybody acts on it.
    async fn node_finds(&mut self, used: u64, of: u64) {
        self.looks += 1;
        let summary = json!({"pods": [{"podRef": {"uid": "1"}, "volume": [{
            "pvcRef": {"namespace": "earth", "name": "claim-bob"}, "time": self.looks.to_string(),
            "usedBytes": used, "availableBytes": of - used, "capacityBytes": of,
        }]}]});
        let summary: NodeSummary = serde_json::from_value(summary).unwrap();
        self.node_says(Ok(summary)).await;
    }

    async fn node_says(&mut self, answer: Result<NodeSummary, Trouble>) {
        self.world.controller.see(&self.world.server);
        let context = &self.world.controller.context;
        let answer = answer.as_ref().map_err(|trouble| *trouble);
        context.usage.begin(&context.stores);
        let namespaces = ["earth".to_owned()].into();
        context
            .usage
            .hear("worker", answer, &namespaces, &context.stores);
        context.usage.end(&context.stores);
        self.world.settle().await;
    }

    /// The node looks until everybody takes its word.
    async fn node_insists(&mut self, used: u64, of: u64) {
        for _ in 0..3 {
            self.node_finds(used, of).await;
        }
    }

    /// What the HubUser tells of its homes.
    fn told(&self) -> Value {
        let user = self.world.server.get(&bob()).unwrap();
        json!(user.status.unwrap().homes)
    }

    /// Asserts that the HubUser tells of this one home.
    fn tells(&self, percent: i32, size: &str) {
        let claim = self.world.server.get(&self.claim).unwrap();
        let told = json!([{
            "claim": "claim-bob", "uid": claim.metadata.uid, "usedPercent": percent, "size": size,
        }]);
        assert_eq!(self.told(), told);
    }

    /// What the hub tells of the size of homes.
    fn says(&self, status: &str, reason: Reason, words: &[&str]) {
        self.world
            .says(&self.hub, HomesWithinLimit, status, reason, words);
    }

    /// What it tells of their room.
    fn says_of_room(&self, status: &str, reason: Reason, words: &[&str]) {
        self.world
            .says(&self.hub, HomesHaveRoom, status, reason, words);
    }
}

#[tokio::test]
async fn a_full_home_grows_by_a_step_at_a_time_until_it_may_not_and_each_is_told() {
    let mut full = Full::of(growing()).await;
    full.node_insists(5 * GIB, 10 * GIB).await;
    full.tells(50, "10Gi");
    let metrics = full.world.metrics();
    let of_claim = r#"{namespace="earth",claim="claim-bob"}"#;
    for (name, gib) in [("used", 5), ("capacity", 10)] {
        let line = format!(
            "hubstorage_controller_home_{name}_bytes{of_claim} {}",
            gib * GIB
        );
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    full.world.stays_as_it_is().await;

    full.node_finds(91 * GIB / 10, 10 * GIB).await;
    assert_eq!(full.asks_for(), "11Gi");
    full.says("False", Reason::ClaimGrowing, &["1 are growing"]);
    full.world.stays_as_it_is().await;

    // The volume is larger, and the node has not looked since.
    full.driver_grows();
    full.world.settle().await;
    assert_eq!(full.asks_for(), "11Gi", "not by what was before");
    full.node_insists(91 * GIB / 10, 10 * GIB).await;
    full.says("True", Reason::Applied, &[]);
    assert_eq!(full.asks_for(), "11Gi", "the file system has yet to grow");
    full.node_finds(91 * GIB / 10, 11 * GIB).await;
    assert_eq!(full.asks_for(), "11Gi");
    full.tells(80, "11Gi");

    full.node_finds(109 * GIB / 10, 11 * GIB).await;
    assert_eq!(full.asks_for(), "12Gi");
    full.driver_grows();
    full.node_insists(12 * GIB - 1, 12 * GIB).await;
    assert_eq!(full.asks_for(), "12Gi");
    let words = ["claim-bob is 100 % full, and has the 12Gi that it may have"];
    full.says_of_room("False", Reason::ClaimFull, &words);
    full.says("True", Reason::Applied, &[]);
    full.world.stays_as_it_is().await;

    let events = full.world.server.events_of("ClaimGrowing");
    let grown = |from: &str, to: &str| {
        let words = format!("full, and grows from {from} to {to}");
        let of_it = events.iter().filter(|event| event.note.contains(&words));
        of_it.count()
    };
    let times = (grown("10Gi", "11Gi"), grown("11Gi", "12Gi"));
    assert_eq!(times, (1, 1), "{events:?}");
    let is_normal = events.iter().all(|event| event.type_ == "Normal");
    assert!(is_normal, "{events:?}");
}

#[tokio::test]
async fn a_full_home_that_is_not_to_grow_is_told_until_its_user_has_tidied_up() {
    let mut full = Full::of(hub(json!({}))).await;
    full.node_insists(9 * GIB, 10 * GIB).await;
    assert_eq!(full.asks_for(), "10Gi");
    let words = ["claim-bob is 90 % full", "spec.home.growth is not set"];
    full.says_of_room("False", Reason::ClaimFull, &words);
    full.says("True", Reason::Applied, &[]);
    assert!(full.world.is_ready(&full.hub), "nobody waits for a user");
    full.world.stays_as_it_is().await;
    full.node_finds(89 * GIB / 10, 10 * GIB).await;
    full.says_of_room("False", Reason::ClaimFull, &words);
    full.node_finds(8 * GIB, 10 * GIB).await;
    full.says_of_room("True", Reason::Applied, &[]);
    let events = full.world.server.events_of("ClaimFull");
    let of_claim = events.iter();
    let of_claim = of_claim.filter(|event| event.note.starts_with("claim claim-bob: is 90"));
    assert_eq!(of_claim.count(), 1, "{events:?}");
    let is_warning = events.iter().all(|event| event.type_ == "Warning");
    assert!(is_warning, "{events:?}");
}

#[tokio::test]
async fn a_full_home_that_a_quota_keeps_from_growing_is_told_as_full() {
    let mut full = Full::of(growing()).await;
    full.world.server.limit_claim("claim-bob");
    full.node_insists(95 * GIB / 10, 10 * GIB).await;
    assert_eq!(full.asks_for(), "10Gi");
    let words = [
        "claim-bob is 95 % full, and has 10Gi instead of 11Gi",
        "exceeded quota",
    ];
    full.says_of_room("False", Reason::ClaimFull, &words);
    assert!(!full.world.server.events_of("ClaimFull").is_empty());
}

#[tokio::test]
async fn in_mode_observe_a_full_home_is_told_and_stays_and_in_mode_paused_it_stays() {
    for (mode, room) in [
        ("Observe", Some("mode Enforce would make it grow")),
        ("Paused", None),
    ] {
        let mut hub = growing();
        hub.spec.mode = serde_json::from_value(json!(mode)).unwrap();
        let mut full = Full::of(hub).await;
        full.node_insists(95 * GIB / 10, 10 * GIB).await;
        assert_eq!(full.asks_for(), "10Gi", "{mode}");
        if let Some(words) = room {
            full.says_of_room("False", Reason::ClaimFull, &[words]);
        }
        full.world.stays_as_it_is().await;
    }
}

#[tokio::test]
async fn another_users_size_takes_back_nothing_of_what_was_told() {
    let mut hub = growing();
    hub.spec.mode = serde_json::from_value(json!("Observe")).unwrap();
    let mut full = Full::of(hub).await;
    full.node_insists(95 * GIB / 10, 10 * GIB).await;
    let eve: HubUser = serde_json::from_value(json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubUser",
        "metadata": {"name": "eve-has-more", "namespace": "earth"},
        "spec": {"hubRef": {"name": "earth"}, "username": "eve", "home": {"size": "80Gi"}},
    }))
    .unwrap();
    full.world.server.apply(&eve);
    full.world.settle().await;
    let words = ["mode Enforce would make it grow"];
    full.says_of_room("False", Reason::ClaimFull, &words);
    let events = full.world.server.events_of("ClaimFull");
    let times: Vec<_> = events.iter().map(|event| event.times).collect();
    assert_eq!(times, [1], "{events:?}");
}

#[tokio::test]
async fn a_new_home_of_the_same_name_is_not_as_full_as_the_one_before() {
    let mut full = Full::of(growing()).await;
    full.node_insists(89 * GIB / 10, 10 * GIB).await;
    full.tells(80, "10Gi");
    full.world.server.delete(&full.claim);
    full.world.server.apply(&full.claim);
    full.driver_grows();
    full.world.settle().await;
    assert_eq!(full.told(), json!([]));
    full.node_finds(95 * GIB / 10, 10 * GIB).await;
    assert_eq!(full.asks_for(), "10Gi", "that was of the other");
}

#[tokio::test]
async fn a_user_without_an_object_of_their_own_is_told_in_the_same_steps() {
    let mut full = Full::of(hub(json!({}))).await;
    full.world.server.delete(&bob());
    full.node_insists(9 * GIB, 10 * GIB).await;
    full.node_finds(89 * GIB / 10, 10 * GIB).await;
    full.says_of_room("False", Reason::ClaimFull, &["claim-bob is 90 % full"]);
    full.world.stays_as_it_is().await;
}

#[tokio::test]
async fn what_was_told_stands_after_a_restart_and_lets_a_home_grow_that_nobody_has_mounted() {
    let mut full = Full::of(hub(json!({}))).await;
    full.node_insists(10 * GIB, 10 * GIB).await;
    full.world.restart();
    full.world.stays_as_it_is().await;
    full.says_of_room("False", Reason::ClaimFull, &["claim-bob is 100 % full"]);

    full.world.server.apply(&growing());
    full.world.settle().await;
    assert_eq!(full.asks_for(), "11Gi");
    full.driver_grows();
    full.world.settle().await;
    full.world.stays_as_it_is().await;
    assert_eq!(
        full.asks_for(),
        "11Gi",
        "once: how full it is now nobody knows"
    );
}

#[tokio::test]
async fn where_no_node_tells_that_is_told_and_a_restart_takes_nothing_back() {
    let mut full = Full::of(growing()).await;
    for _ in 0..2 {
        full.node_says(Err(Trouble::Unreachable)).await;
        let words = ["no node has been asked yet"];
        full.says_of_room("Unknown", Reason::UsageUnknown, &words);
    }
    full.node_says(Err(Trouble::Unreachable)).await;
    let words = ["no node tells how full homes are: the kubelets are not reached"];
    full.says_of_room("Unknown", Reason::UsageUnknown, &words);
    full.says("True", Reason::Applied, &[]);
    full.world.stays_as_it_is().await;
    full.world.restart();
    full.world.stays_as_it_is().await;
    full.node_finds(GIB, 10 * GIB).await;
    full.says_of_room("True", Reason::Applied, &[]);
}

#[tokio::test]
async fn where_no_homes_are_declared_any_more_no_user_is_told_of_any() {
    let mut full = Full::of(growing()).await;
    full.node_insists(5 * GIB, 10 * GIB).await;
    assert_ne!(full.told(), json!([]));
    full.world
        .server
        .apply(&hub_with("earth", "earth", json!({})));
    full.world.settle().await;
    assert_eq!(full.told(), json!([]));
    full.world.stays_as_it_is().await;
}
