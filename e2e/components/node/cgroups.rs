//! One cgroup for the runtime and all pods: whatever is in it was started by the platform.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

const MOUNT: &str = "/sys/fs/cgroup";

/// Its name below the root of every hierarchy: the kubelet's `cgroupRoot`.
pub const ROOT: &str = "/hubstorage-e2e";

/// How long processes may take to go after KILL.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// The cgroup, in every hierarchy that the kernel has: one of its own for each controller in
/// version 1, a single one in version 2.
pub struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    /// Where it is; it need not exist.
    pub fn find() -> Result<Self> {
        let mount = Path::new(MOUNT);
        let name = ROOT.trim_start_matches('/');
        if mount.join("cgroup.controllers").exists() {
            return Ok(Self(vec![mount.join(name)]));
        }
        let mut folders = Vec::new();
        for entry in fs::read_dir(mount).context(MOUNT)? {
            let entry = entry?;
            // Links name combined controllers a second time (`cpu` for `cpu,cpuacct`).
            if entry.file_type()?.is_dir() {
                folders.push(entry.path().join(name));
            }
        }
        Ok(Self(folders))
    }

    /// Makes it, with a part of its own for the runtime. Returns the files that a process writes
    /// its id to in order to be in that part.
    pub fn make(&self) -> Result<Vec<PathBuf>> {
        let parts = self.0.iter().map(|folder| {
            let part = folder.join("runtime");
            fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
            // A fresh cpuset has no processors and takes no process.
            for inherited in ["cpuset.cpus", "cpuset.mems"] {
                for folder in [folder, &part] {
                    inherit(folder, inherited)?;
                }
            }
            Ok(part.join("cgroup.procs"))
        });
        parts.collect()
    }

    /// Ends every process in it and removes it.
    pub async fn remove(&self) -> Result<()> {
        let give_up = tokio::time::Instant::now() + GONE_WITHIN;
        loop {
            let processes: Vec<i32> = self.0.iter().flat_map(|folder| members(folder)).collect();
            if processes.is_empty() {
                break;
            }
            if tokio::time::Instant::now() > give_up {
                bail!("processes {processes:?} of the node's pods did not end, not even by KILL");
            }
            for pid in processes.into_iter().filter_map(Pid::from_raw) {
                // An error here means that it has gone in the meantime.
                let _ = kill_process(pid, Signal::KILL);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for folder in &self.0 {
            remove_folder(folder)?;
        }
        Ok(())
    }
}

/// Copies a setting of the parent, where there is such a setting and it is not made yet.
fn inherit(folder: &Path, name: &str) -> Result<()> {
    let own = folder.join(name);
    let is_empty = fs::read_to_string(&own).is_ok_and(|value| value.trim().is_empty());
    if let (true, Some(parent)) = (is_empty, folder.parent()) {
        let value = fs::read_to_string(parent.join(name))?;
        fs::write(&own, value).with_context(|| own.display().to_string())?;
    }
    Ok(())
}

/// The processes in a cgroup and in all below it.
fn members(folder: &Path) -> Vec<i32> {
    let own = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    for below in folders_in(folder) {
        found.extend(members(&below));
    }
    found
}

/// Removes the deepest first: a cgroup's files cannot be removed, only its empty folder.
fn remove_folder(folder: &Path) -> Result<()> {
    for below in folders_in(folder) {
        remove_folder(&below)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| folder.display().to_string())
        }
        _ => Ok(()),
    }
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
