//! Volumes for claims: a CSI driver of the harness (`e2e/csi`), and Kubernetes' own controllers that
//! ask it to make, grow and delete volumes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, StorageClass};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::checkout::Checkout;
use crate::component::Component;
use crate::components::node::{WORKER, beside_containerd};
use crate::debian;
use crate::files;
use crate::go;
use crate::kubeconfig::{self, Identity};
use crate::process::{Launch, Record};
use crate::running;
use crate::site::Site;

/// The storage class of claims that name none. Its volumes grow.
pub const LOCAL: &str = "local";

/// The storage class whose volumes do not.
pub const FIXED: &str = "fixed";

/// What Kubernetes calls the driver.
const DRIVER: &str = "volumes.e2e.hubstorage.io";

/// The component's name, and the program's.
const NAME: &str = "csi-driver";

const SOURCE: &str = "e2e/csi";

/// The volumes' files.
pub fn folder(checkout: &Checkout) -> PathBuf {
    checkout.run("volumes")
}

/// Where the driver answers.
fn socket(checkout: &Checkout) -> PathBuf {
    checkout.run("kubelet/plugins/csi.sock")
}

/// The folder of the volumes' files. Not a process.
///
/// It is cleaned up after the container runtime: volumes stay mounted until the last process of its
/// mount namespace has ended.
pub struct Volumes;

/// How long the kernel may take to let a volume's file go.
const DETACHED_WITHIN: Duration = Duration::from_secs(20);

#[async_trait(?Send)]
impl Component for Volumes {
    fn name(&self) -> &'static str {
        "volumes"
    }

    /// `mkfs.xfs` and `xfs_growfs`, with the libraries that not every Debian has.
    async fn build(&self, site: &Site) -> Result<()> {
        let packages = ["xfsprogs", "libinih1", "liburcu8"];
        let debian = debian::unpacked(site, "xfsprogs", &packages).await?;
        site.link("xfsprogs", &debian)
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        files::make_private_folder(&folder(&site.checkout))?;
        Ok(None)
    }

    async fn ready(&self, _site: &Site) -> Result<()> {
        Ok(())
    }

    /// Detaches what is attached to the volumes' files. The kernel does so by itself when a volume
    /// is unmounted, which the end of the namespace does a moment later.
    async fn clean_up(&self, checkout: &Checkout) -> Result<()> {
        let give_up = tokio::time::Instant::now() + DETACHED_WITHIN;
        loop {
            let devices = loop_devices(&folder(checkout))?;
            if devices.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() > give_up {
                bail!("{devices:?} are still attached to files in .run/volumes");
            }
            for device in devices {
                // An error here means that it was detached in the meantime.
                let mut losetup = Command::new("losetup");
                losetup.arg("--detach").arg(device).output().await?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The loop devices that files at or below `path` are attached to.
pub fn loop_devices(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for device in std::fs::read_dir("/sys/block").context("/sys/block")? {
        let device = device?;
        // No such file: another kind of device, or one that nothing is attached to.
        let Ok(backing) = std::fs::read_to_string(device.path().join("loop/backing_file")) else {
            continue;
        };
        let backing = backing.trim_end_matches('\n');
        // The kernel says so of a file that was removed.
        let backing = backing.strip_suffix(" (deleted)").unwrap_or(backing);
        if Path::new(backing).starts_with(path) {
            found.push(Path::new("/dev").join(device.file_name()));
        }
    }
    Ok(found)
}

/// The driver: makes volumes, and mounts them for the kubelet, in the kubelet's mount namespace.
pub struct Driver;

#[async_trait(?Send)]
impl Component for Driver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> &'static [&'static str] {
        &["volumes", "kubelet"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        build(site).await
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let checkout = &site.checkout;
        let flag = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
        let flags = vec![
            format!("--name={DRIVER}"),
            format!("--node={WORKER}"),
            flag("volumes", folder(checkout)),
            flag("endpoint", socket(checkout)),
            // The kubelet looks here for its plugins.
            flag(
                "registry",
                checkout.run("kubelet/plugins_registry/csi.sock"),
            ),
        ];
        let program = checkout.run("bin/csi-driver");
        let launch = beside_containerd(checkout, &program, flags)?;
        let libraries = debian::libraries(&checkout.run("xfsprogs"));
        let xfsprogs = checkout.run("xfsprogs").display().to_string();
        let path = format!("{xfsprogs}/usr/sbin:{xfsprogs}/sbin:/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(Some(launch.with_env("PATH", path).with_env(
            "LD_LIBRARY_PATH",
            libraries.display().to_string(),
        )))
    }

    /// It answers, and the kubelet knows it.
    async fn ready(&self, site: &Site) -> Result<()> {
        let socket = socket(&site.checkout);
        UnixStream::connect(&socket)
            .await
            .with_context(|| socket.display().to_string())?;
        let nodes: Api<CSINode> = Api::all(running::admin_client(&site.checkout).await?);
        let node = nodes
            .get(WORKER)
            .await
            .with_context(|| format!("CSINode {WORKER}"))?;
        if !node.spec.drivers.iter().any(|driver| driver.name == DRIVER) {
            bail!("the kubelet has not registered it");
        }
        Ok(())
    }

    /// Tells Kubernetes of the driver, and offers its volumes in two classes.
    async fn furnish(&self, site: &Site) -> Result<()> {
        let client = running::admin_client(&site.checkout).await?;
        let force = PatchParams::apply("hubstorage-e2e").force();
        let drivers: Api<CSIDriver> = Api::all(client.clone());
        let driver = json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": DRIVER},
            // The kubelet makes volumes writable for a pod's fsGroup.
            "spec": {"attachRequired": false, "podInfoOnMount": false, "fsGroupPolicy": "File"},
        });
        let applied = drivers.patch(DRIVER, &force, &Patch::Apply(driver)).await;
        applied.with_context(|| format!("CSIDriver {DRIVER}"))?;

        let classes: Api<StorageClass> = Api::all(client);
        for (name, grows) in [(LOCAL, true), (FIXED, false)] {
            let is_default = (name == LOCAL).to_string();
            let class = json!({
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": name,
                    "annotations": {"storageclass.kubernetes.io/is-default-class": is_default},
                },
                "provisioner": DRIVER,
                "allowVolumeExpansion": grows,
                // As on clouds: a claim is bound when a pod uses it.
                "volumeBindingMode": "WaitForFirstConsumer",
            });
            let applied = classes.patch(name, &force, &Patch::Apply(class)).await;
            applied.with_context(|| format!("StorageClass {name}"))?;
        }
        Ok(())
    }
}

