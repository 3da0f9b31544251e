//! What users' pods and their service accounts say of themselves. Specs are read whole, page by page, and
//! kept only for the length of a look: what of them decides is in no watch.

use std::collections::{BTreeMap, BTreeSet};

use hubstorage_core::api::{HubStorage, STAMP_ANNOTATION, USERNAME_LABEL};
use hubstorage_core::bypass::{Bypass, SeenPod};
use hubstorage_core::injection::UserPods;
use jiff::SignedDuration;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::core::Object;
use kube::discovery::ApiResource;
use kube::{Api, ResourceExt as _};
use serde::Deserialize;

use super::{BypassError, locked};
use crate::audit::questions;
use crate::controller::Context;

/// Pods that are read at once.
const PAGE: u32 = 100;

/// How long what a service account may do is taken for known: a hundred questions to the API server.
const RIGHTS_KEPT: SignedDuration = SignedDuration::from_hours(1);

/// A pod, of which only what decides is read.
type SeenUserPod = Object<SeenPod, SeenStatus>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct SeenStatus {
    phase: String,
}

/// A pod like which a trial pod is made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Like {
    /// Its labels.
    pub(super) labels: BTreeMap<String, String>,
    /// What of its spec decides.
    pub(super) spec: SeenPod,
}

/// What the users' pods of a hub have, all of them together.
#[derive(Debug, Default)]
pub(super) struct Pods {
    pub(super) bypasses: BTreeSet<Bypass>,
    /// Their service accounts, and whether a pod has a token of the account for the API server.
    pub(super) accounts: BTreeMap<String, bool>,
    /// The first of those whose creator the hub trusts, by name; one that does not keep itself from the
    /// metadata service, if there is one.
    pub(super) like: Option<Like>,
}

/// Reads the users' pods of a hub that run, or are about to.
pub(super) async fn pods(
    hub: &HubStorage,
    namespace: &str,
    context: &Context,
) -> Result<Pods, BypassError> {
    let mut found = Pods::default();
    let Ok(sources) = UserPods::of(hub, namespace) else {
        return Ok(found);
    };
    let kind = ApiResource::erase::<Pod>(&());
    let api: Api<SeenUserPod> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    let mut page = ListParams::default().labels(USERNAME_LABEL).limit(PAGE);
    loop {
        let failed = BypassError::at(format!("listing the pods of namespace {namespace}"));
        let listed = api.list(&page).await.map_err(failed)?;
        for pod in listed.items {
            found.see(pod, &sources);
        }
        match listed.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => return Ok(found),
        }
    }
}

impl Pods {
    fn see(&mut self, pod: SeenUserPod, sources: &[UserPods]) {
        let labels = pod.labels();
        let phase = pod.status.as_ref().map_or("", |status| &status.phase);
        let has_ended = ["Succeeded", "Failed"].contains(&phase);
        let is_users = sources.iter().any(|source| source.selects(labels));
        if has_ended || !is_users || pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        self.bypasses.extend(pod.spec.bypasses());
        let has_token = self.accounts.entry(pod.spec.account().to_owned());
        *has_token.or_default() |= pod.spec.has_api_token();
        let stamp = pod.annotations().get(STAMP_ANNOTATION);
        let trusted = stamp.and_then(|stamp| UserPods::trusting(sources, labels, stamp));
        // Lists are in the order of names.
        let is_better = match &self.like {
            None => true,
            Some(like) => {
                like.spec.blocks_metadata_service() && !pod.spec.blocks_metadata_service()
            }
        };
        if is_better && trusted.is_some() {
            self.like = Some(Like {
                labels: labels.clone(),
                spec: pod.spec,
            });
        }
    }
}

/// The identities of clouds that a service account stands for.
pub(super) async fn identities(
    namespace: &str,
    account: &str,
    context: &Context,
) -> Result<Vec<Bypass>, BypassError> {
    let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), namespace);
    let failed = BypassError::at(format!("reading service account {namespace}/{account}"));
    let found = api.get_metadata_opt(account).await.map_err(failed)?;
    let found = found.as_ref().map(|found| found.annotations());
    Ok(found
        .map(|annotations| Bypass::of_account(account, annotations).collect())
        .unwrap_or_default())
}

/// What a service account may do that leads to others' data, if anything.
pub(super) async fn rights(
    namespace: &str,
    account: &str,
    context: &Context,
) -> Result<Option<Bypass>, BypassError> {
    let key = (namespace.to_owned(), account.to_owned());
    let now = (context.clock)();
    let known = locked(&context.bypasses.rights).get(&key).cloned();
    let known = known.filter(|(_, asked)| now.duration_since(*asked) < RIGHTS_KEPT);
    let rights = match known {
        Some((rights, _)) => rights,
        None => {
            let rights = ask(namespace, account, context).await?;
            locked(&context.bypasses.rights).insert(key, (rights.clone(), now));
            rights
        }
    };
    Ok((!rights.is_empty()).then(|| Bypass::Rights {
        account: account.to_owned(),
        rights,
    }))
}

/// Asks the API server, whatever authorizes there, for each right by itself.
async fn ask(
    namespace: &str,
    account: &str,
    context: &Context,
) -> Result<Vec<&'static str>, BypassError> {
    let reviews: Api<SubjectAccessReview> = Api::all(context.client.clone());
    let mut rights = Vec::new();
    for question in questions() {
        if rights.contains(&question.what) {
            continue;
        }
        let (resource, subresource) = match question.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (question.resource, None),
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(format!("system:serviceaccount:{namespace}:{account}")),
                groups: Some(vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                    "system:authenticated".to_owned(),
                ]),
                resource_attributes: Some(ResourceAttributes {
                    namespace: (!question.is_of_cluster).then(|| namespace.to_owned()),
                    group: Some(question.group.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource,
                    verb: Some(question.verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let failed = BypassError::at(format!(
            "asking what service account {namespace}/{account} may do"
        ));
        let answer = reviews.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(failed)?;
        if answer.status.is_some_and(|status| status.allowed) {
            rights.push(question.what);
        }
    }
    Ok(rights)
}
