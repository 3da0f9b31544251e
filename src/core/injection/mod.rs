//! What a user pod is given when it is admitted.
//!
//! The answer is a JSON patch of minimal operations on the pod as it was sent, of which only what
//! decides is read: a pod that is read and written again would lose the fields that this build does
//! not know. Nothing is added that the kubelet has to pull or wait for, so that a pod starts the
//! same with or without us. Applied twice, it changes nothing the second time.

mod container;
mod declared;
mod missed;
mod patch;
mod pod;
mod shared;
mod user_pods;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::{
    Addressing, Bucket, DeclaredVariable, EnvFormat, GROUPS_ANNOTATION, GitHub, HubStorage,
    OnConflict, S3Provider, STAMP_ANNOTATION, USERNAME_ANNOTATION, USERNAME_LABEL,
};
use crate::names::{BucketName, Groups, Prefix, PrefixScheme, Username};
use patch::{ContainerPatch, PodPatch};
use pod::EnvEntry;
use shared::Mountable;

pub use json_patch::Patch;
pub use missed::{is_missed, is_stamped};
pub use pod::SentPod;
pub use user_pods::{DASK_KUBERNETES_LABEL, InvalidSelector, UserPods, WrittenByUser};

/// Where the token is mounted in a user's container.
pub const TOKEN_MOUNT_PATH: &str = "/var/run/secrets/hubstorage.io/serviceaccount";

/// Name of the volume that holds the token; the guard lets no ephemeral container mount it.
pub const TOKEN_VOLUME: &str = "hubstorage-token";

/// File name of the token in its volume.
pub const TOKEN_FILE: &str = "token";

/// Lifetime that is asked for; the kubelet renews a projected token after 80 % of it.
pub const TOKEN_SECONDS: u64 = 3600;

/// Where the agent answers on every node, unless it was told to listen elsewhere.
pub const AGENT_URL: &str = "http://169.254.170.23:8180/v1/credentials";

/// What the pods of one hub are given; made once for each change of a HubStorage.
#[derive(Debug, Clone)]
pub struct HubInjection {
    namespace: String,
    hub: String,
    generation: i64,
    scheme: PrefixScheme,
    sources: Vec<UserPods>,
    /// Those that exist, with their names in the store.
    buckets: Vec<(Bucket, BucketName)>,
    settings: Vec<(&'static str, String)>,
    /// What the spec declares beside.
    env: Vec<DeclaredVariable>,
    github: Option<GitHub>,
    /// Folders that are there to be mounted.
    shared: Vec<Mountable>,
    /// Where credentials are fetched; nowhere, if none are vended.
    agent: Option<String>,
}

impl HubInjection {
    /// What pods of `hub` are given, with its buckets under the names in the store, and those of its shared folders
    /// that its status tells to be there. They fetch
    /// credentials at `agent`, by default [`AGENT_URL`].
    ///
    /// # Errors
    /// [`InvalidSelector`] names the source whose selector has an unknown operator.
    pub fn new(
        hub: &HubStorage,
        buckets: &[(Bucket, BucketName)],
        provider: &S3Provider,
        agent: &str,
    ) -> Result<Self, InvalidSelector> {
        Ok(Self {
            buckets: buckets.to_vec(),
            settings: sdk_settings(provider),
            env: hub.spec.env.clone(),
            github: hub.spec.github.clone(),
            agent: provider.vending.as_ref().map(|_| agent.to_owned()),
            ..Self::without_store(hub)?
        })
    }

    /// What pods of `hub` are given where nothing is known of its store: the shared folders that are there. `None`, if
    /// there is none.
    ///
    /// # Errors
    /// [`InvalidSelector`] names the source whose selector has an unknown operator.
    pub fn of_folders(hub: &HubStorage) -> Result<Option<Self>, InvalidSelector> {
        let folders = Self::without_store(hub)?;
        Ok((!folders.shared.is_empty()).then_some(folders))
    }

    fn without_store(hub: &HubStorage) -> Result<Self, InvalidSelector> {
        let namespace = hub.metadata.namespace.clone().unwrap_or_default();
        Ok(Self {
            sources: UserPods::of(hub, &namespace)?,
            namespace,
            hub: hub.metadata.name.clone().unwrap_or_default(),
            generation: hub.metadata.generation.unwrap_or_default(),
            scheme: hub.spec.users.prefix_scheme,
            buckets: Vec::new(),
            settings: Vec::new(),
            env: Vec::new(),
            github: None,
            shared: Mountable::of(hub),
            agent: None,
        })
    }

