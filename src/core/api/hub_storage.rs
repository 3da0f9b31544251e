//! `HubStorage`: one hub's storage intent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NameReference;
use super::bucket::Bucket;
use super::env::DeclaredVariable;
use super::github::GitHub;
use super::home::Home;
use super::hub_status::HubStorageStatus;
use super::shared::{PodPolicy, SharedFolder};
use crate::names::{BucketName, Prefix, PrefixScheme};
use crate::policies::{PolicyDocument, PolicyError};

/// One hub's storage: its buckets, who reaches what in them, and what its users' pods are given.
/// One per namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hubstorage.io",
    version = "v1alpha1",
    kind = "HubStorage",
    plural = "hubstorages",
    shortname = "hs",
    category = "hubstorage",
    namespaced,
    status = "HubStorageStatus",
    derive = "PartialEq",
    doc = "HubStorage is the storage of one JupyterHub: buckets, access and what user pods are given.",
    selectable = ".spec.providerRef.name",
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a HubStorage may have at most 63 characters: it goes into bucket tags"),
    validation = Rule::new("self.spec.providerRef == oldSelf.spec.providerRef || !has(oldSelf.status) || ((!has(oldSelf.status.buckets) || oldSelf.status.buckets.size() == 0) && !has(oldSelf.status.role))")
        .message("spec.providerRef is immutable once a bucket or a role is there or begun: data does not move by itself; make a new HubStorage in another namespace"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.buckets) || self.spec.buckets.all(b, !oldSelf.status.buckets.exists(known, known.name == b.name && !has(known.creation)) || oldSelf.spec.buckets.all(o, o.name != b.name || (has(o.bucketName) == has(b.bucketName) && (!has(b.bucketName) || o.bucketName == b.bucketName))))")
        .message("spec.buckets[].bucketName is immutable once there is a bucket: data does not move by itself; add a second bucket, copy, then remove this one"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(
        name = "Buckets",
        type_ = "string",
        json_path = ".status.bucketsReady"
    ),
    printcolumn(name = "Users", type_ = "integer", json_path = ".status.users"),
    printcolumn(name = "Isolated", type_ = "string", json_path = ".status.conditions[?(@.type=='IsolationReady')].status"),
    printcolumn(name = "Isolation", type_ = "string", json_path = ".status.conditions[?(@.type=='IsolationReady')].reason"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.providerRef.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Homes",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='HomesWithinLimit')].status",
        priority = 1
    ),
    printcolumn(
        name = "Room",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='HomesHaveRoom')].status",
        priority = 1
    ),
    printcolumn(
        name = "Mounts",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='MountsReady')].status",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.buckets.all(b, !has(b.env) || b.env.all(e, self.buckets.filter(other, has(other.env) && other.env.exists(f, f.name == e.name)).size() == 1))")
    .message("the same env name stands in two buckets: a variable can hold one location; rename one of them"))]
#[x_kube(validation = Rule::new("self.buckets.all(b, !has(b.bucketName) || self.buckets.filter(other, has(other.bucketName) && other.bucketName == b.bucketName).size() == 1)")
    .message("the same bucketName stands in two of spec.buckets: give each a bucket of its own"))]
#[x_kube(validation = Rule::new("!has(self.env) || self.env.all(e, self.buckets.all(b, !has(b.env) || !b.env.exists(f, f.name == e.name)))")
    .message("the same name stands in spec.env and in the env of a bucket: a variable can hold one value; rename one of them"))]
#[x_kube(validation = Rule::new("!has(self.github) || ((!has(self.env) || !self.env.exists(e, e.name in ['GH_SCOPED_CREDS_CLIENT_ID', 'GH_SCOPED_CREDS_APP_URL'])) && !self.buckets.exists(b, has(b.env) && b.env.exists(e, e.name in ['GH_SCOPED_CREDS_CLIENT_ID', 'GH_SCOPED_CREDS_APP_URL'])))")
    .message("spec.github gives GH_SCOPED_CREDS_CLIENT_ID and GH_SCOPED_CREDS_APP_URL: take them out of env, or leave github out"))]
pub struct HubStorageSpec {
    /// The StorageProvider that the buckets are at. Immutable once there is one: data does not move
    /// by itself.
    pub provider_ref: NameReference,

    /// Enforce: the store is made what is declared, and kept so. Observe: what would be done is
    /// written to status.plan, and nothing is done. Paused: nothing is looked at and nothing is
    /// done; user pods go on as before, and deleting the HubStorage still works.
    #[serde(default)]
    pub mode: Mode,

    /// Who the hub's users are, and how their names become key prefixes.
    #[serde(default)]
    pub users: Users,

    /// The hub's buckets.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub buckets: Vec<Bucket>,

    /// Further variables of user pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<DeclaredVariable>,

    /// The GitHub App through which users push: gh-scoped-creds finds it in their pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHub>,

    /// Home directories, and how large they may be. Not set: nobody looks at them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Home>,

    /// Folders that users share, such as ~/shared: mounted into their pods, to read or to write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(a, self.all(b, a.name == b.name || [a.mountPath, a.?writers.?mountPath.orValue(a.mountPath)].all(p, [b.mountPath, b.?writers.?mountPath.orValue(b.mountPath)].all(q, !(p + '/').startsWith(q + '/')))))")
        .message("two folders are mounted at the same path, or one within the other: give each a path of its own"))]
    #[x_kube(validation = Rule::new("self.all(f, !has(f.writers) || !has(f.writers.mountPath) || (!(f.mountPath + '/').startsWith(f.writers.mountPath + '/') && !(f.writers.mountPath + '/').startsWith(f.mountPath + '/')))")
        .message("writers.mountPath is mountPath, or one is within the other: give writers a path of their own, or leave writers.mountPath out, and they write at mountPath"))]
    #[x_kube(validation = Rule::new("self.all(a, self.all(b, a.name == b.name || a.claimName != b.claimName || (has(a.subPath) && has(b.subPath) && !(a.subPath + '/').startsWith(b.subPath + '/'))))")
        .message("two folders are the same directory of one claim, or one is within the other, so that nobody could say who writes to it: give each a subPath of its own"))]
    pub shared: Vec<SharedFolder>,

    /// What becomes of user pods that do not keep to what is declared.
    #[serde(default)]
    pub policy: PodPolicy,
}

