//! Ceph's S3 gateway from Debian's packages, as small as it gets: a monitor, a disk in memory and
//! the gateway. Only the contract suite needs it. No root, no manager daemon.
//!
//! Measured with 16.2.15: the packages are 60 MB to download and 230 MB unpacked; the gateway
//! answers 6 s after the monitor's start, as the first start makes five pools; the three take
//! 270 MB. What it answers differently from others is told in `docs/stores.md`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::checkout::Checkout;
use crate::commands::{printed, run_with_input};
use crate::component::{Component, GRACE};
use crate::debian;
use crate::extent;
use crate::files;
use crate::process::{self, Launch, Record};
use crate::running::AccessKey;
use crate::site::Site;

/// Keeps the map of the cluster.
pub struct Monitor;
/// Keeps the data, in memory.
pub struct Disk;
/// Speaks S3, STS and IAM.
pub struct Gateway;

const MONITOR: &str = "rgw-monitor";
const DISK: &str = "rgw-disk";
const GATEWAY: &str = "rgw";

/// The packages whose programs are run, and those that their programs need files of.
const PACKAGES: [&str; 5] = [
    "ceph-base",
    "ceph-common",
    "ceph-mon",
    "ceph-osd",
    "radosgw",
];

/// The cluster is forgotten with `.run`, and reached by nobody else: any id does.
const CLUSTER: &str = "a7c7b1de-5c7f-4f3c-9d5e-2f6b0d1c3e41";

/// The role that the vending user assumes, and its path.
const ROLE: &str = "hubstorage-vend";
const ROLE_PATH: &str = "/hubstorage/";

/// The users, each with a key that the gateway makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// May manage buckets and roles.
    pub manage: AccessKey,
    /// May assume the role, and nothing else: a user without a limit would make buckets.
    pub vend: AccessKey,
    /// Somebody else with buckets.
    pub stranger: AccessKey,
}

impl Keys {
    /// The keys in `.run`.
    pub fn load(checkout: &Checkout) -> Result<Self> {
        let path = checkout.run("rgw/keys.json");
        let text = std::fs::read(&path).with_context(|| checkout.display(&path))?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// The ARN of the role that the vending user assumes.
pub fn role() -> String {
    format!("arn:aws:iam:::role{ROLE_PATH}{ROLE}")
}

/// Why this machine cannot have it; nothing if it can.
pub fn obstacle() -> Option<String> {
    let missing = ["apt-get", "apt-cache", "dpkg"]
        .into_iter()
        .find(|program| !extent::is_installed(program))?;
    Some(format!("Ceph's packages need Debian's {missing}"))
}

#[async_trait(?Send)]
impl Component for Monitor {
    fn name(&self) -> &'static str {
        MONITOR
    }

    fn ports(&self) -> &'static [&'static str] {
        &[MONITOR]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        let libraries = debian::missing_libraries(&PACKAGES).await?;
        let mut packages = PACKAGES.to_vec();
        packages.extend(libraries.iter().map(String::as_str));
        packages.sort_unstable();
        packages.dedup();
        let debian = debian::unpacked(site, "ceph", &packages).await?;
        site.link("ceph", &debian)
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        write_configuration(site)?;
        // A disk in memory is lost with its process, and a monitor that remembers what was on it
        // waits for that in vain.
        let records = [GATEWAY, DISK, MONITOR].map(|name| Record::of(&site.checkout, name));
        let runs = |record: &Option<Record>| record.as_ref().is_some_and(Record::is_alive);
        if !records[1..].iter().all(runs) {
            for record in records.iter().flatten() {
                record.stop(&site.checkout, GRACE).await?;
            }
            begin_anew(site).await?;
        }
        launch(site, "ceph-mon", &["--id=a"]).map(Some)
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        crate::http::accepts(site.ports.address(MONITOR)?).await
    }
}

#[async_trait(?Send)]
impl Component for Disk {
    fn name(&self) -> &'static str {
        DISK
    }

    fn needs(&self) -> &'static [&'static str] {
        &[MONITOR]
    }

    fn ports(&self) -> &'static [&'static str] {
        &[DISK]
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let launch = launch(site, "ceph-osd", &["--id=0"])?;
        // It is of one monitor's making.
        Ok(Some(
            launch.with_input(process::record_path(&site.checkout, MONITOR)),
        ))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        crate::http::accepts(site.ports.address(DISK)?).await
    }
}