    /// The namespace whose pods this is for.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// What every SDK needs to know of the store.
fn sdk_settings(provider: &S3Provider) -> Vec<(&'static str, String)> {
    // The AWS SDKs read AWS_REGION, botocore only AWS_DEFAULT_REGION.
    let mut settings = vec![
        ("AWS_REGION", provider.region.clone()),
        ("AWS_DEFAULT_REGION", provider.region.clone()),
    ];
    if let Some(endpoint) = &provider.endpoint {
        settings.push(("AWS_ENDPOINT_URL_S3", endpoint.clone()));
        // GDAL (rasterio, rioxarray) has names of its own for where the store is: seen with 3.10.
        let (_, authority) = endpoint.split_once("://").unwrap_or(("", endpoint));
        let authority = authority.trim_end_matches('/').to_owned();
        settings.push(("AWS_S3_ENDPOINT", authority));
        if provider.addressing == Addressing::Path {
            settings.push(("AWS_VIRTUAL_HOSTING", "FALSE".to_owned()));
        }
        if !provider.has_tls() {
            settings.push(("AWS_HTTPS", "NO".to_owned()));
            // object_store (obstore, polars, deltalake) speaks to no store without TLS unless it is told to.
            settings.push(("AWS_ALLOW_HTTP", "true".to_owned()));
        }
        // Since January 2025 SDKs add checksum trailers that older compatible stores reject.
        settings.push((
            "AWS_REQUEST_CHECKSUM_CALCULATION",
            "when_required".to_owned(),
        ));
        settings.push((
            "AWS_RESPONSE_CHECKSUM_VALIDATION",
            "when_required".to_owned(),
        ));
    }
    settings
}

/// What was decided about a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It carries no username: not ours to touch.
    NotAUser,
    /// It is stamped and given nothing, for this reason.
    StampedOnly(String),
    /// It is stamped and given what the hub declares.
    Injected(Report),
}

/// What an injected pod was given, for its annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Name of the HubStorage.
    pub hub: String,
    /// Generation of the HubStorage.
    pub generation: i64,
    /// Variables that the pod already had with another value, and kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// Mount paths of shared folders at which the pod is left as it is: it has something else mounted there, or
    /// somewhere that a mount there would hide or could not be made in.
    #[serde(rename = "keptMounts", skip_serializing_if = "Vec::is_empty")]
    pub kept_mounts: Vec<String>,
}

/// A decision and the patch that carries it out.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    /// What was decided.
    pub decision: Decision,
    /// What to change; empty where nothing is.
    pub patch: Patch,
}

/// Decides about a pod that `creator` asks the API server to create.
///
/// `hub` is the namespace's, `None` if it has none that could be injected.
pub fn admit(pod: SentPod<'_>, creator: &str, hub: Option<&HubInjection>) -> Admission {
    let username = pod.annotation(USERNAME_ANNOTATION);
    let no_labels = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&no_labels);
    if username.is_none() && !labels.contains_key(USERNAME_LABEL) {
        return Admission {
            decision: Decision::NotAUser,
            patch: Patch::default(),
        };
    }

    let groups = pod.annotation(GROUPS_ANNOTATION);
    let served = recognise(username, groups, labels, creator, hub).and_then(|user| {
        if pod.has_volume_in_place_of_the_token() {
            return Err(format!(
                "it has a volume {TOKEN_VOLUME} that is not the token: rename that volume"
            ));
        }
        let source = user.source;
        let index = container::of_user(&pod, source.name(), source.container())?;
        Ok((user, index))
    });

    let mut patch = PodPatch::new(pod);
    patch.annotate(STAMP_ANNOTATION, creator);
    let decision = served
        .and_then(|(user, index)| {
            let mut container = patch.container(index).ok_or("it has no containers")?;
            Ok(Decision::Injected(user.hub.inject(&mut container, &user)))
        })
        .unwrap_or_else(Decision::StampedOnly);
    if let Decision::Injected(report) = &decision {
        patch.annotate(
            crate::api::INJECTED_ANNOTATION,
            &serde_json::to_string(report).unwrap_or_default(),
        );
    }
    Admission {
        decision,
        patch: patch.finish(),
    }
}

