//! containerd and its shim from their Go module, runc and the CNI plugins from Debian.
//!
//! It runs in a mount namespace of its own, in which the folders of the system that it would write
//! to (sockets of the shims, network namespaces, logs) are empty and in memory. What is mounted for
//! pods is mounted there, and gone with the last process in it. The kubelet joins it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use async_trait::async_trait;
use tokio::process::Command;

use super::cgroups::Cgroup;
use crate::checkout::Checkout;
use crate::commands::printed;
use crate::component::Component;
use crate::debian;
use crate::extent::NETWORK;
use crate::files;
use crate::go;
use crate::images;
use crate::process::{Launch, Record};
use crate::site::Site;

/// The container runtime.
pub struct Containerd;

const NAME: &str = "containerd";

/// The last release as a module.
const VERSION: &str = "v2.4.2";
const MODULE: &str = "github.com/containerd/containerd/v2/cmd";
const PROGRAMS: [&str; 3] = ["containerd", "containerd-shim-runc-v2", "ctr"];
/// Snapshotters that need C libraries or that no machine of ours has.
const TAGS: &str = "no_btrfs no_zfs no_aufs no_devmapper";

/// Debian's own containerd is too old for this kubelet; these are not.
const PACKAGES: [&str; 2] = ["runc", "containernetworking-plugins"];

/// Where the runtime answers.
pub fn socket(checkout: &Checkout) -> PathBuf {
    checkout.run("containerd/containerd.sock")
}

#[async_trait(?Send)]
impl Component for Containerd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> &'static [&'static str] {
        &[NETWORK]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        let key = go::key()
            .await?
            .with("ldflags", go::LDFLAGS)
            .with("tags", TAGS)
            .with(MODULE, VERSION);
        let packages = PROGRAMS.map(|program| format!("{MODULE}/{program}@{VERSION}"));
        let flags = ["-ldflags", go::LDFLAGS, "-tags", TAGS];
        let built = go::installed(site, NAME, key, &flags, &packages).await?;
        for program in PROGRAMS {
            site.link(&format!("bin/{program}"), &built.join(program))?;
        }
        let debian = debian::unpacked(site, "runc", &PACKAGES).await?;
        site.link("bin/runc", &debian.join("usr/sbin/runc"))?;
        site.link("cni/plugins", &debian.join("usr/lib/cni"))
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let checkout = &site.checkout;
        let sandbox = images::pause::build(site).await?;
        files::make_private_folder(&checkout.run("containerd/state"))?;
        let configuration = checkout.run("containerd/config.toml");
        files::write_private(&configuration, configure(site, &sandbox.reference))?;

        let processes = Cgroup::find()?.make()?;
        let containerd = built(&checkout.run("bin/containerd"))?;
        let arguments = ["--mount", "--propagation=slave", "/bin/sh", "-euc", ENTER];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        arguments.push(join(&processes));
        arguments.extend([containerd, "--config".to_owned()]);
        arguments.push(configuration.display().to_string());
        let launch = Launch::new("/usr/bin/unshare", arguments).with_input(configuration);
        Ok(Some(launch.with_env(
            "PATH",
            format!(
                "{}:/usr/sbin:/usr/bin:/sbin:/bin",
                checkout.run("bin").display()
            ),
        )))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        ctr(&site.checkout, &["version"]).await.map(drop)
    }

    /// Forgets the containers of an earlier platform, whose processes are gone: the kubelet would
    /// spend minutes on each. Images stay.
    async fn furnish(&self, site: &Site) -> Result<()> {
        let running = ctr(&site.checkout, &["tasks", "list", "--quiet"]).await?;
        if !running.trim().is_empty() {
            // It was running, and the kubelet's pods with it.
            return Ok(());
        }
        let listed = ctr(&site.checkout, &["containers", "list", "--quiet"]).await?;
        let left: Vec<&str> = listed.split_whitespace().collect();
        if left.is_empty() {
            return Ok(());
        }
        for container in left {
            ctr(&site.checkout, &["containers", "delete", container]).await?;
        }
        // What the Kubernetes side of it knows is read at its start.
        self.stop(site).await?;
        crate::component::start(site, self).await
    }

    async fn clean_up(&self, _checkout: &Checkout) -> Result<()> {
        Cgroup::find()?.remove().await
    }
}

/// Makes the mount namespace that this shell is in the runtime's own, joins the cgroups whose files
/// are named in `$0`, and becomes the program.
const ENTER: &str = r#"
mount --make-rshared /
for folder in /run /var/log /var/lib; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p /run/netns /run/containerd /var/lib/cni
for processes in $0; do echo $$ > "$processes"; done
exec "$@"
"#;

fn join(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(" ")
}

/// Images are kept with what was built; all else goes with the platform.
fn configure(site: &Site, sandbox: &str) -> String {
    let run = |name: &str| site.checkout.run(name).display().to_string();
    format!(
        r#"version = 3
root = "{root}"
state = "{state}"

[grpc]
address = "{socket}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{sandbox}"

[plugins."io.containerd.cri.v1.runtime"]
# Without the right to lower the score, which containers of a machine in a container do not have.
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{plugins}"]
conf_dir = "{cni}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"#,
        root = site.cache.folder().join("images").display(),
        state = run("containerd/state"),
        socket = socket(&site.checkout).display(),
        plugins = run("cni/plugins"),
        cni = run("cni/configuration"),
        runc = run("bin/runc"),
    )
}

/// Runs containerd's client in the namespace of Kubernetes, and returns what it said.
pub async fn ctr(checkout: &Checkout, arguments: &[&str]) -> Result<String> {
    let output = Command::new(checkout.run("bin/ctr"))
        .arg("--address")
        .arg(socket(checkout))
        .args(["--namespace", "k8s.io"])
        .args(arguments)
        .output()
        .await
        .context("could not run ctr")?;
    printed(&output, &format!("ctr {}", arguments.join(" ")))
}

/// Where a program is in the cache, under a name made from all that it was built from: another build
/// is another command line, and the process that runs is out of date.
fn built(program: &Path) -> Result<String> {
    let found = std::fs::canonicalize(program);
    let found = found.with_context(|| program.display().to_string())?;
    Ok(found.display().to_string())
}

/// A launch of `program` in the mount namespace of the runtime.
pub fn beside(checkout: &Checkout, program: &Path, arguments: Vec<String>) -> Result<Launch> {
    let runtime = Record::of(checkout, NAME).context("containerd was not started")?;
    let mut all = vec![
        "--mount".to_owned(),
        format!("--target={}", runtime.pid),
        built(program)?,
    ];
    all.extend(arguments);
    Ok(Launch::new("/usr/bin/nsenter", all))
}
