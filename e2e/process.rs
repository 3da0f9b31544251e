//! Processes that outlive the command that started them, and are found again safely.
//!
//! A process is identified by its pid, the time of its start and the boot it belongs to, so a pid
//! that the system has given to somebody else is never signalled. It writes that record itself,
//! before it becomes the program it is to run: there is no moment in which it runs unrecorded,
//! even if the command that starts it is killed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::cache::Key;
use crate::checkout::Checkout;
use crate::files;

/// The folder in `.run` with one record per process.
const RECORDS: &str = "processes";

/// Held shared by a process that is writing its record, and exclusively while records are listed
/// for the last time.
const LAUNCH_LOCK: &str = "launch.lock";

/// A program to run, with the whole of its environment.
#[derive(Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments. They are visible to every user of the machine: no secrets.
    pub arguments: Vec<String>,
    /// Its whole environment: nothing is inherited.
    pub environment: BTreeMap<String, String>,
    /// Files that it reads at its start.
    pub inputs: Vec<PathBuf>,
}

impl Launch {
    /// A launch of `program` with an empty environment.
    pub fn new<S: Into<String>>(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            inputs: Vec::new(),
        }
    }

    /// Names a file that it reads at its start: with other contents, it is out of date.
    pub fn with_input(mut self, path: impl Into<PathBuf>) -> Self {
        self.inputs.push(path.into());
        self
    }

    /// Sets one environment variable.
    pub fn with_env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// A digest of program, arguments, environment and inputs: a process with another one is out of
    /// date.
    pub fn fingerprint(&self) -> Result<String> {
        let file = fs::metadata(&self.program)
            .with_context(|| format!("no program at {}", self.program.display()))?;
        let mut key = Key::default()
            .with("program", self.program.display().to_string())
            .with("bytes", file.len().to_be_bytes())
            .with(
                "modified",
                format!("{}.{}", file.mtime(), file.mtime_nsec()),
            );
        for argument in &self.arguments {
            key = key.with("argument", argument);
        }
        for input in &self.inputs {
            key = key.with_file(input)?;
        }
        for (name, value) in &self.environment {
            key = key.with(name, value);
        }
        Ok(key.hex())
    }
}

/// What is known of a process that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The component's name.
    pub name: String,
    /// Process id, and the id of its session and process group.
    pub pid: i32,
    /// Start time in clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`: after a restart of the machine nothing matches.
    pub boot: String,
    /// [`Launch::fingerprint`].
    pub fingerprint: String,
}

impl Record {
    /// The record of the component `name`, if it was ever started.
    pub fn of(checkout: &Checkout, name: &str) -> Option<Self> {
        let text = fs::read(record_path(checkout, name)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// All records.
    pub fn all(checkout: &Checkout) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(checkout.run(RECORDS)) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let is_record = path
                    .extension()
                    .is_some_and(|extension| extension == "json");
                is_record.then(|| serde_json::from_slice(&fs::read(path).ok()?).ok())?
            })
            .collect()
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        boot_id().is_some_and(|boot| boot == self.boot)
            && start_time_of(self.pid) == Some(self.start_time)
    }

    /// Ends the process: TERM, and KILL when it has not gone after `grace`. A process that has
    /// taken over the pid is left alone.
    pub async fn stop(&self, checkout: &Checkout, grace: Duration) -> Result<()> {
        if let Some(pid) = Pid::from_raw(self.pid)
            && let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
            // Checked after the handle was opened: from here on the handle means this process.
            && self.is_alive()
        {
            // An error here means that it has gone in the meantime.
            let _ = pidfd_send_signal(&handle, Signal::TERM);
            if !self.is_gone_within(grace).await {
                let _ = pidfd_send_signal(&handle, Signal::KILL);
                if !self.is_gone_within(Duration::from_secs(10)).await {
                    bail!(
                        "{} (pid {}) did not end, not even by KILL",
                        self.name,
                        self.pid
                    );
                }
            }
        }
        files::remove(&record_path(checkout, &self.name))
    }

    async fn is_gone_within(&self, limit: Duration) -> bool {
        let wait = async {
            while self.is_alive() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }
}

/// Starts a process in its own session, with its output appended to its log. Uses this very
/// program (see [`become_recorded`]) to write the record first.
pub fn spawn(checkout: &Checkout, name: &str, launch: &Launch) -> Result<std::process::Child> {
    files::make_private_folder(&checkout.run(RECORDS))?;
    let log_path = checkout.log(name);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log_path)
        .with_context(|| format!("could not open {}", log_path.display()))?;
    // Not the path of this program: a build may have put a new one there.
    Command::new("/proc/self/exe")
        .arg("become")
        .args([
            "--name",
            name,
            "--fingerprint",
            &launch.fingerprint()?,
            "--",
        ])
        .arg(&launch.program)
        .args(&launch.arguments)
        .env_clear()
        .envs(&launch.environment)
        .current_dir(checkout.root())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("could not start {name}"))
}

