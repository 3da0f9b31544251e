//! The role that users' sessions are of, where the provider says that the operator makes it.

use std::time::Duration;

use hubstorage_cloud::memory::{Behaviour, Bucket};
use hubstorage_cloud::{CloudError, Operation};
use hubstorage_core::api::{Capability, ConditionType, HubStorage, OWNER_TAG, Reason};
use hubstorage_core::names::RoleName;
use hubstorage_core::roles::FoundRole;
use serde_json::{Value, json};

use crate::fixtures::{INSTALLATION, hub, hub_with, namespace, persistent, provider_with};
use crate::world::World;

pub const VENDING: &str = "arn:aws:iam::123456789012:user/vendor";
const BOUNDARY: &str = "arn:aws:iam::123456789012:policy/hubstorage-users";

fn vending(role: Value) -> Value {
    json!({"s3": {"vending": {"credentials": {"type": "Ambient"}, "role": role}}})
}

fn managed() -> Value {
    vending(json!({
        "management": "Managed", "trustedPrincipal": VENDING, "permissionsBoundary": BOUNDARY,
    }))
}

/// A store with roles, a provider that has them made, and a hub.
pub fn with_roles() -> World {
    World::empty(Behaviour::aws())
        .with(&provider_with(managed()))
        .with(&namespace("earth"))
        .with(&hub())
}

async fn settled() -> World {
    let mut world = with_roles();
    world.settle().await;
    world
}

fn name() -> RoleName {
    RoleName::derive(INSTALLATION, "earth", "earth")
}

fn role(world: &World) -> FoundRole {
    world.cloud.role(&name()).expect("the role is there")
}

/// The role by hand.
pub fn edit(world: &World, edit: impl FnOnce(&mut FoundRole)) {
    world
        .cloud
        .edit_roles_by_hand(|roles| edit(roles.get_mut(&name()).unwrap()));
}

fn resources(role: &FoundRole) -> Vec<&str> {
    let statements = role.policy["Statement"].as_array().unwrap().iter();
    let resources = statements.flat_map(|statement| statement["Resource"].as_array().unwrap());
    resources
        .map(|resource| resource.as_str().unwrap())
        .collect()
}

fn set_vending(world: &World, role: Value) {
    world.server.edit(&provider_with(json!({})), |provider| {
        provider["spec"]["s3"]["vending"]["role"] = role;
    });
}

fn known(world: &World, hub: &HubStorage) -> Option<Value> {
    let status = world.hub(hub).status.unwrap_or_default();
    status.role.map(|role| json!(role))
}

#[tokio::test]
async fn a_hub_gets_a_role_for_its_own_buckets_and_status_tells_which() {
    let mut world = settled().await;
    let role = role(&world);
    assert_eq!(role.owner.as_deref(), Some("here/earth/earth"));
    assert_eq!(role.boundary.as_deref(), Some(BOUNDARY));
    assert_eq!(
        role.trust["Statement"][0]["Principal"],
        json!({"AWS": [VENDING]})
    );
    let of_earth = |resource: &&str| resource.starts_with("arn:aws:s3:::earth-");
    assert!(resources(&role).iter().all(of_earth), "{:?}", role.policy);
    let known = known(&world, &hub()).unwrap();
    assert_eq!(
        [&known["arn"], &known["id"]],
        [&json!(role.arn), &json!(role.id)]
    );
    world.says(
        &hub(),
        ConditionType::RoleReady,
        "True",
        Reason::Applied,
        &[VENDING, "earth-scratch", "earth-persistent"],
    );
    assert_eq!(world.server.events_of("RoleCreated").len(), 1);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_bucket_of_somebody_else_is_not_in_the_reach_of_the_role() {
    let mut world = with_roles();
    let theirs = Bucket::new("somebody", world.cloud.now());
    world.cloud.insert_by_hand(&persistent(), theirs);
    world.settle().await;
    let role = role(&world);
    let is_scratch = |resource: &&str| resource.starts_with("arn:aws:s3:::earth-scratch");
    assert!(resources(&role).iter().all(is_scratch), "{:?}", role.policy);
}

#[tokio::test]
async fn an_outage_of_the_store_takes_nothing_out_of_the_role() {
    let mut world = settled().await;
    let before = role(&world);
    world.cloud.fail_with(Some(CloudError::Unreachable {
        endpoint: "under test".into(),
        cause: "nobody answers".into(),
    }));
    world.rounds(3).await;
    world.cloud.fail_with(None);
    world.settle().await;
    assert_eq!(role(&world), before);
    assert!(known(&world, &hub()).is_some());
}

#[tokio::test]
async fn what_somebody_changed_in_the_role_is_put_back_and_told() {
    let mut world = settled().await;
    let before = role(&world);
    edit(&world, |role| {
        role.trust["Statement"][0]["Principal"] = json!({"AWS": "*"});
        role.policy["Statement"][0]["Resource"] = json!(["arn:aws:s3:::*"]);
        role.boundary = None;
        role.owner = None;
    });
    world.settle().await;
    assert_eq!(role(&world), before);
    let told = world.server.events_of("DriftCorrected");
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told.iter().all(|event| event.type_ == "Warning"));
}

