//! A user pod whose code runs as a process of this machine.
//!
//! The pod is real to everybody who asks the API server: created by a service account, admitted by
//! the webhook, bound to the node `paper`, running, with a token bound to it. Only its container
//! does not exist: [`HostPod::python`] runs code with the environment that the API server returned
//! for it, and with nothing else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequestSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::components::kubernetes::NODE;
use crate::files;
use crate::python::Python;
use crate::running::Platform;
use crate::service_account_token;
use crate::translation::{Translation, container_of, environment};
use crate::wait;

/// Where the agent listens as pods know it.
const AGENT_IN_PODS: &str = "http://169.254.170.23:8180";

/// How long a new pod may take to be known.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service account, to act as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ServiceAccount {
    /// The service account `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Its user name, as the API server has it.
    pub fn username(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

impl Platform {
    /// A client that acts as a service account.
    pub async fn client_as_service_account(&self, account: &ServiceAccount) -> Result<Client> {
        let of_namespace = format!("system:serviceaccounts:{}", account.namespace);
        let groups = [
            "system:serviceaccounts",
            &of_namespace,
            "system:authenticated",
        ];
        self.client_as(&account.username(), &groups).await
    }

    /// A client that acts as the node `paper`.
    pub async fn client_as_node(&self) -> Result<Client> {
        self.client_as(
            &format!("system:node:{NODE}"),
            &["system:nodes", "system:authenticated"],
        )
        .await
    }
}

/// A pod whose code runs on this machine.
pub struct HostPod {
    pod: Pod,
    pods: Api<Pod>,
    /// The pod's files on this machine, and its HOME.
    folder: PathBuf,
    translation: Translation,
    python: PathBuf,
}

/// A token that the pod's volumes ask for.
struct Projection<'a> {
    volume: &'a str,
    audience: &'a str,
    path: &'a str,
    seconds: Option<i64>,
}

impl HostPod {
    /// Creates `pod` as `creator`, in the creator's namespace unless the pod names another, and
    /// makes it run: bound, with an address, and with a token for every audience that its volumes
    /// name.
    pub async fn create(
        platform: &Platform,
        creator: &ServiceAccount,
        mut pod: Pod,
    ) -> Result<Self> {
        let namespace = pod
            .metadata
            .namespace
            .clone()
            .unwrap_or_else(|| creator.namespace.clone());
        pod.spec.get_or_insert_default().node_name = Some(NODE.to_owned());
        let as_creator: Api<Pod> = Api::namespaced(
            platform.client_as_service_account(creator).await?,
            &namespace,
        );
        let created = as_creator.create(&PostParams::default(), &pod).await;
        // Typed errors stay findable: tests look for the API server's own refusals.
        let created =
            created.with_context(|| format!("creating a pod as {}", creator.username()))?;
        Self::adopt(platform, created).await
    }

    /// The same for a pod that somebody else has created on the node `paper`.
    pub async fn adopt(platform: &Platform, created: Pod) -> Result<Self> {
        let name = created
            .metadata
            .name
            .clone()
            .context("the pod has no name")?;
        let namespace = created
            .metadata
            .namespace
            .clone()
            .context("the pod has no namespace")?;
        let uid = created.metadata.uid.clone().context("the pod has no UID")?;
        let node = platform.client_as_node().await?;
        let address = Ipv4Addr::LOCALHOST.into();
        report_running(&Api::namespaced(node, &namespace), &name, address).await?;

        let pods: Api<Pod> = Api::namespaced(platform.client().await?, &namespace);
        let folder = platform
            .checkout
            .run("pods")
            .join(&namespace)
            .join(format!("{name}-{uid}"));
        files::make_private_folder(&folder)?;
        let mut host_pod = Self {
            pod: pods.get(&name).await?,
            pods,
            folder,
            translation: Translation::default(),
            python: platform.python(),
        };
        host_pod.translation = host_pod.table(platform)?;
        host_pod.renew_tokens(platform).await?;
        Ok(host_pod)
    }

    /// The pod as the API server last returned it.
    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    /// The pod's name.
    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// The first container's environment, translated.
    pub fn environment(&self) -> Result<BTreeMap<String, String>> {
        environment(&self.pod, self.container()?, &self.translation)
    }

    /// Runs Python code as the first container would, and returns what it printed.
    ///
    /// # Errors
    /// [`Raised`](crate::Raised) if the code did not end well.
    pub async fn python(&self, code: &str) -> Result<String> {
        self.interpreter(&self.python)?.run(code, &[]).await
    }

    /// Another Python of this machine, as it would be in the first container.
    pub fn interpreter(&self, python: &Path) -> Result<Python> {
        // A container runtime sets HOME from the image; the pod's own goes before it.
        Ok(Python::at(python, &self.folder).with_env(self.environment()?))
    }