/// Writes this process's record and becomes `program`. Pid and start time survive that. Returns
/// only if it fails.
pub fn become_recorded(
    checkout: &Checkout,
    name: &str,
    fingerprint: &str,
    program: &Path,
    arguments: &[String],
) -> Result<()> {
    let lock = File::create(checkout.run(LAUNCH_LOCK)).context("the platform was stopped")?;
    lock.lock_shared()?;
    rustix::process::setsid().context("a session of its own")?;
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let record = Record {
        name: name.to_owned(),
        pid,
        start_time: start_time_of(pid).context("/proc/self/stat")?,
        boot: boot_id().context("/proc/sys/kernel/random/boot_id")?,
        fingerprint: fingerprint.to_owned(),
    };
    files::write_private(
        &record_path(checkout, name),
        serde_json::to_vec_pretty(&record)?,
    )?;
    // The lock is released when the new program closes it, which is after the record is there.
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("could not run {}", program.display()))
}

/// Waits until no process is between being started and having written its record.
pub async fn wait_for_launches(checkout: &Checkout) -> Result<()> {
    let Ok(lock) = File::open(checkout.run(LAUNCH_LOCK)) else {
        return Ok(());
    };
    crate::cache::wait_for_lock(&lock).await
}

/// The file with the record of the component `name`. As an input of another's launch it makes that
/// one start anew after it.
pub fn record_path(checkout: &Checkout, name: &str) -> PathBuf {
    checkout.run(RECORDS).join(format!("{name}.json"))
}

fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// The start time of a process that runs; none for one that has ended and only waits to be
/// collected by its parent.
fn start_time_of(pid: i32) -> Option<u64> {
    parse_start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5): the second field is the command in parentheses and may itself hold spaces
/// and parentheses; state is field 3, start time field 22.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after_command) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = after_command.split(' ').collect();
    let (state, start_time) = (fields.first()?, fields.get(22 - 3)?);
    if ["Z", "X"].contains(state) {
        return None;
    }
    start_time.parse().ok()
}

/// Processes for the tests of several modules.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "for tests")]
pub mod fixture {
    use super::*;

    /// A process whose record is in the checkout.
    pub fn recorded_sleeper(checkout: &Checkout) -> (std::process::Child, Record) {
        let (child, record) = sleeper();
        files::make_private_folder(&checkout.run(RECORDS)).unwrap();
        let text = serde_json::to_vec(&record).unwrap();
        files::write_private(&record_path(checkout, &record.name), text).unwrap();
        (child, record)
    }

    /// A process, and its record, which is written nowhere.
    pub fn sleeper() -> (std::process::Child, Record) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let record = Record {
            name: "sleeper".into(),
            pid,
            start_time: start_time_of(pid).unwrap(),
            boot: boot_id().unwrap(),
            fingerprint: String::new(),
        };
        (child, record)
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::sleeper;
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_hide_the_start_time() {
        let fields = (4..=22)
            .map(|field| field.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        let stat = format!("7 (a) b (c)) S {fields} 23 24");

        assert_eq!(parse_start_time(&stat), Some(22));
    }

    #[test]
    fn a_process_that_only_waits_to_be_collected_is_not_alive() {
        let fields = (4..=22)
            .map(|field| field.to_string())
            .collect::<Vec<_>>()
            .join(" ");

        assert_eq!(parse_start_time(&format!("7 (gone) Z {fields}")), None);
    }

    #[tokio::test]
    async fn stopping_ends_the_recorded_process() {
        let (mut child, record) = sleeper();

        let folder = tempfile::tempdir().unwrap();
        let checkout = Checkout::at(folder.path());

        record
            .stop(&checkout, Duration::from_secs(5))
            .await
            .unwrap();

        assert!(!child.wait().unwrap().success());
    }

    #[tokio::test]
    async fn a_pid_that_was_given_to_somebody_else_is_never_signalled() {
        let (mut child, record) = sleeper();
        let stale = [
            Record {
                start_time: record.start_time - 1,
                ..record.clone()
            },
            Record {
                boot: "another boot".into(),
                ..record.clone()
            },
        ];

        let folder = tempfile::tempdir().unwrap();
        let checkout = Checkout::at(folder.path());

        for stale in stale {
            stale.stop(&checkout, Duration::from_secs(5)).await.unwrap();
        }

        assert!(record.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_changed_argument_or_variable_makes_a_process_out_of_date() {
        let launch = Launch::new("/bin/sh", ["-c", "true"]);
        let fingerprints = [
            launch.fingerprint().unwrap(),
            Launch::new("/bin/sh", ["-c", "false"])
                .fingerprint()
                .unwrap(),
            launch.clone().with_env("A", "1").fingerprint().unwrap(),
        ];

        assert_eq!(launch.fingerprint().unwrap(), fingerprints[0]);
        assert_ne!(fingerprints[0], fingerprints[1]);
        assert_ne!(fingerprints[0], fingerprints[2]);
    }
}
