//! Bypasses: what users' pods have besides what we vend, and that all of them share. By any of these a
//! user may reach more than their own prefix, whatever a session policy says. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::api::Reason;

/// Annotations by which a service account stands for an identity of a cloud, and what that is called there:
/// EKS (amazon-eks-pod-identity-webhook), GKE and AKS (azure-workload-identity).
const ACCOUNT_IDENTITIES: [(&str, &str); 3] = [
    (
        "eks.amazonaws.com/role-arn",
        "IAM roles for service accounts",
    ),
    (
        "iam.gke.io/gcp-service-account",
        "Google's workload identity",
    ),
    (
        "azure.workload.identity/client-id",
        "Azure's workload identity",
    ),
];

/// What the audience of a token begins with that a cloud takes for an identity.
const TOKEN_IDENTITIES: [(&str, &str); 5] = [
    ("sts.amazonaws.com", "IAM roles for service accounts"),
    ("pods.eks.amazonaws.com", "EKS Pod Identity"),
    ("api://AzureADTokenExchange", "Azure's workload identity"),
    ("//iam.googleapis.com/", "Google's workload identity"),
    ("https://iam.googleapis.com/", "Google's workload identity"),
];

/// What the API server's own audience begins with, unless it is told otherwise (`--api-audiences`).
const API_SERVER: &str = "https://kubernetes.default.svc";

/// Variables by which SDKs find keys or a role before they ask our agent.
const KEY_VARIABLES: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_ROLE_ARN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
];

/// Where a node keeps the tokens and volumes of all its pods, and where its container runtimes answer.
const OF_ALL_PODS: [&str; 5] = [
    "/var/lib/kubelet",
    "/run/containerd",
    "/run/docker.sock",
    "/run/crio",
    "/proc",
];

/// The init container by which Zero to JupyterHub keeps a pod from the metadata service
/// (`singleuser.cloudMetadata.blockWithIptables`).
const BLOCKS_METADATA: &str = "block-cloud-metadata";

