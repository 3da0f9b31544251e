//! Waiting for rights to be in force: the API server's authorizer learns of a binding from a watch,
//! so that a request right after the binding was made may still be refused.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::host_pod::ServiceAccount;
use crate::wait;

/// How long a binding may take to be seen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `account` may create pods in its namespace.
///
/// # Errors
/// If it still may not after half a minute, or the API server does not answer.
pub async fn until_it_may_create_pods(client: &Client, account: &ServiceAccount) -> Result<()> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let question = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(account.username()),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(account.namespace.clone()),
                verb: Some("create".to_owned()),
                resource: Some("pods".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let what = format!("{} to be allowed to create pods", account.username());
    wait::until(&what, PATIENCE, async || {
        let answer = reviews.create(&PostParams::default(), &question).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    })
    .await
}