impl HubStorageSpec {
    /// A session policy as long as that of any user of the hub gets, where `in_store` tells the names that
    /// its buckets have in the store; buckets of which it tells none do not count.
    ///
    /// # Errors
    /// [`PolicyError::MayBeTooLong`] if it does not fit.
    pub fn policy_of_longest_user(
        &self,
        in_store: impl Fn(&Bucket) -> Option<BucketName>,
    ) -> Result<Option<PolicyDocument>, PolicyError> {
        let named = self.buckets.iter();
        let named = named.filter_map(|bucket| Some((bucket, in_store(bucket)?)));
        PolicyDocument::of_longest_user(|longest: &Prefix| {
            named
                .map(|(bucket, name)| bucket.granted(&name, longest))
                .collect()
        })
    }

    /// By how many characters that policy is shorter without one of the buckets: the names of those that make
    /// it longest, first of all.
    pub fn longest_in_policy(
        &self,
        in_store: impl Fn(&Bucket) -> Option<BucketName>,
    ) -> Vec<(&str, usize)> {
        let length = |without: Option<&Bucket>| {
            let others = |bucket: &Bucket| match without {
                Some(without) if without.name == bucket.name => None,
                _ => in_store(bucket),
            };
            match self.policy_of_longest_user(others) {
                Ok(policy) => policy.map_or(0, |policy| policy.as_str().len()),
                Err(PolicyError::MayBeTooLong(length) | PolicyError::TooLong(length)) => length,
                Err(PolicyError::Empty) => 0,
            }
        };
        let whole = length(None);
        let shorter = |bucket| whole.saturating_sub(length(Some(bucket)));
        let buckets = self.buckets.iter();
        let mut longest: Vec<(&str, usize)> = buckets
            .map(|bucket| (bucket.name.as_str(), shorter(bucket)))
            .collect();
        longest.sort_by_key(|(_, shorter)| std::cmp::Reverse(*shorter));
        longest
    }
}

/// What is done about a difference between what is declared and what is there.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It is put right.
    #[default]
    Enforce,
    /// It is told.
    Observe,
    /// Nobody looks.
    Paused,
}

/// Who the hub's users are.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Users {
    /// Escaped: ordinary names as they are, all others made safe; for every new hub. Raw: all
    /// names as they are, for hubs with data under such prefixes; unsafe names get no access.
    /// Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("prefixScheme is immutable: users would lose sight of their data"))]
    pub prefix_scheme: PrefixScheme,

    /// Which pods are users' pods, and whose word is taken for it. Default: notebook servers
    /// that the service account `hub` makes.
    #[serde(default = "default_sources")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(s, !has(s.dependsOn) || self.exists(o, o.name == s.dependsOn.name && !has(o.dependsOn)))")
        .message("dependsOn names another of spec.users.sources, one that depends on none itself"))]
    pub sources: Vec<Source>,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            prefix_scheme: PrefixScheme::default(),
            sources: default_sources(),
        }
    }
}

fn default_sources() -> Vec<Source> {
    // `component` stands on notebook pods of every Zero to JupyterHub version; newer labels do not.
    let labels = [("component".to_owned(), "singleuser-server".to_owned())];
    vec![Source {
        name: "notebook".to_owned(),
        pod_selector: LabelSelector {
            match_labels: Some(labels.into()),
            match_expressions: None,
        },
        creators: vec![Creator {
            service_account: NameReference {
                name: "hub".to_owned(),
            },
        }],
        container: None,
        depends_on: None,
    }]
}

/// One kind of user pod.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Name of this source.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// Labels of these pods. Beside them each has the label hub.jupyter.org/username, by which pods are
    /// found: KubeSpawner sets it, and whatever else makes pods for users has to.
    pub pod_selector: LabelSelector,
    /// Accounts whose word is taken for the username on a pod: pods that anybody else made are
    /// given nothing.
    #[schemars(length(min = 1, max = 8))]
    pub creators: Vec<Creator>,
    /// The container that runs the user's code: it alone is given variables and a token. Default:
    /// the one named notebook, or else the first. On a single pod the annotation
    /// hubstorage.io/container, with the container's name, goes before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<UserContainer>,
    /// Another source: pods of this one get credentials only while the same user has a running pod of that
    /// one, and are in a group only if that pod is, too. For what users start from a server and what may
    /// outlive it: the pods of Dask Gateway. Not set: these pods stand for themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<NameReference>,
}

/// A container of a pod, by its name or by its place.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) != has(self.index)")
    .message("exactly one of name and index says which container runs the user's code"))]
pub struct UserContainer {
    /// Name of the container. A pod that has none of this name is given nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Its place among the pod's containers, from 0; init containers do not count. Webhooks that
    /// add a sidecar may move it: prefer the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 99), with = "Option<i32>")]
    pub index: Option<u8>,
}

/// An account that creates user pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Creator {
    /// A service account of the hub's namespace.
    pub service_account: NameReference,
}

impl Creator {
    /// The name by which the API server knows this account, as it stands in the stamp.
    pub fn username(&self, namespace: &str) -> String {
        format!(
            "system:serviceaccount:{namespace}:{}",
            self.service_account.name
        )
    }
}
