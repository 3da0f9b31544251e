//! A shared folder on the claim of the homes, as users find it: readers and writers, in real pods.

use hubstorage_core::api::SYSTEM_NAMESPACE;
use hubstorage_e2e::components::csi::LOCAL;
use hubstorage_e2e::components::hub::{self, HUB};
use hubstorage_e2e::jupyterhub::ServerOptions;
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::cluster::{Cluster, storage};

const SERVE: &str = "deployment/hubstorage-serve";

/// The claim of docs/examples/hub-shared.yaml.
const CLAIM: &str = "home-nfs";

/// Says what the user's code can do: read what an administrator put into the folder, and write to it at both places and
/// to the home. Nothing that is written stays.
const TRY: &str = "
import os, pathlib
home = pathlib.Path('/home/jovyan')

def tried(what):
    try:
        return what()
    except OSError as error:
        return os.strerror(error.errno)

def writes(folder):
    def write():
        file = folder / 'tried'
        file.write_text('x')
        file.unlink()
        return 'writes'
    return tried(write)

read = tried(lambda: (home / 'shared' / 'tutorial').read_text())
print(read, writes(home / 'shared'), writes(home / 'shared-readwrite'), writes(home), sep='; ', end='')
";

/// What one line too many does to what everybody reads.
const REMOVE: &str = "
import pathlib
for path in pathlib.Path('/home/jovyan/shared').iterdir():
    path.unlink()
";

/// What the storage of the example declares, for the hub of the platform.
fn declared(hub: &hub::Hub) -> Value {
    let documented = include_str!("../../../docs/examples/hub-shared.yaml");
    let documented: Value = serde_yaml::from_str(documented).unwrap();
    let mut storage = storage(hub.namespace);
    for field in ["shared", "policy"] {
        storage["spec"][field] = documented["spec"][field].clone();
    }
    storage
}

/// A server whose home is a directory of the claim, as hubs configure it, with these mounts of it besides.
fn with_home(mounts: &[Value]) -> ServerOptions {
    let home = json!({"name": "home", "mountPath": "/home/jovyan", "subPath": "{username}"});
    let claim = json!({"name": "home", "persistentVolumeClaim": {"claimName": CLAIM}});
    let mounts: Vec<&Value> = [&home].into_iter().chain(mounts).collect();
    ServerOptions::default()
        .with("volumes", json!([claim]))
        .with("volume_mounts", json!(mounts))
}

/// The same, with the init container that makes the home its user's.
fn with_owner(image: &str, user: &str, name: &str, mounts: &[Value]) -> ServerOptions {
    let chown = format!(
        "import os; os.makedirs('/homes/{user}', exist_ok=True); os.chown('/homes/{user}', 1000, 100)"
    );
    let container = json!({
        "name": name, "image": image, "command": ["python", "-c", chown],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "home", "mountPath": "/homes"}],
    });
    with_home(mounts).with("init_containers", json!([container]))
}

/// A name of which no hub remembers a group.
fn named(what: &str) -> String {
    format!("{what}-{:06x}", rand::rng().random_range(0..0x100_0000))
}

impl Cluster {
    /// A claim that many nodes could mount, which has a volume as soon as a pod has mounted it.
    async fn make_claim(&self, hub: &hub::Hub) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": hub.namespace},
            "spec": {
                "storageClassName": LOCAL, "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "300Mi"}},
            },
        }))
        .await;
    }

    /// What an administrator does before anybody has the folder: a pod that is nobody's makes it, fills it, and ends.
    async fn fill(&self, hub: &hub::Hub, image: &str) {
        let fill = "import os, pathlib; folder = pathlib.Path('/claim/_shared'); folder.mkdir(exist_ok=True); \
                    (folder / 'tutorial').write_text('for everybody'); os.chown(folder, 1000, 100)";
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "fill", "namespace": hub.namespace},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "fill", "image": image, "command": ["python", "-c", fill],
                    "securityContext": {"runAsUser": 0},
                    "volumeMounts": [{"name": "claim", "mountPath": "/claim"}],
                }],
                "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": CLAIM}}],
            },
        }))
        .await;
        let phase = [
            "pod",
            "fill",
            "-n",
            hub.namespace,
            "-o=jsonpath={.status.phase}",
        ];
        self.until("the folder to be filled", async || {
            self.get(&phase).await == "Succeeded"
        })
        .await;
    }

    /// Makes the folder of the example, and fills it.
    pub async fn share(&self, hub: &hub::Hub, image: &str) {
        self.make_claim(hub).await;
        self.fill(hub, image).await;
        self.apply(&declared(hub)).await;
        self.until_told(hub, "MountsReady", "True", "Applied").await;
    }

    pub async fn image_of(&self, hub: &hub::Hub, pod: &str) -> String {
        let image = "-o=jsonpath={.spec.containers[0].image}";
        self.get(&["pod", pod, "-n", hub.namespace, image]).await
    }

    /// What the user's code can do in the server that runs.
    async fn can(&self, hub: &hub::Hub, user: &str) -> String {
        self.hub(hub).run(user, TRY).await.unwrap().ok().unwrap()
    }

    /// Waits until a server that starts now is given the folder: serve learns of it from a watch.
    pub async fn until_found(&self, hub: &hub::Hub, user: &str, options: &ServerOptions) {
        let spawner = self.hub(hub);
        self.until("the folder in a server", async || {
            spawner.stop(user).await.unwrap();
            spawner.start(user, options).await.unwrap();
            self.can(hub, user).await.starts_with("for everybody")
        })
        .await;
    }

    /// Stops the servers of these users, and takes the folder away.
    pub async fn remove_folder(&self, hub: &hub::Hub, users: &[&str]) {
        for user in users {
            self.hub(hub).stop(user).await.unwrap();
        }
        self.apply(&storage(hub.namespace)).await;
        for object in ["pod/fill", &format!("pvc/{CLAIM}")] {
            self.kubectl(&["delete", object, "-n", hub.namespace, "--ignore-not-found"])
                .await;
        }
    }
}

