//! Roles of hubs: made, kept, assumed and deleted, or told of as something that the store lacks.

use std::collections::BTreeSet;
use std::time::Duration;

use hubstorage_cloud::{AssumedRole, CloudError, RoleCreation, RolePart};
use hubstorage_core::api::Capability;
use hubstorage_core::names::{BucketName, Prefix, RoleName, is_arn_of_ours};
use hubstorage_core::plan::Owner;
use hubstorage_core::policies::{Access, Place, PolicyDocument, Reach};
use hubstorage_core::roles::{
    DeclaredRole, RememberedRole, RoleChange, RoleHome, RolePlan, plan_removal, plan_role,
};

use crate::probing;
use crate::world::{Denial, Sessions, World, new_bucket};

/// A role of a hub that no other test has, for these buckets.
fn declared(world: &dyn World, buckets: &[&BucketName]) -> DeclaredRole {
    let hub = world.new_name().to_string();
    let owner = Owner {
        installation: "contract".into(),
        namespace: "earth".into(),
        name: hub.clone(),
    };
    DeclaredRole {
        name: RoleName::derive("contract", "earth", &hub),
        owner,
        trusted: world.vending_principal(),
        boundary: None,
        ceiling: buckets.iter().copied().cloned().collect(),
        shared: BTreeSet::new(),
        home: RoleHome::Compatible,
    }
}

/// What is to be done about the role, as the operator finds it out.
async fn plan(world: &dyn World, role: &DeclaredRole) -> RolePlan {
    let found = world.roles().await.role(&role.name).await.unwrap();
    plan_role(role, found.as_ref(), &RememberedRole::default())
}

/// Makes it; false where the store has no roles and says so.
async fn make(world: &dyn World, role: &DeclaredRole) -> bool {
    let roles = world.roles().await;
    let created = roles.create_role(role).await;
    if !world.traits().supports.has(Capability::Roles) {
        let capability = Capability::Roles;
        assert_eq!(created, Err(CloudError::Unsupported { capability }));
        let found = roles.role(&role.name).await;
        assert_eq!(found, Err(CloudError::Unsupported { capability }));
        return false;
    }
    assert_eq!(created, Ok(RoleCreation::Created));
    roles.change_role(role, RolePart::Policy).await.unwrap();
    true
}

async fn remove(world: &dyn World, role: &DeclaredRole) {
    world.roles().await.delete_role(&role.name).await.unwrap();
}

fn reach(bucket: &BucketName) -> PolicyDocument {
    PolicyDocument::allowing(&[Reach {
        bucket: bucket.clone(),
        place: Place::Own(Prefix::escaped(b"bob")),
        access: Access::ReadWrite,
    }])
    .unwrap()
}

pub async fn a_role_reads_back_as_declared_and_is_made_once(world: &dyn World) {
    let bucket = new_bucket(world).await;
    let role = declared(world, &[&bucket]);
    if !make(world, &role).await {
        return;
    }
    assert_eq!(plan(world, &role).await, RolePlan::default());
    let roles = world.roles().await;
    let first = roles.role(&role.name).await.unwrap().unwrap();
    assert!(is_arn_of_ours(&first.arn), "{}", first.arn);

    let again = roles.create_role(&role).await;
    assert_eq!(again, Ok(RoleCreation::AlreadyThere));

    assert_eq!(roles.role(&role.name).await.unwrap(), Some(first));
    remove(world, &role).await;
}

pub async fn what_was_changed_in_a_role_is_seen_and_put_back(world: &dyn World) {
    let (bucket, other) = (new_bucket(world).await, new_bucket(world).await);
    let role = declared(world, &[&bucket]);
    if !make(world, &role).await {
        return;
    }
    let changed = DeclaredRole {
        trusted: world.other_principal(),
        ceiling: [other].into(),
        ..role.clone()
    };
    let roles = world.roles().await;
    for part in [RolePart::Trust, RolePart::Policy] {
        roles.change_role(&changed, part).await.unwrap();
        let planned = plan(world, &role).await.actions;
        let is_it = match part {
            RolePart::Trust => |change: &RoleChange| matches!(change, RoleChange::SetTrust { .. }),
            _ => |change: &RoleChange| matches!(change, RoleChange::SetPolicy { .. }),
        };
        let [action] = &planned[..] else {
            panic!("{part:?}: {planned:?}")
        };
        assert!(is_it(&action.change), "{part:?}: {action:?}");
        roles.change_role(&role, part).await.unwrap();
        assert_eq!(plan(world, &role).await, RolePlan::default(), "{part:?}");
    }
    remove(world, &role).await;
}

pub async fn a_role_that_is_deleted_is_gone_and_another_one_of_its_name_is_told_from_it(
    world: &dyn World,
) {
    let bucket = new_bucket(world).await;
    let role = declared(world, &[&bucket]);
    if !make(world, &role).await {
        return;
    }
    let roles = world.roles().await;
    let first = roles.role(&role.name).await.unwrap().unwrap();
    let planned = plan_removal(
        &role.name,
        &role.owner,
        Some(&first),
        &RememberedRole::default(),
    );
    assert_eq!(planned.actions.len(), 1);

    remove(world, &role).await;

    assert_eq!(roles.role(&role.name).await.unwrap(), None);
    remove(world, &role).await;
    make(world, &role).await;
    let second = roles.role(&role.name).await.unwrap().unwrap();
    assert_ne!(first.id, second.id);
    remove(world, &role).await;
}

pub async fn a_session_of_a_role_is_held_to_the_role_and_to_its_own_policy(world: &dyn World) {
    let (mine, other) = (new_bucket(world).await, new_bucket(world).await);
    let role = declared(world, &[&mine]);
    if !make(world, &role).await {
        return;
    }
    let roles = world.roles().await;
    let arn = roles.role(&role.name).await.unwrap().unwrap().arn;
    let source = world.source().await;
    let lifetime = Duration::from_secs(900);
    let session = async |policy: &PolicyDocument| {
        let issued = source
            .assume(Some(AssumedRole::untagged(&arn)), "bob", policy, lifetime)
            .await;
        world.user(&issued.unwrap())
    };

    let bob = session(&reach(&mine)).await;
    bob.put(&mine, "bob/object", "x").await.unwrap();
    assert_eq!(bob.list(&mine, "bob/").await.unwrap(), ["bob/object"]);
    if world.traits().sessions != Sessions::NotHeld {
        let foreign = bob.put(&mine, "alice/object", "x").await;
        assert_eq!(foreign, Err(Denial::AccessDenied));
        // A policy that asks for more than the role has.
        let beyond = session(&reach(&other)).await;
        let put = beyond.put(&other, "bob/object", "x").await;
        assert_eq!(put, Err(Denial::AccessDenied));
        // As much as a session of the role that is given, and no more: above all not the role again.
        let canary = probing::of_a_session_of(world, &mine, &arn).await;
        assert_eq!(canary, probing::of_a_limited_session(world).await);
    }
    remove(world, &role).await;
}
