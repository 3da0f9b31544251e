//! Claims of the node: pods write to them, they grow under a running pod, and say how full they are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::path::PathBuf;
use std::time::Duration;

use hubstorage_e2e::checkout::Checkout;
use hubstorage_e2e::commands::run_with_input;
use hubstorage_e2e::component::Component;
use hubstorage_e2e::components::csi::{self, FIXED, LOCAL};
use hubstorage_e2e::components::node::WORKER;
use hubstorage_e2e::files;
use hubstorage_e2e::ports::Ports;
use hubstorage_e2e::progress::Progress;
use hubstorage_e2e::site::Site;
use hubstorage_e2e::{Extent, Platform, images, wait};
use serde_json::{Value, json};
use tokio::process::Command;

/// Bounds a hang; nothing is measured with it. The kubelet looks at volumes once a minute.
const PATIENCE: Duration = Duration::from_secs(180);

const MIB: u64 = 1 << 20;

const CLAIM: &str = "home";
const POD: &str = "writer";
const FILE: &str = "/home/jovyan/data";

/// One claim, in a namespace of its own, and a pod that has it mounted as a home.
struct Home {
    platform: Platform,
    namespace: String,
    image: String,
}

impl Home {
    /// A claim of 300 MiB, and a pod as KubeSpawner makes it.
    async fn make(name: &str, class: &str) -> Self {
        let platform = Platform::load().unwrap();
        let (ports, progress) = (Ports::default(), Progress::default());
        let site = Site::new(platform.checkout.clone(), Extent::Node, ports, progress).unwrap();
        let home = Self {
            platform,
            namespace: format!("e2e-volumes-{name}"),
            image: images::notebook::build(&site).await.unwrap().reference,
        };
        let remains = ["delete", "namespace", &home.namespace, "--ignore-not-found"];
        home.kubectl(&remains).await.unwrap();
        home.kubectl(&["create", "namespace", &home.namespace])
            .await
            .unwrap();
        home.until("the namespace's service account", async || {
            home.get("serviceaccount/default", "{.metadata.name}")
                .await
                .is_ok()
        })
        .await;
        home.apply(&json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": home.namespace},
            "spec": {
                "storageClassName": class,
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "300Mi"}},
            },
        }))
        .await;
        home.start_pod().await;
        home
    }

    async fn start_pod(&self) {
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": POD, "namespace": self.namespace},
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 100},
                "containers": [{
                    "name": POD,
                    "image": self.image,
                    "command": ["sleep", "infinity"],
                    "volumeMounts": [{"name": CLAIM, "mountPath": "/home/jovyan"}],
                }],
                "volumes": [{"name": CLAIM, "persistentVolumeClaim": {"claimName": CLAIM}}],
            },
        }))
        .await;
        self.until("the pod to run", async || {
            self.get(
                &format!("pod/{POD}"),
                "{.status.containerStatuses[0].ready}",
            )
            .await
            .is_ok_and(|ready| ready == "true")
        })
        .await;
    }

    async fn delete_pod(&self) {
        let delete = ["delete", "pod", POD, "-n", &self.namespace];
        self.kubectl(&delete).await.unwrap();
    }

    /// Runs a shell script in the pod.
    async fn shell(&self, script: &str) -> Result<String, String> {
        let run = [
            "exec",
            POD,
            "-n",
            &self.namespace,
            "--",
            "sh",
            "-euc",
            script,
        ];
        self.kubectl(&run).await
    }

    async fn ask_for(&self, size: &str) -> Result<String, String> {
        let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}}).to_string();
        self.kubectl(&["patch", "pvc", CLAIM, "-n", &self.namespace, "-p", &patch])
            .await
    }

    async fn get(&self, object: &str, field: &str) -> Result<String, String> {
        let field = format!("-o=jsonpath={field}");
        self.kubectl(&["get", object, "-n", &self.namespace, &field])
            .await
    }

    /// The size of the file system, in bytes, as the pod sees it.
    async fn size(&self) -> u64 {
        let said = self.shell("df --block-size=1 --output=size /home/jovyan");
        let said = said.await.unwrap();
        said.lines().last().unwrap().trim().parse().unwrap()
    }

    /// The file of the claim's volume.
    async fn file(&self) -> PathBuf {
        let claim = format!("pvc/{CLAIM}");
        let name = self.get(&claim, "{.spec.volumeName}").await.unwrap();
        csi::folder(&self.platform.checkout).join(format!("{name}.xfs"))
    }

    /// What the kubelet says of the claim.
    async fn reported(&self) -> Value {
        let summary = format!("/api/v1/nodes/{WORKER}/proxy/stats/summary");
        let summary = self.kubectl(&["get", "--raw", &summary]).await.unwrap();
        let summary: Value = serde_json::from_str(&summary).unwrap();
        let pods = summary["pods"].as_array().unwrap().iter();
        let of_claim = |volume: &&Value| {
            volume["pvcRef"] == json!({"name": CLAIM, "namespace": self.namespace})
        };
        let mut volumes = pods.flat_map(|pod| pod["volume"].as_array().into_iter().flatten());
        volumes.find(of_claim).cloned().unwrap_or_default()
    }

    async fn apply(&self, object: &Value) {
        self.platform.apply(&object.to_string()).await.unwrap();
    }

    /// What kubectl prints, or why it failed.
    async fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.platform.kubectl(arguments).await.unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        wait::until(what, PATIENCE, async || Ok(holds().await))
            .await
            .unwrap();
    }

    async fn remove(self) {
        let delete = ["delete", "namespace", &self.namespace, "--wait=false"];
        self.kubectl(&delete).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_pod_writes_as_its_group_the_next_pod_reads() {
    let home = Home::make("kept", LOCAL).await;
    let write = format!("echo kept > {FILE}; stat --format=%u:%g {FILE}");
    let owner = home.shell(&write).await.unwrap();

    home.delete_pod().await;
    home.start_pod().await;
    let read = home.shell(&format!("cat {FILE}")).await.unwrap();
    home.remove().await;

    assert_eq!(owner, "1000:100\n");
    assert_eq!(read, "kept\n");
}

#[tokio::test]
async fn a_full_claim_that_grows_takes_more_from_the_pod_that_runs() {
    let home = Home::make("grows", LOCAL).await;
    let before = home.size().await;
    let full = home
        .shell(&format!("head -c 400M /dev/zero > {FILE}"))
        .await;

    home.ask_for("1Gi").await.unwrap();
    home.until("the claim to have grown", async || {
        home.get(&format!("pvc/{CLAIM}"), "{.status.capacity.storage}")
            .await
            .is_ok_and(|capacity| capacity == "1Gi")
    })
    .await;
    let after = home.size().await;
    let larger = home
        .shell(&format!("head -c 400M /dev/zero > {FILE}"))
        .await;
    home.remove().await;

    assert!(full.unwrap_err().contains("No space left on device"));
    larger.unwrap();
    assert!((200 * MIB..300 * MIB).contains(&before), "{before}");
    assert!((900 * MIB..1024 * MIB).contains(&after), "{after}");
}

#[tokio::test]
async fn the_kubelet_tells_how_full_a_claim_is() {
    let home = Home::make("usage", LOCAL).await;
    let write = format!("head -c 100M /dev/zero > {FILE}; touch /home/jovyan/another");
    home.shell(&write).await.unwrap();

    home.until("the usage to be told", async || {
        home.reported().await["usedBytes"].as_u64() > Some(100 * MIB)
    })
    .await;
    let (reported, size) = (home.reported().await, home.size().await);
    home.remove().await;

    assert_eq!(reported["capacityBytes"], size);
    assert!(reported["inodesUsed"].as_u64() >= Some(2), "{reported}");
    assert!(reported["inodes"].as_u64() > Some(1000), "{reported}");
}

#[tokio::test]
async fn a_claim_whose_class_does_not_let_it_grow_is_refused() {
    let home = Home::make("fixed", FIXED).await;

    let refused = home.ask_for("1Gi").await.unwrap_err();
    home.remove().await;

    assert!(
        refused.contains("must support resize"),
        "the API server's reason: {refused}"
    );
}

#[tokio::test]
async fn a_deleted_claim_leaves_neither_file_nor_device() {
    let home = Home::make("deleted", LOCAL).await;
    let file = home.file().await;
    assert!(file.exists());
    assert_eq!(csi::loop_devices(&file).unwrap().len(), 1);

    home.delete_pod().await;
    home.kubectl(&["delete", "pvc", CLAIM, "-n", &home.namespace])
        .await
        .unwrap();
    home.until("the file to be gone", async || !file.exists())
        .await;
    let devices = csi::loop_devices(&file).unwrap();
    home.remove().await;

    assert!(devices.is_empty(), "{devices:?}");
}

#[tokio::test]
async fn what_a_crash_leaves_attached_is_detached() {
    let folder = tempfile::tempdir().unwrap();
    let checkout = Checkout::at(folder.path());
    let file = csi::folder(&checkout).join("left.xfs");
    files::make_private_folder(&csi::folder(&checkout)).unwrap();
    std::fs::write(&file, vec![0; 1 << 20]).unwrap();
    let mut losetup = Command::new("losetup");
    losetup.args(["--find", "--show"]).arg(&file);
    let attached = run_with_input(losetup, b"").await.unwrap();
    assert!(attached.status.success());
    assert_eq!(csi::loop_devices(&file).unwrap().len(), 1);

    csi::Volumes.clean_up(&checkout).await.unwrap();
    let devices = csi::loop_devices(&file).unwrap();

    assert!(devices.is_empty(), "{devices:?}");
}

#[tokio::test]
async fn the_drivers_own_tests_pass() {
    let source = Platform::load().unwrap().checkout.path("e2e/csi");
    let mut go = Command::new("go");
    go.args(["test", "./..."]).current_dir(source);

    let output = run_with_input(go, b"").await.unwrap();

    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
