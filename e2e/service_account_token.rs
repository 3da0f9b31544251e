//! Tokens of service accounts, asked for as kubelets and people ask.

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};

/// A token of the service account `name`, with what `spec` asks for.
pub async fn issue(
    client: &Client,
    namespace: &str,
    name: &str,
    spec: TokenRequestSpec,
) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(spec),
        ..Default::default()
    };
    let answer = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await
        .with_context(|| format!("a token of the service account {namespace}/{name}"))?;
    let issued = answer.status.and_then(|status| status.token);
    issued.context("the API server answered without a token")
}

/// The same for the API server, good for so many seconds.
pub async fn issue_for(
    client: &Client,
    namespace: &str,
    name: &str,
    seconds: i64,
) -> Result<String> {
    let spec = TokenRequestSpec {
        expiration_seconds: Some(seconds),
        ..Default::default()
    };
    issue(client, namespace, name, spec).await
}
