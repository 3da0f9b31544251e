//! `MountsReady`, whether new user pods are given the shared folders, and `status.shared`, by which admission goes.

use futures::FutureExt as _;
use hubstorage_core::api::{
    ConditionStatus, ConditionType, Enforcement, HubStorage, Mode, Reason, SharedFolder,
    SharedFolderStatus, Verdict,
};
use hubstorage_core::shared;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use crate::controller::step::not_reached;
use crate::controller::{Context, Step};
use crate::guard::GuardState;

use ConditionStatus::{False, True, Unknown};
use ConditionType::MountsReady;

/// What is known of the folders of `hub`. What status tells stands while nobody looks: in mode Paused, and until the
/// claims of all namespaces are in memory.
pub(super) fn folders(hub: &HubStorage, context: &Context) -> Vec<SharedFolderStatus> {
    if hub.spec.shared.is_empty() || !context.counts(hub) {
        return Vec::new();
    }
    if hub.spec.mode == Mode::Paused || !are_listed(context) {
        return shared::folders_unseen(hub);
    }
    let namespace = hub.namespace().unwrap_or_default();
    shared::folders(hub, |name| {
        let claim = ObjectRef::new(name).within(&namespace);
        let claim = context.stores.claims.get(&claim)?;
        Some(claim.folder())
    })
}

fn are_listed(context: &Context) -> bool {
    let listed = context.stores.claims.wait_until_ready().now_or_never();
    listed.is_some_and(|listed| listed.is_ok())
}

/// The verdict on a hub whose reconcile ended in `step`; none, where no folders are declared.
pub(super) fn verdict(hub: &HubStorage, step: &Step, context: &Context) -> Option<Verdict> {
    match again(hub, context) {
        None if hub.spec.shared.is_empty() || hub.spec.mode == Mode::Paused => None,
        None => Some(not_reached(MountsReady, step)),
        known => known,
    }
}

/// The same, however the store is, of the hub that counts.
pub(super) fn again(hub: &HubStorage, context: &Context) -> Option<Verdict> {
    if hub.spec.shared.is_empty() || hub.spec.mode == Mode::Paused || !context.counts(hub) {
        return None;
    }
    let known = folders(hub, context);
    // In mode Observe they are told of, too, and let in.
    let (policy, what) = match (hub.spec.mode, hub.spec.policy.enforcement) {
        (Mode::Enforce, Enforcement::Deny) => {
            (&context.limits.shared, "let in, whoever's they are")
        }
        _ => (&context.limits.shared_audit, "told of nowhere"),
    };
    let open = match &*policy.borrow() {
        GuardState::Missing { why } => Some(format!(
            "new pods that could write to a shared folder may be {what}: {why}"
        )),
        GuardState::InForce { .. } => None,
    };
    Some(of_folders(&hub.spec.shared, &known, open))
}

/// `open` is why pods of others than writers may mount the folders writable.
fn of_folders(
    declared: &[SharedFolder],
    known: &[SharedFolderStatus],
    open: Option<String>,
) -> Verdict {
    let unseen = Reason::Progressing.to_string();
    let is_seen = |reason: &String| *reason != unseen;
    let troubles: Vec<&SharedFolderStatus> = known
        .iter()
        .filter(|known| known.reason.as_ref().is_some_and(is_seen))
        .collect();
    let is_known = |folder: &SharedFolder| known.iter().any(|known| known.lets_mount(folder));
    if let Some(first) = troubles.first() {
        let reason = first
            .reason
            .as_deref()
            .and_then(|reason| reason.parse().ok());
        let words: Vec<&str> = troubles
            .iter()
            .filter_map(|trouble| trouble.message.as_deref())
            .chain(open.as_deref())
            .collect();
        // One that another version knows is a claim to look at, too.
        let reason = reason.unwrap_or(Reason::ClaimNotShareable);
        return Verdict::new(MountsReady, False, reason, words.join("; "));
    }
    if let Some(open) = open {
        return Verdict::new(MountsReady, False, Reason::PolicyMissing, open);
    }
    if !declared.iter().all(is_known) {
        let message = "the claims of shared folders have not been looked at yet";
        return Verdict::new(MountsReady, Unknown, Reason::Progressing, message);
    }
    let words: Vec<String> = declared.iter().map(words).collect();
    Verdict::new(MountsReady, True, Reason::Applied, words.join("; "))
}

/// Where a folder is found.
fn words(folder: &SharedFolder) -> String {
    let SharedFolder {
        name,
        claim_name,
        mount_path,
        ..
    } = folder;
    let of = match &folder.sub_path {
        Some(sub_path) => format!("{sub_path} of claim {claim_name}"),
        None => format!("claim {claim_name}"),
    };
    let to_write = match &folder.writers {
        None => String::new(),
        Some(writers) => {
            let path = writers.mount_path.as_ref().unwrap_or(mount_path);
            format!(", to write at {path}")
        }
    };
    format!("{name}: {of} at {mount_path}{to_write}")
}
