//! What is put upon the operator: namespaces, hubs, users' pods; and how it is taken away again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use http::HeaderValue;
use hubstorage_e2e::progress::Step;
use hubstorage_e2e::{MinioUser, Platform, Python, ServiceAccount, wait};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount as Account};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::{GroupVersionKind, Request};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

/// Name of the provider, of the group that may make pods, and the first part of everything else's
/// name. It begins with `e2e-`: the store's two users reach no other buckets.
pub const NAME: &str = "e2e-bench";

/// Requests under way at once: as many as keep the API server of a small machine busy.
const AT_ONCE: usize = 16;

/// How often the store is compared with every hub: soon enough to be waited for.
const INTERVAL: &str = "60s";

/// How often a new hub is looked at until it is Ready: the resolution of what is measured.
const LOOKS_EVERY: Duration = Duration::from_millis(10);

/// Bounds a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is made.
#[derive(Clone)]
pub struct Load {
    client: Client,
    hubs: usize,
    pods: usize,
    samples: usize,
    endpoint: String,
    owner: Owner,
}

/// Who may do everything in the store.
#[derive(Clone)]
struct Owner {
    python: std::path::PathBuf,
    home: std::path::PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Load {
    /// So many hubs, with so many pods of all of them, and later twice so many new hubs.
    pub fn of(
        platform: &Platform,
        client: Client,
        hubs: usize,
        pods: usize,
        samples: usize,
    ) -> Result<Self> {
        let key = platform.minio_key(MinioUser::Root)?;
        let endpoint = platform.minio_endpoint()?;
        Ok(Self {
            client,
            hubs,
            pods,
            samples,
            owner: Owner {
                python: platform.python(),
                home: platform.checkout.run("minio"),
                variables: vec![
                    ("AWS_ACCESS_KEY_ID", key.id),
                    ("AWS_SECRET_ACCESS_KEY", key.secret),
                    ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
                    ("AWS_ENDPOINT_URL_S3", endpoint.clone()),
                ],
            },
            endpoint,
        })
    }

    /// The namespaces, those of the later hubs too, and what all share.
    pub async fn create_namespaces(&self, step: &Step) -> Result<()> {
        self.apply::<ClusterRole>(json!({
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}],
        }))
        .await?;
        self.apply::<ClusterRoleBinding>(json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": NAME}],
        }))
        .await?;
        let secret = |name| json!({"type": "Secret", "secretRef": {"name": name}});
        let provider = json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "StorageProvider",
            "metadata": {"name": NAME},
            "spec": {
                "namespaces": {"matchLabels": {"test": NAME}},
                "bucketNames": [format!("{NAME}-*")],
                "driftCheckInterval": INTERVAL,
                "s3": {
                    "region": "us-east-1",
                    "endpoint": self.endpoint,
                    "addressing": "Path",
                    "credentials": secret("minio-manage"),
                    "vending": {"credentials": secret("minio-vend")},
                },
            },
        });
        let providers = Api::all_with(self.client.clone(), &kind("StorageProvider"));
        let provider: DynamicObject = serde_json::from_value(provider)?;
        providers.create(&PostParams::default(), &provider).await?;

        let all = (0..self.hubs)
            .map(of_hub)
            .chain((0..2 * self.samples).map(of_sample));
        self.create_each_namespace(step, all.collect()).await
    }

    /// Namespaces, with what pods need to be admitted there.
    pub async fn create_each_namespace(&self, step: &Step, names: Vec<String>) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let awaited: BTreeSet<String> = names.iter().cloned().collect();
        each(step, names, async |name| {
            let namespace = json!({"metadata": {"name": name, "labels": {"test": NAME}}});
            let namespace = serde_json::from_value(namespace)?;
            namespaces
                .create(&PostParams::default(), &namespace)
                .await
                .with_context(|| format!("Namespace {name}"))?;
            Ok(())
        })
        .await?;
        // Without one no pod is admitted.
        let accounts: Api<Account> = Api::all(self.client.clone());
        let default = ListParams::default().fields("metadata.name=default");
        wait::until("every default service account", PATIENCE, async || {
            let accounts = accounts.list_metadata(&default).await?;
            let there: BTreeSet<String> =
                accounts.iter().filter_map(|one| one.namespace()).collect();
            Ok(awaited.is_subset(&there))
        })
        .await
    }

    /// One hub, whose users can have credentials.
    pub async fn create_vending_hub(&self, step: &Step) -> Result<()> {
        self.create_namespaces(step).await?;
        self.create_hubs(step).await?;
        let hubs = self.hubs_in(&of_hub(0));
        step.now("waiting until the store was probed");
        wait::until(
            "the hub to be Ready, and its store to be probed",
            PATIENCE,
            async || {
                let hub = hubs.get("hub").await?;
                let probed = hub.data["status"]["vending"]["buckets"].as_array();
                let is_isolated = |bucket: &Value| bucket["verdict"] == "Isolated";
                let probed = probed
                    .is_some_and(|probed| !probed.is_empty() && probed.iter().all(is_isolated));
                Ok(probed && is_ready(&hub))
            },
        )
        .await
    }

    /// The hubs, each with a bucket that expires and one that does not.
    pub async fn create_hubs(&self, step: &Step) -> Result<()> {
        each(step, (0..self.hubs).map(of_hub), async |namespace| {
            self.create_hub(&namespace).await
        })
        .await
    }

    async fn create_hub(&self, namespace: &str) -> Result<()> {
        let hub = json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
            "metadata": {"name": "hub", "namespace": namespace},
            "spec": {
                "providerRef": {"name": NAME},
                "buckets": [
                    {
                        "name": "scratch",
                        "lifecycle": {"expireAfterDays": 7},
                        "env": [{"name": "SCRATCH_BUCKET"}, {"name": "PANGEO_SCRATCH"}],
                    },
                    {"name": "persistent", "env": [{"name": "PERSISTENT_BUCKET"}]},
                ],
            },
        });
        let hub: DynamicObject = serde_json::from_value(hub)?;
        self.hubs_in(namespace)
            .create(&PostParams::default(), &hub)
            .await
            .with_context(|| format!("HubStorage {namespace}/hub"))?;
        Ok(())
    }

    /// The pods, spread over all hubs: made through the webhook by the account of their hub, with
    /// the labels and annotations that KubeSpawner gives them.
    pub async fn create_pods(&self, step: &Step) -> Result<()> {
        each(step, 0..self.pods, async |number| {
            let namespace = of_hub(number % self.hubs);
            self.create_pod(&namespace, &format!("user-{number}"))
                .await
                .with_context(|| format!("the pod of user-{number} in {namespace}"))
        })
        .await
    }

    async fn create_pod(&self, namespace: &str, user: &str) -> Result<()> {
        let request = request_of_hub(
            namespace,
            namespace,
            &user_pod(user),
            &PostParams::default(),
        )?;
        self.client.request::<Value>(request).await?;
        Ok(())
    }

    /// How many of the hubs are Ready in their present generation.
    pub async fn ready(&self) -> Result<usize> {
        let hubs: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind("HubStorage"));
        let hubs = hubs.list(&ListParams::default()).await?;
        let ready = hubs
            .iter()
            .filter(|hub| is_ours(&hub.namespace()) && is_ready(hub));
        Ok(ready.count())
    }

    /// How many users the operator knows.
    pub async fn users(&self) -> Result<usize> {
        let users: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind("HubUser"));
        let users = users.list_metadata(&ListParams::default()).await?;
        let ours = users.iter().filter(|user| is_ours(&user.namespace()));
        Ok(ours.count())
    }

    /// Makes a hub, and says how long it took to be Ready.
    pub async fn ready_after(&self, sample: usize) -> Result<Duration> {
        let namespace = of_sample(sample);
        let began = Instant::now();
        self.create_hub(&namespace).await?;
        let hubs = self.hubs_in(&namespace);
        while !is_ready(&hubs.get("hub").await?) {
            if began.elapsed() > PATIENCE {
                anyhow::bail!("HubStorage {namespace}/hub is not Ready after {PATIENCE:?}");
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
        Ok(began.elapsed())
    }

    /// Changes the provider, which makes a check due of every hub.
    pub async fn make_all_due(&self) -> Result<()> {
        let providers: Api<DynamicObject> =
            Api::all_with(self.client.clone(), &kind("StorageProvider"));
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let touched = json!({"metadata": {"annotations": {"touched": now}}});
        providers
            .patch(NAME, &PatchParams::default(), &Patch::Merge(touched))
            .await?;
        Ok(())
    }

    /// Deletes everything, of an earlier run too, and waits until it is gone.
    pub async fn delete(&self, step: &Step, patience: Duration) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let ours = ListParams::default().labels(&format!("test={NAME}"));
        let at_once = DeleteParams::default();
        let found = namespaces.list_metadata(&ours).await?;
        let names = found.iter().map(ResourceExt::name_any);
        each(step, names, async |name| {
            let gone = namespaces.delete(&name, &at_once).await;
            gone_or_found(gone.map(drop))
        })
        .await?;
        wait::until("the namespaces to be gone", patience, async || {
            let left = namespaces.list_metadata(&ours).await?.items.len();
            step.now(&format!("{left} namespaces are left"));
            Ok(left == 0)
        })
        .await?;
        let providers: Api<DynamicObject> =
            Api::all_with(self.client.clone(), &kind("StorageProvider"));
        gone_or_found(providers.delete(NAME, &at_once).await.map(drop))?;
        let bindings: Api<ClusterRoleBinding> = Api::all(self.client.clone());
        gone_or_found(bindings.delete(NAME, &at_once).await.map(drop))?;
        let roles: Api<ClusterRole> = Api::all(self.client.clone());
        gone_or_found(roles.delete(NAME, &at_once).await.map(drop))?;
        step.now("deleting buckets");
        let code = format!(
            "import boto3\n\
             s3 = boto3.resource('s3')\n\
             for bucket in s3.buckets.all():\n    \
                 if bucket.name.startswith('{NAME}-'):\n        \
                     bucket.object_versions.delete(); bucket.delete()\n"
        );
        let owner = &self.owner;
        let python = Python::at(&owner.python, &owner.home).with_env(owner.variables.clone());
        python.run(&code, &[]).await.map(drop)
    }

    /// Applies a cluster-scoped object of our name.
    async fn apply<K>(&self, mut object: Value) -> Result<()>
    where
        K: Resource<DynamicType = ()> + serde::de::DeserializeOwned + Clone + std::fmt::Debug,
    {
        object["apiVersion"] = json!(K::api_version(&()));
        object["kind"] = json!(K::kind(&()));
        object["metadata"] = json!({"name": NAME});
        let apply = PatchParams::apply("hubstorage-e2e").force();
        Api::<K>::all(self.client.clone())
            .patch(NAME, &apply, &Patch::Apply(object))
            .await
            .map(drop)
            .with_context(|| format!("{} {NAME}", K::kind(&())))
    }

    fn hubs_in(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind("HubStorage"))
    }
}