#[tokio::test]
async fn all_read_a_shared_folder_its_writers_write_to_it_and_homes_on_its_claim_go_on() {
    let cluster = Cluster::enter().await;
    let hub = &HUB;
    let spawner = cluster.hub(hub);
    let (reader, writer) = (&named("reader"), &named("writer"));
    // Only who has been there can be in a group.
    for user in [reader, writer] {
        cluster.server(hub, user).await;
        spawner.stop(user).await.unwrap();
    }
    let declared = async {
        cluster.apply(&declared(hub)).await;
        cluster
            .until_told(hub, "MountsReady", "False", "ClaimMissing")
            .await;
    };
    let shown = async {
        // Nobody waits for a claim that is not there, nor for one without a volume.
        let pod = cluster.server(hub, reader).await;
        let image = cluster.image_of(hub, &pod).await;
        cluster.make_claim(hub).await;
        cluster
            .until_told(hub, "MountsReady", "False", "ClaimNotBound")
            .await;
        cluster.server(hub, reader).await;
        cluster.fill(hub, &image).await;
        let told = cluster
            .until_told(hub, "MountsReady", "True", "Applied")
            .await;
        let words = "shared: _shared of claim home-nfs at /home/jovyan/shared, to write at /home/jovyan/shared-readwrite";
        assert!(told.contains(words), "{told}");

        let options = |user: &str| with_owner(&image, user, "volume-mount-ownership-fix", &[]);
        cluster.until_found(hub, reader, &options(reader)).await;
        let nothing = "Read-only file system; No such file or directory";
        assert_eq!(
            cluster.can(hub, reader).await,
            format!("for everybody; {nothing}; writes")
        );
        let removed = spawner
            .run(reader, REMOVE)
            .await
            .unwrap()
            .ok()
            .unwrap_err()
            .to_string();
        assert!(removed.contains("Read-only file system"), "{removed}");

        spawner.join("admins", &[writer]).await.unwrap();
        spawner.start(writer, &options(writer)).await.unwrap();
        let can = "for everybody; Read-only file system; writes; writes";
        assert_eq!(cluster.can(hub, writer).await, can);
    };
    let users = [reader, writer].map(String::as_str);
    let removed = cluster.remove_folder(hub, &users);
    cluster.without(declared, shown, removed).await;
}

#[tokio::test]
async fn a_server_that_could_write_to_a_shared_folder_is_refused_with_and_without_the_webhook() {
    let cluster = Cluster::enter().await;
    let hub = &HUB;
    let spawner = cluster.hub(hub);
    let (reader, writer) = (&named("reader"), &named("writer"));
    let mount = |read_only: bool| json!({"name": "home", "mountPath": "/data", "subPath": "_shared", "readOnly": read_only});
    cluster.server(hub, writer).await;
    spawner.stop(writer).await.unwrap();
    let pod = cluster.server(hub, reader).await;
    let image = cluster.image_of(hub, &pod).await;
    spawner.stop(reader).await.unwrap();
    let declared = cluster.share(hub, &image);
    let is_refused = async |options: ServerOptions| {
        let refused = spawner
            .start(reader, &options)
            .await
            .unwrap_err()
            .to_string();
        for words in [
            "could write to shared folder shared",
            "tell the administrators of the hub",
        ] {
            assert!(refused.contains(words), "{refused}");
        }
    };
    let shown = async {
        // The API server learns of the folder from a watch.
        let writable = with_home(&[mount(false)]);
        cluster
            .until("the policy to know of the folder", async || {
                let started = spawner.start(reader, &writable).await;
                spawner.stop(reader).await.unwrap();
                started.is_err()
            })
            .await;
        spawner.join("admins", &[writer]).await.unwrap();
        let scale = async |replicas: &str| {
            let replicas = format!("--replicas={replicas}");
            cluster
                .kubectl(&["scale", "-n", SYSTEM_NAMESPACE, SERVE, &replicas])
                .await;
        };
        let down = async {
            scale("0").await;
            let label = "-l=app.kubernetes.io/name=hubstorage-serve";
            let pods = ["pods", "-n", SYSTEM_NAMESPACE, label, "-o=name"];
            cluster
                .until("serve to be gone", async || {
                    cluster.get(&pods).await.is_empty()
                })
                .await;
        };
        let all = async {
            is_refused(with_home(&[mount(false)])).await;
            // Of all of the claim, by an init container that nobody named.
            is_refused(with_owner(&image, reader, "other", &[])).await;
            for (user, mounts) in [(reader, [mount(true)]), (writer, [mount(false)])] {
                let options = with_owner(&image, user, "volume-mount-ownership-fix", &mounts);
                spawner.start(user, &options).await.unwrap();
                spawner.stop(user).await.unwrap();
            }
        };
        let up = async {
            scale("2").await;
            let done = [
                "rollout",
                "status",
                "-n",
                SYSTEM_NAMESPACE,
                SERVE,
                "--timeout=120s",
            ];
            cluster.kubectl(&done).await;
        };
        is_refused(with_home(&[mount(false)])).await;
        cluster.without(down, all, up).await;
    };
    let users = [reader, writer].map(String::as_str);
    let removed = cluster.remove_folder(hub, &users);
    cluster.without(declared, shown, removed).await;
}