/// Of a pod's spec, what decides which bypasses its user has. No value of a variable is read.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeenPod {
    service_account_name: String,
    host_network: bool,
    #[serde(rename = "hostPID")]
    host_pid: bool,
    containers: Vec<SeenContainer>,
    init_containers: Vec<SeenContainer>,
    volumes: Vec<SeenVolume>,
    affinity: SeenAffinity,
    /// Labels of the nodes that it may run on.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that it puts up with, as they are in the pod.
    pub tolerations: Vec<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SeenAffinity {
    node_affinity: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SeenContainer {
    name: String,
    env: Vec<SeenVariable>,
    security_context: SeenSecurityContext,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct SeenSecurityContext {
    privileged: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct SeenVariable {
    name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SeenVolume {
    name: String,
    projected: Option<SeenProjection>,
    host_path: Option<SeenHostPath>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct SeenHostPath {
    path: String,
}

impl SeenHostPath {
    /// Whether what all pods have on the node is in it, or it is a part of that.
    fn reaches_all_pods(&self) -> bool {
        // As on every node with systemd.
        let path = Path::new(&self.path);
        let path = match path.strip_prefix("/var/run") {
            Ok(rest) => Path::new("/run").join(rest),
            Err(_) => path.to_owned(),
        };
        let of_all = OF_ALL_PODS.map(Path::new);
        let mut of_all = of_all.iter();
        of_all.any(|of_all| of_all.starts_with(&path) || path.starts_with(of_all))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct SeenProjection {
    sources: Vec<SeenSource>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SeenSource {
    service_account_token: Option<SeenToken>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct SeenToken {
    /// Absent: the API server itself.
    audience: Option<String>,
}

impl SeenPod {
    /// The service account that it runs as.
    pub fn account(&self) -> &str {
        match self.service_account_name.as_str() {
            "" => "default",
            name => name,
        }
    }

    /// Which nodes it wants, as it is in the pod.
    pub fn node_affinity(&self) -> Option<&Value> {
        self.affinity.node_affinity.as_ref()
    }

    /// Whether its user has a token by which the API server knows the service account.
    pub fn has_api_token(&self) -> bool {
        let is_api_servers = |audience: &str| audience.starts_with(API_SERVER);
        let mut tokens = self.tokens();
        tokens.any(|token| token.audience.as_deref().is_none_or(is_api_servers))
    }

    /// Whether it keeps itself from the metadata service.
    pub fn blocks_metadata_service(&self) -> bool {
        let mut containers = self.init_containers.iter();
        containers.any(|container| container.name == BLOCKS_METADATA)
    }

    /// What it has by its own spec.
    pub fn bypasses(&self) -> BTreeSet<Bypass> {
        let tokens = self.tokens().filter_map(|token| {
            let audience = token.audience.as_deref()?;
            let known = |(beginning, _): &&(&str, &str)| audience.starts_with(beginning);
            let (_, identity) = TOKEN_IDENTITIES.iter().find(known)?;
            Some(Bypass::Token { identity })
        });
        let variables = self.containers.iter().flat_map(|container| {
            let names = container.env.iter().map(|variable| &variable.name);
            let keys = names.filter(|name| KEY_VARIABLES.contains(&name.as_str()));
            keys.map(|variable| Bypass::Variable {
                container: container.name.clone(),
                variable: variable.clone(),
            })
        });
        let host = self.host_network.then_some(Bypass::HostNetwork);
        let all = tokens.chain(variables).chain(host);
        all.chain(self.ways_to_the_node()).collect()
    }

    /// What the user's code may do on the node. Init containers are none of it: they end before it runs.
    fn ways_to_the_node(&self) -> impl Iterator<Item = Bypass> {
        let privileged = self.containers.iter();
        let privileged = privileged.filter(|container| container.security_context.privileged);
        let privileged =
            privileged.map(|container| format!("privileged container {}", container.name));
        let paths = self.volumes.iter().filter_map(|volume| {
            let path = volume.host_path.as_ref()?;
            let words = format!("volume {}, hostPath {}", volume.name, path.path);
            path.reaches_all_pods().then_some(words)
        });
        let processes = self.host_pid.then(|| "hostPID".to_owned());
        let ways = privileged.chain(paths).chain(processes);
        ways.map(|by| Bypass::Node { by })
    }

    fn tokens(&self) -> impl Iterator<Item = &SeenToken> {
        let projected = self.volumes.iter().flat_map(|volume| &volume.projected);
        let sources = projected.flat_map(|projection| &projection.sources);
        sources.flat_map(|source| &source.service_account_token)
    }
}

/// One bypass. Pods are not named: they come and go, and what is told stays while nothing of it changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bypass {
    /// The service account stands for an identity of a cloud.
    Account {
        /// Name of the account.
        account: String,
        /// The annotation that says so.
        annotation: &'static str,
        /// What it is called there.
        identity: &'static str,
    },
    /// Pods have a token that a cloud takes for an identity.
    Token {
        /// What it is called there.
        identity: &'static str,
    },
    /// Pods have keys or a role in their environment.
    Variable {
        /// Name of the container.
        container: String,
        /// Name of the variable.
        variable: String,
    },
    /// Pods have a token of a service account that may do what leads to others' data.
    Rights {
        /// Name of the account.
        account: String,
        /// What it may do, in the words of `hubstorage audit`.
        rights: Vec<&'static str>,
    },
    /// Pods are in the network of their node.
    HostNetwork,
    /// Pods reach what their node has of other pods.
    Node {
        /// By what of their spec.
        by: String,
    },
}

impl Bypass {
    /// What `annotations` of service account `account` say of it.
    pub fn of_account(
        account: &str,
        annotations: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = Self> {
        let there = ACCOUNT_IDENTITIES
            .iter()
            .filter(|(annotation, _)| annotations.contains_key(*annotation));
        there.map(|(annotation, identity)| Self::Account {
            account: account.to_owned(),
            annotation,
            identity,
        })
    }

    /// Whether pods have it by their own specs, so that it is gone with them.
    pub fn is_of_pods(&self) -> bool {
        match self {
            Self::Token { .. } | Self::Variable { .. } | Self::HostNetwork | Self::Node { .. } => {
                true
            }
            Self::Account { .. } | Self::Rights { .. } => false,
        }
    }

    /// The reason that `IsolationReady` gives.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Account { .. } | Self::Token { .. } | Self::Variable { .. } => {
                Reason::CloudIdentityOnPods
            }
            Self::Rights { .. } => Reason::ServiceAccountPrivileged,
            Self::HostNetwork => Reason::MetadataServiceReachable,
            Self::Node { .. } => Reason::NodeReachable,
        }
    }
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account {
                account,
                annotation,
                identity,
            } => write!(
                f,
                "service account {account} of users' pods has annotation {annotation} ({identity})"
            ),
            Self::Token { identity } => {
                write!(f, "users' pods have a token for {identity}")
            }
            Self::Variable {
                container,
                variable,
            } => write!(
                f,
                "container {container} of users' pods has the variable {variable}, which SDKs prefer to what is vended"
            ),
            Self::Rights { account, rights } => write!(
                f,
                "users' pods have a token of service account {account}, which may {}",
                rights.join(", ")
            ),
            Self::HostNetwork => f.write_str(
                "users' pods are in the network of their node (hostNetwork), and reach what the node reaches",
            ),
            Self::Node { by } => write!(
                f,
                "users' pods reach their node ({by}), and with it the tokens of other users' pods there"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: Value) -> SeenPod {
        serde_json::from_value(spec).unwrap()
    }

    fn token(audience: Value) -> SeenPod {
        let token = json!({"serviceAccountToken": {"audience": audience, "path": "token"}});
        pod(json!({"volumes": [
            {"name": "home", "persistentVolumeClaim": {"claimName": "home"}},
            {"name": "token", "projected": {"sources": [{"configMap": {"name": "ca"}}, token]}},
        ]}))
    }

    #[test]
    fn a_pod_with_our_token_alone_has_no_bypass() {
        let ours = token(json!(crate::api::AUDIENCE));
        assert_eq!(ours.bypasses(), BTreeSet::new());
        assert!(!ours.has_api_token());
        assert_eq!(token(json!("vault")).bypasses(), BTreeSet::new());
    }

    #[test]
    fn a_token_that_a_cloud_takes_is_a_bypass() {
        for (audience, identity) in [
            ("sts.amazonaws.com", "IAM roles"),
            ("sts.amazonaws.com.cn", "IAM roles"),
            ("pods.eks.amazonaws.com", "EKS Pod Identity"),
            ("api://AzureADTokenExchange", "Azure"),
            (
                "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
                "Google",
            ),
        ] {
            let found = token(json!(audience)).bypasses();
            let told = found.first().unwrap();
            assert!(told.to_string().contains(identity), "{audience}: {told}");
            assert_eq!(told.reason(), Reason::CloudIdentityOnPods);
        }
    }

    #[test]
    fn a_token_without_an_audience_is_the_api_servers() {
        assert!(token(Value::Null).has_api_token());
        assert!(token(json!("https://kubernetes.default.svc.cluster.local")).has_api_token());
        assert_eq!(token(Value::Null).bypasses(), BTreeSet::new());
    }

    #[test]
    fn keys_in_the_environment_are_told_by_name_and_never_by_value() {
        let found = pod(json!({
            "containers": [
                {"name": "notebook", "env": [{"name": "HOME", "value": "/"}, {"name": "AWS_ACCESS_KEY_ID", "value": "AKIA"}]},
                {"name": "proxy", "env": [{"name": "AWS_ROLE_ARN", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]},
            ],
            "initContainers": [{"name": "clone", "env": [{"name": "AWS_ACCESS_KEY_ID", "value": "AKIA"}]}],
        }))
        .bypasses();
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{told:?}");
        assert!(told[0].contains("notebook") && told[0].contains("AWS_ACCESS_KEY_ID"));
        assert!(told[1].contains("proxy") && told[1].contains("AWS_ROLE_ARN"));
        assert!(!told.concat().contains("AKIA"));
    }

    #[test]
    fn a_pod_in_the_network_of_its_node_reaches_what_the_node_reaches() {
        let found = pod(json!({"hostNetwork": true})).bypasses();
        assert_eq!(found, BTreeSet::from([Bypass::HostNetwork]));
        assert_eq!(
            Bypass::HostNetwork.reason(),
            Reason::MetadataServiceReachable
        );
    }

    #[test]
    fn a_pod_that_reaches_its_node_reaches_the_tokens_of_others() {
        for (spec, by) in [
            (
                json!({"containers": [{"name": "dind", "securityContext": {"privileged": true}}]}),
                "container dind",
            ),
            (json!({"hostPID": true}), "hostPID"),
            (host_path("/"), "hostPath /"),
            (host_path("/var/lib"), "hostPath /var/lib"),
            (host_path("/var/lib/kubelet/pods"), "kubelet"),
            (host_path("/var/run/docker.sock"), "docker.sock"),
            (host_path("/run/containerd/containerd.sock"), "containerd"),
        ] {
            let found = pod(spec).bypasses();
            let [bypass] = &*found.into_iter().collect::<Vec<_>>() else {
                panic!("one, by {by}");
            };
            assert_eq!(bypass.reason(), Reason::NodeReachable);
            assert!(bypass.is_of_pods());
            assert!(bypass.to_string().contains(by), "{bypass}");
        }
        for harmless in [
            json!({"containers": [{"name": "notebook", "securityContext": {"privileged": false}}]}),
            json!({"initContainers": [{"name": "block-cloud-metadata", "securityContext": {"privileged": true}}]}),
            host_path("/mnt/shared"),
            host_path("/var/lib/kubelet-data"),
            host_path("/run/user"),
        ] {
            assert_eq!(
                pod(harmless.clone()).bypasses(),
                BTreeSet::new(),
                "{harmless}"
            );
        }
    }

    fn host_path(path: &str) -> Value {
        json!({"volumes": [{"name": "data", "hostPath": {"path": path}}]})
    }

    #[test]
    fn a_service_account_stands_for_an_identity_by_its_annotations() {
        let annotations = |keys: &[&str]| {
            let entries = keys
                .iter()
                .map(|key| ((*key).to_owned(), "value".to_owned()));
            entries.collect::<BTreeMap<_, _>>()
        };
        let all = ACCOUNT_IDENTITIES.map(|(annotation, _)| annotation);
        let found: Vec<Bypass> = Bypass::of_account("users", &annotations(&all)).collect();
        assert_eq!(found.len(), 3);
        for (bypass, annotation) in found.iter().zip(all) {
            let told = bypass.to_string();
            assert!(
                told.contains("users") && told.contains(annotation),
                "{told}"
            );
        }
        let harmless = annotations(&["eks.amazonaws.com/audience", "example.org/x"]);
        assert_eq!(Bypass::of_account("users", &harmless).count(), 0);
    }

    #[test]
    fn a_pod_that_names_no_account_runs_as_the_default_one() {
        assert_eq!(pod(json!({})).account(), "default");
        let named = pod(json!({"serviceAccountName": "users"}));
        assert_eq!(named.account(), "users");
    }

    #[test]
    fn zero_to_jupyterhubs_init_container_blocks_the_metadata_service() {
        let blocks =
            |name| pod(json!({"initContainers": [{"name": name}]})).blocks_metadata_service();
        assert!(blocks("block-cloud-metadata"));
        assert!(!blocks("clone"));
    }
}