/// A user's pod, as KubeSpawner makes it.
pub fn user_pod(user: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("jupyter-{user}"),
            "labels": {
                "app": "jupyterhub", "app.kubernetes.io/component": "singleuser-server",
                "app.kubernetes.io/instance": NAME, "app.kubernetes.io/managed-by": "kubespawner",
                "app.kubernetes.io/name": "jupyterhub", "chart": "jupyterhub-4.3.1",
                "component": "singleuser-server", "helm.sh/chart": "jupyterhub-4.3.1",
                "heritage": "jupyterhub", "hub.jupyter.org/network-access-hub": "true",
                "hub.jupyter.org/servername": "", "hub.jupyter.org/username": user, "release": NAME,
            },
            "annotations": {"hub.jupyter.org/username": user, "hub.jupyter.org/servername": ""},
        },
        "spec": {
            "automountServiceAccountToken": false,
            // Nobody's: it stays unscheduled, and goes at once when it is deleted.
            "schedulerName": NAME,
            "containers": [{
                "name": "notebook", "image": "notebook",
                "env": [{"name": "HOME", "value": "/home/jovyan"}, {"name": "JUPYTERHUB_USER", "value": user}],
            }],
        },
    })
}

/// The creation of a pod in `namespace` by the account of the hub in another. All accounts share a
/// connection.
pub fn request_of_hub(
    namespace: &str,
    hub: &str,
    pod: &Value,
    params: &PostParams,
) -> Result<::http::Request<Vec<u8>>> {
    let mut request = Request::new(Pod::url_path(&(), Some(namespace)))
        .create(params, serde_json::to_vec(pod)?)?;
    let creator = creator_of(hub);
    let headers = request.headers_mut();
    headers.insert("impersonate-user", HeaderValue::from_str(&creator)?);
    headers.insert("impersonate-group", HeaderValue::from_static(NAME));
    Ok(request)
}