    /// Where a token of the pod is on this machine: that of the first volume with this audience.
    pub fn token_path(&self, audience: &str) -> Option<PathBuf> {
        let projection = self
            .projections()
            .into_iter()
            .find(|found| found.audience == audience)?;
        Some(self.folder.join(projection.volume).join(projection.path))
    }

    /// Asks for the pod's tokens anew, as its kubelet does before they expire.
    pub async fn renew_tokens(&self, platform: &Platform) -> Result<()> {
        let node = platform.client_as_node().await?;
        for projection in self.projections() {
            let token = token_of(&node, &self.pod, projection.audience, projection.seconds).await?;
            let folder = self.folder.join(projection.volume);
            files::make_private_folder(&folder)?;
            files::write_private(&folder.join(projection.path), token)?;
        }
        Ok(())
    }

    /// Deletes the pod at once, if the node has not let it go already: there is no kubelet that would
    /// end it.
    pub async fn delete(&self) -> Result<()> {
        let at_once = DeleteParams::default().grace_period(0);
        match self.pods.delete(self.name(), &at_once).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            deleted => deleted.map(drop)?,
        }
        files::remove(&self.folder)
    }

    fn container(&self) -> Result<&str> {
        let spec = self.pod.spec.as_ref().context("the pod has no spec")?;
        let first = spec
            .containers
            .first()
            .context("the pod has no container")?;
        Ok(&first.name)
    }

    /// The one table of what differs between the pod and this machine.
    fn table(&self, platform: &Platform) -> Result<Translation> {
        let mut table = Translation::default();
        // Without the operator there is no agent, and no pod that knows its address.
        if let Ok(agent) = platform.agent_endpoint() {
            table = table.with(AGENT_IN_PODS, agent);
        }
        let container = container_of(&self.pod, self.container()?)?;
        for mount in container.volume_mounts.iter().flatten() {
            if self
                .projections()
                .iter()
                .any(|projection| projection.volume == mount.name)
            {
                let here = self.folder.join(&mount.name).display().to_string();
                table = table.with(mount.mount_path.trim_end_matches('/'), here);
            }
        }
        Ok(table)
    }

    fn projections(&self) -> Vec<Projection<'_>> {
        let volumes = self
            .pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten());
        let mut found = Vec::new();
        for volume in volumes {
            let projected = volume
                .projected
                .iter()
                .flat_map(|projected| projected.sources.iter().flatten());
            for token in projected.filter_map(|source| source.service_account_token.as_ref()) {
                // Without an audience it is the token for the API server, which nobody here uses.
                if let Some(audience) = &token.audience {
                    found.push(Projection {
                        volume: &volume.name,
                        audience,
                        path: &token.path,
                        seconds: token.expiration_seconds,
                    });
                }
            }
        }
        found
    }
}

/// What a kubelet reports once a pod's containers run: also that the pod has this address.
pub async fn report_running(as_node: &Api<Pod>, name: &str, address: IpAddr) -> Result<()> {
    let condition = |kind: &str| json!({"type": kind, "status": "True"});
    let status = json!({"status": {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [condition("PodScheduled"), condition("ContainersReady"), condition("Ready")],
    }});
    as_node
        .patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
        .await
        .map(drop)
        .with_context(|| format!("reporting pod {name} as running"))
}

/// A token for a pod, for an audience that one of its volumes names, as its node asks for it. The API server's
/// node authoriser hears of new pods by a watch of its own, and refuses until then; kubelets ask again, too.
pub async fn token_of(
    node: &Client,
    pod: &Pod,
    audience: &str,
    seconds: Option<i64>,
) -> Result<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.as_deref())
        .unwrap_or("default");
    let spec = TokenRequestSpec {
        audiences: Some(vec![audience.to_owned()]),
        expiration_seconds: seconds,
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
        }),
    };
    let token = OnceLock::new();
    // Both the node authoriser and whoever binds the token hear of a pod a little later.
    let what = "the API server to know everywhere of a new pod";
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let not_known = [
        "no relationship found".to_owned(),
        format!("pod \"{name}\" not found"),
    ];
    wait::until(what, PATIENCE, async || match service_account_token::issue(
        node,
        namespace,
        account,
        spec.clone(),
    )
    .await
    {
        Ok(issued) => Ok(token.set(issued).is_ok()),
        Err(error) => match not_known
            .iter()
            .any(|told| format!("{error:#}").contains(told))
        {
            true => Ok(false),
            false => Err(error),
        },
    })
    .await
    .with_context(|| format!("for the audience {audience}"))?;
    token.into_inner().context("waited for, and not there")
}
