//! A cluster that somebody else runs, used by a second checkout: that of the node, once without its
//! operator and its hub. Alone in its binary: cargo runs test binaries one after the other, and all
//! others need what is taken away here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::collections::BTreeSet;
use std::process::Output;

use hubstorage_core::api::{SYSTEM_NAMESPACE, VENDING_NAMESPACE};
use hubstorage_e2e::checkout::Checkout;
use hubstorage_e2e::components::hub::HUB;
use hubstorage_e2e::components::node::ctr;
use hubstorage_e2e::components::release;
use hubstorage_e2e::images::archive::{self, Runs, Tree};
use hubstorage_e2e::images::notebook;
use hubstorage_e2e::ports::Ports;
use hubstorage_e2e::progress::Progress;
use hubstorage_e2e::site::Site;
use hubstorage_e2e::{Extent, Platform, giving_back};
use serde_json::{Value, json};
use tokio::process::Command;

/// What the platform itself has in the hub's namespace, in the order in which it starts.
const IN_HUB_NAMESPACE: [&str; 3] = ["hub", "dask-gateway", "dask-gateway-controller"];

const KINDS: [&str; 3] = [
    "hubstorages.hubstorage.io",
    "hubusers.hubstorage.io",
    "storageproviders.hubstorage.io",
];

/// Kinds of which a cluster has the same objects after `down` as before `up`.
const COUNTED: &str = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,\
    mutatingwebhookconfigurations,validatingwebhookconfigurations,\
    validatingadmissionpolicies,validatingadmissionpolicybindings";

/// The name by which nodes know the image that this test makes.
const MINIO: &str = "localhost/hubstorage/minio:e2e";

/// The cluster of the platform, and somebody in another checkout who has its kubeconfig.
struct Guest {
    platform: Platform,
    checkout: Checkout,
    images: Vec<(&'static str, String)>,
}

impl Guest {
    /// Must be called while the platform's own release is there: its images are known from that.
    async fn arrive() -> Self {
        let platform = Platform::load().unwrap();
        let image = async |object: &str, namespace: &str| {
            let path = "-o=jsonpath={.spec.template.spec.containers[0].image}";
            let get = ["get", object, "-n", namespace, path];
            platform.kubectl_prints(&get).await.unwrap()
        };
        let (ports, progress) = (Ports::default(), Progress::default());
        let site = Site::new(platform.checkout.clone(), Extent::Node, ports, progress).unwrap();
        let serve = image("deployment/hubstorage-serve", SYSTEM_NAMESPACE).await;
        let agent = image("daemonset/hubstorage-agent", "hubstorage-agents").await;
        let notebook = notebook::build(&site).await.unwrap().reference;
        import_minio(&platform.checkout).await;
        let images = vec![
            ("HUBSTORAGE_IMAGE", serve),
            ("HUBSTORAGE_AGENT_IMAGE", agent),
            ("HUBSTORAGE_MINIO_IMAGE", MINIO.to_owned()),
            ("HUBSTORAGE_NOTEBOOK_IMAGE", notebook),
        ];
        let checkout = platform.checkout.beside("existing").unwrap();
        Self {
            platform,
            checkout,
            images,
        }
    }

    async fn e2e(&self, subcommand: &str) -> Output {
        let e2e = Command::new(env!("CARGO_BIN_EXE_e2e"))
            .arg(subcommand)
            .current_dir(self.checkout.root())
            .env("HUBSTORAGE_USE_KUBECONFIG", "1")
            .env("KUBECONFIG", self.platform.checkout.run("kubeconfig"))
            .envs(self.images.iter().map(|(name, value)| (name, value)))
            .output();
        e2e.await.unwrap()
    }

    /// A subcommand that succeeds; what it printed.
    async fn does(&self, subcommand: &str) -> String {
        let output = self.e2e(subcommand).await;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{subcommand}: {printed}\n{error}");
        printed
    }

    /// A subcommand that does not; what it said.
    async fn is_refused(&self, subcommand: &str) -> String {
        let output = self.e2e(subcommand).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{subcommand}: {error}");
        error
    }

    async fn kubectl(&self, arguments: &[&str]) -> String {
        self.platform.kubectl_prints(arguments).await.unwrap()
    }