#[async_trait(?Send)]
impl Component for Gateway {
    fn name(&self) -> &'static str {
        GATEWAY
    }

    fn needs(&self) -> &'static [&'static str] {
        &[DISK]
    }

    fn ports(&self) -> &'static [&'static str] {
        &[GATEWAY]
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let launch = launch(site, "radosgw", &["--name=client.rgw"])?;
        Ok(Some(
            launch.with_input(process::record_path(&site.checkout, MONITOR)),
        ))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        let url = format!("http://{}/", site.ports.address(GATEWAY)?);
        crate::http::get(&url, None).await.map(drop)
    }

    async fn furnish(&self, site: &Site) -> Result<()> {
        let keys = Keys {
            manage: user(site, "hubstorage-manage", &["--caps=roles=*"]).await?,
            // Less than none: 0 would be no limit.
            vend: user(site, "hubstorage-vend", &["--max-buckets=-1"]).await?,
            stranger: user(site, "stranger", &[]).await?,
        };
        make_role(site).await?;
        files::write_private(
            &site.checkout.run("rgw/keys.json"),
            serde_json::to_vec_pretty(&keys)?,
        )
    }
}

fn data(site: &Site, part: &str) -> PathBuf {
    site.checkout.run("data/rgw").join(part)
}

fn configuration(site: &Site) -> PathBuf {
    site.checkout.run("rgw/ceph.conf")
}

/// Everything listens on loopback, and whoever reaches it there may do everything: keys are the
/// gateway's business. Whatever Ceph would read or write in /etc, /run and /var is here.
fn write_configuration(site: &Site) -> Result<()> {
    let folder = site.checkout.run("rgw");
    files::make_private_folder(&folder)?;
    let folder = folder.display();
    let ceph = debian::libraries(&site.checkout.run("ceph"));
    let ceph = ceph.display();
    let host = site.ports.host();
    let (monitor, disk) = (site.ports.address(MONITOR)?, site.ports.address(DISK)?);
    let gateway = site.ports.address(GATEWAY)?;
    let (monitor_data, disk_data) = (data(site, "monitor"), data(site, "disk"));
    let sts_key = sts_key(&site.checkout)?;
    let text = format!(
        "\
[global]
fsid = {CLUSTER}
mon host = v2:{monitor}
ms bind msgr1 = false
# The gateway asks for an encrypted channel, which there is none of without cephx.
ms mon client mode = crc
auth cluster required = none
auth service required = none
auth client required = none
keyring = {folder}/none
run dir = {folder}
crash dir = {folder}
admin socket =
log file =
log to stderr = true
mon cluster log file =
debug rocksdb = 0
plugin dir = {ceph}/ceph
erasure code dir = {ceph}/ceph/erasure-code
osd class dir = {ceph}/rados-classes
osd pool default size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true

[mon]
mon data = {monitor_data}
# Each pool takes some rounds, of a second each unless it is told otherwise.
paxos propose interval = 0.1
# It ends at once where less than 5 % of a disk is free, however much that is; ours takes some
# megabytes.
mon data avail crit = 0

[osd]
osd data = {disk_data}
public addr = v2:{disk}
cluster addr = v2:{host}:0
osd objectstore = memstore
memstore device bytes = 1073741824

[client]
rgw data = {folder}
rgw frontends = beast endpoint={gateway}
rgw s3 auth use sts = true
rgw sts key = {sts_key}
# A day of a lifecycle rule lasts ten seconds.
rgw lc debug interval = 10
",
        monitor_data = monitor_data.display(),
        disk_data = disk_data.display(),
    );
    files::write_private(&configuration(site), text)
}

/// What the gateway encrypts session tokens with: 16 characters, made at random.
fn sts_key(checkout: &Checkout) -> Result<String> {
    let path = checkout.run("rgw/sts.key");
    if let Ok(key) = std::fs::read_to_string(&path) {
        return Ok(key);
    }
    let key: String = rand::rng()
        .sample_iter(Alphanumeric)
        .take(16)
        .map(char::from)
        .collect();
    files::write_private(&path, &key)?;
    Ok(key)
}