#[tokio::test]
async fn a_role_of_the_name_that_is_somebody_elses_stalls_the_hub_and_stays_as_it_is() {
    let mut world = settled().await;
    world.cloud.edit_roles_by_hand(|roles| {
        let role = roles.get_mut(&name()).unwrap();
        role.id = "AROA-another".into();
        role.owner = Some("there/earth/earth".into());
    });
    let theirs = role(&world);
    world.settle().await;
    assert_eq!(role(&world), theirs);
    world.says(
        &hub(),
        ConditionType::RoleReady,
        "False",
        Reason::RoleOwnedByOthers,
        &["there/earth/earth", OWNER_TAG, "here/earth/earth"],
    );
    assert_eq!(known(&world, &hub()), None, "nothing is to be vended by it");
    world.server.delete(&hub());
    world.settle().await;
    assert_eq!(role(&world), theirs);
}

#[tokio::test]
async fn where_the_provider_has_roles_made_no_more_they_go() {
    let mut world = settled().await;
    let arn = "arn:aws:iam::123456789012:role/given";
    set_vending(&world, json!({"management": "Given", "arn": arn}));
    world.settle().await;
    assert_eq!(world.cloud.role(&name()), None);
    assert_eq!(known(&world, &hub()), None);
    assert_eq!(world.server.events_of("RoleDeleted").len(), 1);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_role_goes_with_its_hub() {
    let mut world = settled().await;
    world.server.delete(&hub());
    world.settle().await;
    assert!(world.server.get(&hub()).is_none());
    assert_eq!(world.cloud.role(&name()), None);
    assert_eq!(world.server.events_of("RoleDeleted").len(), 1);
}

#[tokio::test]
async fn a_role_that_may_not_be_deleted_holds_the_hub_and_the_way_out_works() {
    let mut world = settled().await;
    world.cloud.behave(|behaviour| {
        behaviour.missing_permissions.insert("iam:DeleteRole");
    });
    world.server.delete(&hub());
    world.settle().await;
    world.says(
        &hub(),
        ConditionType::Ready,
        "False",
        Reason::AccessDenied,
        &["iam:DeleteRole", "set spec.mode to Observe"],
    );
    world
        .server
        .edit(&hub(), |hub| hub["spec"]["mode"] = json!("Observe"));
    world.settle().await;
    assert!(world.server.get(&hub()).is_none());
    let told = world.server.events_of("RoleRetained");
    assert!(
        told.iter()
            .all(|event| event.note.contains(&role(&world).arn)),
        "{told:?}"
    );
    assert_eq!(told.len(), 2, "on the hub and on the provider");
}

#[tokio::test]
async fn without_its_provider_a_hub_goes_and_says_that_the_role_stays() {
    let mut world = settled().await;
    world.server.delete(&provider_with(managed()));
    world.server.delete(&hub());
    world.settle().await;
    assert!(world.server.get(&hub()).is_none());
    assert_eq!(world.server.events_of("RoleRetained").len(), 1);
}

#[tokio::test]
async fn mode_observe_says_what_would_be_done_and_makes_no_role() {
    let mut world = settled().await;
    edit(&world, |role| role.boundary = None);
    world
        .server
        .edit(&hub(), |hub| hub["spec"]["mode"] = json!("Observe"));
    world.settle().await;
    assert_eq!(role(&world).boundary, None);
    let plan = world.hub(&hub()).status.unwrap().plan;
    let said = format!(
        "set the permissions boundary of role {} to {BOUNDARY}; found it changed",
        name()
    );
    assert_eq!(plan, [said]);
    world
        .server
        .edit(&hub(), |hub| hub["spec"]["mode"] = json!("Enforce"));
    world.settle().await;
    assert_eq!(role(&world).boundary.as_deref(), Some(BOUNDARY));
}

#[tokio::test]
async fn a_store_without_roles_stalls_the_hub_and_is_asked_once() {
    let mut world = with_roles();
    world.cloud.behave(|behaviour| {
        behaviour.supports = behaviour.supports.without(Capability::Roles);
    });
    world.settle().await;
    world.says(
        &hub(),
        ConditionType::RoleReady,
        "False",
        Reason::Unsupported,
        &[
            "the store cannot make roles",
            "spec.s3.vending.role.management",
        ],
    );
    world.says(
        &hub(),
        ConditionType::BucketsReady,
        "True",
        Reason::Applied,
        &[],
    );
    let asked = |world: &World| world.cloud.count(Operation::Role);
    let before = asked(&world);
    world.rounds(5).await;
    assert_eq!(asked(&world), before);
}

#[tokio::test]
async fn a_hub_that_grants_nothing_has_no_role() {
    let buckets = json!([{"name": "scratch", "bucketName": "earth-scratch", "grants": []}]);
    let fields = json!({"buckets": buckets});
    let hub = hub_with("earth", "earth", fields);
    let mut world = World::empty(Behaviour::aws())
        .with(&provider_with(managed()))
        .with(&namespace("earth"))
        .with(&hub);
    world.settle().await;
    assert_eq!(world.cloud.role(&name()), None);
    assert!(world.is_ready(&hub));
}

#[tokio::test]
async fn a_hub_that_is_deleted_before_its_role_is_to_be_seen_leaves_none_behind() {
    let mut world = with_roles();
    world
        .cloud
        .behave(|behaviour| behaviour.lag = Duration::from_secs(90));
    world.round().await;
    assert!(world.cloud.role(&name()).is_some());
    world.server.delete(&hub());
    world.rounds(4).await;
    assert!(world.server.get(&hub()).is_none());
    assert_eq!(world.cloud.role(&name()), None);
}

#[tokio::test]
async fn a_role_that_appears_while_it_is_made_is_left_as_it_is() {
    let mut world = settled().await;
    world.cloud.edit_roles_by_hand(|roles| {
        let mut theirs = roles.remove(&name()).unwrap();
        theirs.owner = Some("there/earth/earth".into());
        theirs.policy = Value::Null;
        theirs.id = "AROA-another".into();
        roles.insert(name(), theirs);
    });
    let theirs = role(&world);
    // It is told of late, so that the controller sees none and makes one.
    world.cloud.hide_role(&name(), Duration::from_secs(90));
    world.rounds(4).await;
    world.settle().await;
    assert_eq!(role(&world), theirs);
    assert_eq!(world.server.events_of("DriftCorrected").len(), 0);
    let stands = world.condition(&hub(), ConditionType::RoleReady);
    assert_eq!(stands.reason, Reason::RoleOwnedByOthers.to_string());
    assert_eq!(known(&world, &hub()), None);
}

#[tokio::test]
async fn a_role_that_somebody_opened_and_nobody_may_close_is_told_as_no_isolation() {
    let mut world = settled().await;
    edit(&world, |role| {
        role.trust["Statement"][0]["Principal"] = json!({"AWS": "*"});
    });
    world
        .server
        .edit(&hub(), |hub| hub["spec"]["mode"] = json!("Observe"));
    world.settle().await;
    world.says(
        &hub(),
        ConditionType::IsolationReady,
        "False",
        Reason::RoleTrustsOthers,
        &["whomever it names may assume the role"],
    );
    world
        .server
        .edit(&hub(), |hub| hub["spec"]["mode"] = json!("Enforce"));
    world.settle().await;
    let isolation = world.condition(&hub(), ConditionType::IsolationReady);
    assert_ne!(isolation.reason, Reason::RoleTrustsOthers.to_string());
}

#[tokio::test]
async fn rights_that_went_with_the_management_of_roles_hold_nobody_up() {
    let mut world = settled().await;
    world.cloud.behave(|behaviour| {
        behaviour.missing_permissions.insert("iam:GetRole");
    });
    let arn = "arn:aws:iam::123456789012:role/given";
    set_vending(&world, json!({"management": "Given", "arn": arn}));
    world.settle().await;
    assert!(world.is_ready(&hub()));
    assert_eq!(known(&world, &hub()), None);
    let told = world.server.events_of("RoleRetained");
    assert!(
        told.iter()
            .all(|event| event.note.contains(name().as_str())),
        "{told:?}"
    );
    assert_eq!(told.len(), 2);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn while_the_store_tells_of_the_role_late_nothing_is_done_twice() {
    let mut world = settled().await;
    world
        .cloud
        .behave(|behaviour| behaviour.lag = Duration::from_secs(90));
    edit(&world, |role| {
        role.trust["Statement"][0]["Principal"] = json!({"AWS": "*"});
        role.policy = Value::Null;
    });
    let before = world.cloud.count(Operation::ChangeRole);
    world.rounds(5).await;
    assert_eq!(world.cloud.count(Operation::ChangeRole) - before, 2);
    assert!(known(&world, &hub()).unwrap().get("requested").is_none());
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_role_that_was_refused_at_first_and_one_that_was_deleted_by_hand_leave_nothing_behind() {
    for is_new in [true, false] {
        let mut world = if is_new {
            with_roles()
        } else {
            settled().await
        };
        if is_new {
            world.cloud.behave(|behaviour| {
                behaviour.missing_permissions.insert("iam:CreateRole");
            });
            world.rounds(5).await;
            world
                .cloud
                .behave(|behaviour| behaviour.missing_permissions.clear());
        } else {
            world.cloud.edit_roles_by_hand(|roles| roles.clear());
        }
        world
            .cloud
            .behave(|behaviour| behaviour.lag = Duration::from_secs(90));
        world.round().await;
        assert!(world.cloud.role(&name()).is_some());
        assert_eq!(
            known(&world, &hub()).unwrap().get("arn"),
            None,
            "nothing is vended by it yet"
        );
        world.server.delete(&hub());
        world.rounds(4).await;
        assert!(world.server.get(&hub()).is_none());
        assert_eq!(world.cloud.role(&name()), None, "new: {is_new}");
    }
}

#[tokio::test]
async fn a_boundary_that_cannot_be_set_keeps_nobody_from_closing_the_role() {
    let mut world = settled().await;
    edit(&world, |role| {
        role.trust["Statement"][0]["Principal"] = json!({"AWS": "*"});
        role.boundary = None;
    });
    world
        .cloud
        .behave(|behaviour| behaviour.refuses_boundaries = true);
    world.rounds(3).await;
    let role = role(&world);
    assert_eq!(
        role.trust["Statement"][0]["Principal"],
        json!({"AWS": [VENDING]})
    );
    assert_eq!(role.boundary, None);
    world.says(
        &hub(),
        ConditionType::RoleReady,
        "False",
        Reason::AccessDenied,
        &[],
    );
    let isolation = world.condition(&hub(), ConditionType::IsolationReady);
    assert_ne!(isolation.reason, Reason::RoleTrustsOthers.to_string());
}
