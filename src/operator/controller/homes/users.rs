//! How full a user's homes are, told in the HubUser that the operator has made for them.

use std::collections::BTreeMap;

use hubstorage_core::api::{HomeUsage, HubStorage, HubUser};
use hubstorage_core::names::{Username, hub_user_name};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{HOMES_MANAGER, HomesError, failed};
use crate::controller::Context;
use crate::controller::apply_status::{Version, apply_status};

/// Writes `status.homes` of every HubUser of a hub of which it says something else than `usage` of its user.
pub(super) async fn tell(
    hub: &HubStorage,
    usage: &BTreeMap<String, Vec<HomeUsage>>,
    context: &Context,
) -> Result<(), HomesError> {
    let namespace = hub.namespace().unwrap_or_default();
    let users = context.stores.users.state_filter(|user| {
        user.namespace().as_deref() == Some(&namespace) && has_the_derived_name(user, hub)
    });
    let mut told = Ok(());
    for user in users {
        let now = usage
            .get(&user.spec.username)
            .map_or(&[][..], Vec::as_slice);
        let before = user.status.as_ref().map_or(&[][..], |status| &status.homes);
        if now != before {
            // One that cannot be written does not stand in the way of the others.
            told = told.and(write(&user, &namespace, now, context).await);
        }
    }
    told
}

/// Of several HubUsers of one user, that tells which the operator makes where it is not there.
fn has_the_derived_name(user: &HubUser, hub: &HubStorage) -> bool {
    let username = Username::parse(&user.spec.username);
    user.spec.hub_ref.name == hub.name_any()
        && username
            .is_ok_and(|username| user.name_any() == hub_user_name(&hub.name_any(), &username))
}

async fn write(
    user: &HubUser,
    namespace: &str,
    homes: &[HomeUsage],
    context: &Context,
) -> Result<(), HomesError> {
    let mut status = json!({});
    if !homes.is_empty() {
        status["homes"] = json!(homes);
    }
    let api: Api<HubUser> = Api::namespaced(context.client.clone(), namespace);
    match apply_status(&api, user, Version::Any, HOMES_MANAGER, status).await {
        // It is gone, and with it whoever would read this.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        written => written.map(drop).map_err(failed(format!(
            "writing status.homes of HubUser {namespace}/{}",
            user.name_any()
        ))),
    }
}