    async fn objects(&self) -> BTreeSet<String> {
        let all = self.kubectl(&["get", COUNTED, "-o=name"]).await;
        all.lines().map(str::to_owned).collect()
    }

    /// Leaves of the platform what is not ours: Kubernetes.
    async fn empty_the_cluster(&self) {
        let all = ["delete", KINDS[0], "--all", "-A", "--timeout=120s"];
        self.kubectl(&all).await;
        for component in IN_HUB_NAMESPACE.iter().rev() {
            self.platform.stop(component).await.unwrap();
        }
        let uninstall = ["uninstall", release::NAME, "-n", SYSTEM_NAMESPACE, "--wait"];
        release::helm(&self.platform.checkout, &uninstall)
            .await
            .unwrap();
        let kinds = [&["delete", "customresourcedefinitions"], &KINDS[..]].concat();
        self.kubectl(&kinds).await;
        let delete = ["delete", "namespaces", "--ignore-not-found"];
        let namespaces = [SYSTEM_NAMESPACE, VENDING_NAMESPACE, HUB.namespace];
        self.kubectl(&[&delete[..], &namespaces].concat()).await;
    }

    /// Gives the platform its own back.
    async fn leave(&self) {
        // After a test that went well there is nothing to take down.
        let down = self.e2e("down").await;
        for component in ["operator"].iter().chain(&IN_HUB_NAMESPACE) {
            let e2e = env!("CARGO_BIN_EXE_e2e");
            self.platform.start(e2e, component).await.unwrap();
        }
        assert!(down.status.success(), "{down:?}");
    }
}

/// The platform's own MinIO as an image: nodes here pull nothing.
async fn import_minio(checkout: &Checkout) {
    let runs = Runs {
        user: "1000:1000".to_owned(),
        entrypoint: vec!["/minio".to_owned()],
        env: vec!["HOME=/".to_owned()],
        ..Runs::default()
    };
    let program = std::fs::canonicalize(checkout.run("bin/minio")).unwrap();
    let tree = Tree::default().with_file("/minio", &program, 0o755);
    let archive = checkout.run("minio-image.tar");
    archive::write(&archive, MINIO, &runs, &tree.unwrap()).unwrap();
    let import = ["images", "import", &archive.display().to_string()];
    ctr(checkout, &import).await.unwrap();
    std::fs::remove_file(archive).unwrap();
}

/// A hub that the guest has not made, whose store nobody reaches.
fn hub_of_another(namespace: &str) -> Value {
    json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
        "metadata": {"name": "hub", "namespace": namespace},
        "spec": {"providerRef": {"name": "none"}, "buckets": [{"name": "scratch"}]},
    })
}

#[tokio::test]
async fn a_cluster_with_an_installation_of_its_own_is_refused_and_an_empty_one_is_used_and_left_as_it_was()
 {
    let guest = Guest::arrive().await;
    let before = guest.objects().await;

    let refused = guest.is_refused("up").await;

    assert!(refused.contains("cluster: context \"local\""), "{refused}");
    assert!(refused.contains("Namespace hubstorage-system"), "{refused}");
    assert_eq!(guest.objects().await, before);
    let emptied_and_used = async {
        guest.empty_the_cluster().await;
        uses_and_leaves(&guest).await;
    };
    giving_back(emptied_and_used, guest.leave()).await;
}

async fn uses_and_leaves(guest: &Guest) {
    let before = guest.objects().await;

    guest.does("up").await;
    let status = guest.does("status").await;
    let story = guest.does("demo").await;

    assert!(status.contains("context \"local\""), "{status}");
    assert!(story.contains("Every step did what it should."), "{story}");

    let namespace = "e2e-existing";
    guest.kubectl(&["create", "namespace", namespace]).await;
    let hub = hub_of_another(namespace).to_string();
    guest.platform.apply(&hub).await.unwrap();
    let refused = guest.is_refused("down").await;
    guest
        .kubectl(&["delete", KINDS[0], "-n", namespace, "hub"])
        .await;
    guest.kubectl(&["delete", "namespace", namespace]).await;
    assert!(refused.contains("HubStorage e2e-existing/hub"), "{refused}");

    guest.does("down").await;
    assert_eq!(guest.objects().await, before);
}