/// An empty cluster with one disk. The maps are made by hand, as Ceph's own client for that would
/// need its Python modules.
async fn begin_anew(site: &Site) -> Result<()> {
    let maps = data(site, "");
    files::remove(&maps)?;
    for part in ["monitor", "disk"] {
        files::make_private_folder(&data(site, part))?;
    }
    let (monitors, disks) = (maps.join("monitors"), maps.join("disks"));
    let (monitors, disks) = (monitors.display().to_string(), disks.display().to_string());
    let address = format!("v2:{}", site.ports.address(MONITOR)?);
    let create = ["--create", "--fsid", CLUSTER, "--addv", "a", &address];
    run(site, "monmaptool", &[&create[..], &[&monitors]].concat()).await?;
    run(site, "osdmaptool", &["--createsimple", "1", &disks]).await?;
    let make = [
        "--id=a".to_owned(),
        "--mkfs".to_owned(),
        format!("--monmap={monitors}"),
        format!("--osdmap={disks}"),
    ];
    let make: Vec<&str> = make.iter().map(String::as_str).collect();
    run(site, "ceph-mon", &make).await?;
    let id = format!("--osd-uuid={CLUSTER}");
    let make = ["--id=0", "--mkfs", "--no-mon-config", &id];
    run(site, "ceph-osd", &make).await.map(drop)
}

/// The user's key; the user is made if need be. The gateway makes the key, as one on a command line
/// would be seen by everybody.
async fn user(site: &Site, name: &str, rights: &[&str]) -> Result<AccessKey> {
    let uid = format!("--uid={name}");
    let found = admin(site, &["user", "info", &uid]).await;
    let user = match found {
        Ok(user) => user,
        Err(_) => {
            let display = format!("--display-name={name}");
            let create = ["user", "create", uid.as_str(), display.as_str()];
            admin(site, &[&create[..], rights].concat()).await?
        }
    };
    let user: Value = serde_json::from_str(&user).context("a user of the gateway")?;
    let key = &user["keys"][0];
    match (key["access_key"].as_str(), key["secret_key"].as_str()) {
        (Some(id), Some(secret)) => Ok(AccessKey {
            id: id.to_owned(),
            secret: secret.to_owned(),
        }),
        _ => bail!("the gateway made no key for {name}"),
    }
}

/// The role, with the ceiling of every session.
async fn make_role(site: &Site) -> Result<()> {
    let name = format!("--role-name={ROLE}");
    if admin(site, &["role", "get", &name]).await.is_err() {
        let trust = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": {"AWS": ["arn:aws:iam:::user/hubstorage-vend"]},
            "Action": ["sts:AssumeRole"],
            // To the gateway a session is also the user who asked for it, so that it could assume
            // the role once more, without its policy. Only sessions have such an id here.
            "Condition": {"Null": {"aws:userid": ["true"]}},
        }]});
        let path = format!("--path={ROLE_PATH}");
        let trust = format!("--assume-role-policy-doc={trust}");
        admin(site, &["role", "create", &name, &path, &trust]).await?;
    }
    let ceiling = json!({"Version": "2012-10-17", "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject",
                "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
            "Resource": ["arn:aws:s3:::e2e-*/*"],
        },
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
            "Resource": ["arn:aws:s3:::e2e-*"],
        },
    ]});
    let ceiling = format!("--policy-doc={ceiling}");
    let put = ["role-policy", "put", name.as_str(), "--policy-name=ceiling"];
    admin(site, &[&put[..], &[&ceiling]].concat())
        .await
        .map(drop)
}

async fn admin(site: &Site, arguments: &[&str]) -> Result<String> {
    run(site, "radosgw-admin", arguments).await
}

/// Runs one of Ceph's programs to its end, and gives what it printed.
async fn run(site: &Site, program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(path(site, program));
    command
        .env_clear()
        .envs(environment(site))
        .arg("--conf")
        .arg(configuration(site))
        .args(arguments);
    printed(&run_with_input(command, b"").await?, program)
}

fn launch(site: &Site, program: &str, arguments: &[&str]) -> Result<Launch> {
    let configuration = configuration(site);
    let conf = format!("--conf={}", configuration.display());
    let mut all = vec![conf, "-f".to_owned()];
    all.extend(arguments.iter().map(|&argument| argument.to_owned()));
    let mut launch = Launch::new(path(site, program), all).with_input(&configuration);
    for (name, value) in environment(site) {
        launch = launch.with_env(name, value);
    }
    Ok(launch)
}

fn path(site: &Site, program: &str) -> PathBuf {
    site.checkout.run("ceph/usr/bin").join(program)
}

/// Its programs look for one library in a folder of their own below the others.
fn environment(site: &Site) -> [(&'static str, String); 1] {
    let ceph = site.checkout.run("ceph");
    let own = debian::libraries(&ceph).join("ceph");
    let all = format!("{}:{}", own.display(), debian::library_path(&ceph));
    [("LD_LIBRARY_PATH", all)]
}