/// Builds the driver and both controllers, whose versions are in the driver's `go.mod`.
async fn build(site: &Site) -> Result<()> {
    let packages = [PROVISIONER, RESIZER].map(|controller| controller.package);
    let mut key = go::key()
        .await?
        .with_files_in(&site.checkout.path(SOURCE))?;
    for package in packages {
        key = key.with("package", package);
    }
    let built = go::built(site, NAME, key, SOURCE, go::LDFLAGS, &packages).await?;
    for program in [NAME, PROVISIONER.name, RESIZER.name] {
        site.link(&format!("bin/{program}"), &built.join(program))?;
    }
    Ok(())
}

/// A controller that watches claims and asks the driver.
pub struct Controller {
    name: &'static str,
    /// Its port is called like the component.
    ports: &'static [&'static str],
    package: &'static str,
}

/// Has volumes made for claims, and deleted after them.
pub const PROVISIONER: Controller = Controller {
    name: "csi-provisioner",
    ports: &["csi-provisioner"],
    package: "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner",
};

/// Has volumes grown when their claims are.
pub const RESIZER: Controller = Controller {
    name: "csi-resizer",
    ports: &["csi-resizer"],
    package: "github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer",
};

#[async_trait(?Send)]
impl Component for Controller {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> &'static [&'static str] {
        &["kube-apiserver", NAME]
    }

    fn ports(&self) -> &'static [&'static str] {
        self.ports
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let checkout = &site.checkout;
        let config = checkout.run(&format!("kubernetes/{}.kubeconfig", self.name));
        kubeconfig::write(site, &config, &Identity::Certificate("csi"))?;
        let flags = [
            format!("--kubeconfig={}", config.display()),
            format!("--csi-address={}", socket(checkout).display()),
            format!("--http-endpoint={}", site.ports.address(self.name)?),
        ];
        let program = checkout.run(&format!("bin/{}", self.name));
        // It ends by itself, at some time, when it has lost the driver: with another process of the
        // driver's it is out of date.
        let driver = Record::of(checkout, NAME).context("csi-driver was not started")?;
        let driver = format!("{} {}", driver.pid, driver.start_time);
        Ok(Some(Launch::new(program, flags).with_env("DRIVER", driver)))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        let url = format!("http://{}/metrics", site.ports.address(self.name)?);
        crate::http::get(&url, None).await.map(drop)
    }
}