/// A user of a hub, as a pod of theirs shows it.
struct Recognised<'h> {
    hub: &'h HubInjection,
    source: &'h UserPods,
    name: Username,
    prefix: Prefix,
    groups: Groups,
    /// The annotation that `groups` were read from; empty where there is none.
    groups_as_written: String,
}

fn recognise<'h>(
    username: Option<&str>,
    groups: Option<&str>,
    labels: &BTreeMap<String, String>,
    creator: &str,
    hub: Option<&'h HubInjection>,
) -> Result<Recognised<'h>, String> {
    let hub = hub.ok_or(
        "this namespace has no HubStorage whose buckets exist; \
         `kubectl get hs` in it says why, or that there is none",
    )?;
    let name = username.ok_or_else(|| {
        format!("the pod has no annotation {USERNAME_ANNOTATION}, so nobody knows whose it is; KubeSpawner sets it")
    })?;
    let user = Username::parse(name)
        .map_err(|error| format!("annotation {USERNAME_ANNOTATION}: {error}"))?;
    WrittenByUser::refuse(labels).map_err(|refused| refused.to_string())?;
    let selecting = hub.sources.iter().find(|source| source.selects(labels));
    let selecting = selecting.ok_or_else(|| {
        format!(
            "its labels match no source of HubStorage {} (spec.users.sources), or {USERNAME_LABEL} is not among them",
            hub.hub
        )
    })?;
    let source = UserPods::trusting(&hub.sources, labels, creator).ok_or_else(|| {
        format!(
            "it was created by {creator}, which is not among spec.users.sources[{}].creators of HubStorage {}",
            selecting.name(), hub.hub
        )
    })?;
    let prefix = Prefix::of(&user, hub.scheme).map_err(|error| error.to_string())?;
    let groups_as_written = groups.unwrap_or_default().to_owned();
    let groups = Groups::parse(groups)
        .map_err(|error| format!("annotation {GROUPS_ANNOTATION}: {error}"))?;
    Ok(Recognised {
        hub,
        source,
        name: user,
        prefix,
        groups,
        groups_as_written,
    })
}

impl HubInjection {
    fn inject(&self, container: &mut ContainerPatch<'_, '_>, user: &Recognised<'_>) -> Report {
        let mut kept = Vec::new();
        for (variable, on_conflict) in self.variables(user) {
            let name = variable.name.as_str().to_owned();
            if !container.env(variable, on_conflict) {
                kept.push(name);
            }
        }
        if self.agent.is_some() {
            container.token_volume();
        }
        let mounts = self.shared.iter().flat_map(|folder| folder.mounts(user));
        let kept_mounts = mounts
            .filter(|mount| !container.claim_mount(mount))
            .map(|mount| mount.path.to_string())
            .collect();
        Report {
            hub: self.hub.clone(),
            generation: self.generation,
            kept,
            kept_mounts,
        }
    }

    /// All variables of a user, each of which may refer to those before it.
    fn variables(&self, user: &Recognised<'_>) -> Vec<(EnvEntry<'static>, OnConflict)> {
        let mut variables = Vec::new();
        for (bucket, name) in &self.buckets {
            let Some(place) = bucket.place(&user.prefix, |group| user.groups.have(group)) else {
                continue;
            };
            for variable in &bucket.env {
                let slash = match variable.format {
                    EnvFormat::URL => "",
                    EnvFormat::URLWithSlash => "/",
                };
                let url = format!("s3://{}{slash}", place.within(name));
                let ours = EnvEntry::literal(&variable.name, url);
                variables.push((ours, variable.on_conflict));
            }
        }
        let mut set = |name: &str, value: &str| {
            variables.push((EnvEntry::literal(name, value), OnConflict::Keep));
        };
        for (name, value) in &self.settings {
            set(name, value);
        }
        if let Some(agent) = &self.agent {
            set("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent);
            let file = format!("{TOKEN_MOUNT_PATH}/{TOKEN_FILE}");
            set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file);
        }
        for (name, value) in self.github.iter().flat_map(GitHub::variables) {
            set(name, value);
        }
        for variable in &self.env {
            variables.extend(declared::of_user(variable, user).zip(Some(variable.on_conflict)));
        }
        variables
    }
}