/// The account of the hub in that namespace.
pub fn creator_of(hub: &str) -> String {
    ServiceAccount::new(hub, "hub").username()
}

/// The namespace of a hub.
pub fn of_hub(number: usize) -> String {
    format!("{NAME}-{number:04}")
}

fn of_sample(number: usize) -> String {
    format!("{NAME}-new-{number:02}")
}

fn is_ours(namespace: &Option<String>) -> bool {
    let name = namespace.as_deref().unwrap_or_default();
    name.starts_with(&format!("{NAME}-"))
}

fn kind(name: &str) -> ApiResource {
    let plural = format!("{}s", name.to_lowercase());
    let kind = GroupVersionKind::gvk("hubstorage.io", "v1alpha1", name);
    ApiResource::from_gvk_with_plural(&kind, &plural)
}

fn is_ready(hub: &DynamicObject) -> bool {
    let status = &hub.data["status"];
    let ready = status["conditions"].as_array().is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    });
    ready && status["observedGeneration"].as_i64() == hub.metadata.generation
}

/// Does something with each, several at a time, and says how far it has got.
pub async fn each<T>(
    step: &Step,
    all: impl IntoIterator<Item = T>,
    act: impl AsyncFn(T) -> Result<()>,
) -> Result<()> {
    let mut done = 0_usize;
    let act = &act;
    let mut acts = stream::iter(all)
        .map(|one| async move { act(one).await })
        .buffer_unordered(AT_ONCE);
    while acts.try_next().await?.is_some() {
        done += 1;
        step.now(&format!("{done} done"));
    }
    Ok(())
}

fn gone_or_found(deleted: kube::Result<()>) -> Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other?),
    }
}
