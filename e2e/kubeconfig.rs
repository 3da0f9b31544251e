//! Kubeconfig files: for the admin, for Kubernetes' own components, and for the operator's
//! processes, which use tokens of their own service accounts.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::files;
use crate::site::Site;

/// How the holder of a kubeconfig proves who it is.
pub enum Identity<'a> {
    /// The client certificate of this name.
    Certificate(&'a str),
    /// The token in this file, which is read again when it changes.
    TokenFile(&'a Path),
}

/// Writes a kubeconfig with one cluster, one user and one context.
pub fn write(site: &Site, path: &Path, identity: &Identity<'_>) -> Result<()> {
    let user = match identity {
        Identity::Certificate(name) => json!({
            "client-certificate": site.pki(&format!("{name}.crt")),
            "client-key": site.pki(&format!("{name}.key")),
        }),
        Identity::TokenFile(token) => json!({ "tokenFile": token }),
    };
    let server = format!("https://{}", site.ports.address("kube-apiserver")?);
    let config = document(&server, &site.pki("ca.crt"), &user);
    files::write_private(path, serde_yaml::to_string(&config)?)
}

fn document(server: &str, ca: &str, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": "local", "user": user}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
        "current-context": "local",
    })
}

/// The admin's kubeconfig, by a client certificate of the group `system:masters`.
pub fn admin_path(checkout: &crate::checkout::Checkout) -> PathBuf {
    checkout.run("kubeconfig")
}
