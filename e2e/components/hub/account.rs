//! The service account `hub` of a namespace, with the rights that Zero to JupyterHub gives it, and
//! the kubeconfig by which a process of this machine acts as an account.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::authorisation;
use crate::files;
use crate::host_pod;
use crate::kubeconfig::{self, Identity};
use crate::service_account_token;
use crate::site::Site;
use crate::wait;

/// The account's name, and its role's.
pub const ACCOUNT: &str = "hub";

/// A year. KubeSpawner and dask-gateway read their token once, at their start, and never again.
const TOKEN_SECONDS: i64 = 365 * 24 * 60 * 60;

/// How long the controller-manager may take to give a new namespace its service account.
const DEFAULT_ACCOUNT_WITHIN: Duration = Duration::from_secs(30);

/// Makes the namespace, the account, its role and its binding, or puts them right. Returns when
/// pods can be made: they run as the namespace's `default` account.
pub async fn ensure(client: &Client, namespace: &str) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    apply(&namespaces, namespace, json!({})).await?;

    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    apply(&accounts, ACCOUNT, json!({})).await?;

    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    let rules = json!([
        {
            "apiGroups": [""],
            "resources": ["pods", "persistentvolumeclaims", "secrets", "services"],
            "verbs": ["get", "watch", "list", "create", "delete"],
        },
        {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "watch", "list"]},
    ]);
    apply(&roles, ACCOUNT, json!({"rules": rules})).await?;

    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    let binding = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
    });
    apply(&bindings, ACCOUNT, binding).await?;

    wait::until(
        &format!("kube-controller-manager to make ServiceAccount {namespace}/default"),
        DEFAULT_ACCOUNT_WITHIN,
        async || Ok(accounts.get_opt("default").await?.is_some()),
    )
    .await?;
    let account = host_pod::ServiceAccount::new(namespace, ACCOUNT);
    authorisation::until_it_may_create_pods(client, &account).await
}

/// A kubeconfig of an account in `folder`, with a token that is made once for each life of the
/// account: when the namespace was deleted and is back, the path is another one.
pub async fn kubeconfig(
    site: &Site,
    client: &Client,
    namespace: &str,
    account: &str,
    folder: &Path,
) -> Result<PathBuf> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let uid = accounts.get(account).await?.uid();
    let uid = uid.context("the service account has no UID")?;
    let token = folder.join(format!("{uid}.token"));
    if !token.exists() {
        let issued =
            service_account_token::issue_for(client, namespace, account, TOKEN_SECONDS).await?;
        files::write_private(&token, issued)?;
    }
    let config = folder.join(format!("{uid}.kubeconfig"));
    kubeconfig::write(site, &config, &Identity::TokenFile(&token))?;
    Ok(config)
}

/// Server-side apply of `fields`.
async fn apply<K>(api: &Api<K>, name: &str, mut fields: Value) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    fields["apiVersion"] = json!(K::api_version(&()));
    fields["kind"] = json!(K::kind(&()));
    fields["metadata"] = json!({"name": name});
    let force = PatchParams::apply("hubstorage-e2e").force();
    let applied = api.patch(name, &force, &Patch::Apply(fields)).await;
    applied
        .map(drop)
        .with_context(|| format!("{} {name}", K::kind(&())))
}
