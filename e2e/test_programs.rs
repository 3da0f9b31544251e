//! The test programs of the workspace, built at once.
//!
//! `cargo test --package X` would choose features for X alone, and compile the large dependencies
//! anew for every tier. So everything is built in one go, and each tier runs its programs.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

use crate::checkout::Checkout;
use crate::commands::cargo;

/// One test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestProgram {
    /// The package whose tests these are.
    pub package: String,
    /// Its name in that package: of its file in `tests/`, or of the library or binary.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// The package's folder, in which cargo runs its tests.
    pub folder: PathBuf,
}

impl TestProgram {
    /// The command that runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

/// The part of cargo's messages that is of interest: `compiler-artifact`
/// (The Cargo Book, "External tools").
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    package_id: Option<String>,
    target: Option<Target>,
    executable: Option<PathBuf>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds every test program of the workspace.
pub async fn build(checkout: &Checkout) -> Result<Vec<TestProgram>> {
    let output = cargo()
        .current_dir(checkout.root())
        .args([
            "test",
            "--workspace",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .output()
        .await
        .context("could not run cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let messages = String::from_utf8(output.stdout).context("cargo's messages")?;
    let mut found = messages
        .lines()
        .filter_map(|line| program(line).transpose())
        .collect::<Result<Vec<_>>>()?;
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// The test program that a message tells of, if it does.
fn program(line: &str) -> Result<Option<TestProgram>> {
    let message: Message =
        serde_json::from_str(line).with_context(|| format!("cargo said: {line}"))?;
    let is_test = message.profile.is_some_and(|profile| profile.test);
    let (true, Some(path)) = (
        message.reason == "compiler-artifact" && is_test,
        message.executable,
    ) else {
        return Ok(None);
    };
    let manifest = message
        .manifest_path
        .context("an artifact without a manifest")?;
    let folder = manifest.parent().context("a manifest without a folder")?;
    Ok(Some(TestProgram {
        package: package_name(&message.package_id.unwrap_or_default()).to_owned(),
        name: message.target.context("an artifact of no target")?.name,
        path,
        folder: folder.to_owned(),
    }))
}

/// The name in a package id: `path+file:///…/agent#hubstorage-agent@0.1.0`, or `…/name#0.1.0`
/// where the folder has the package's name.
fn package_name(id: &str) -> &str {
    let (location, fragment) = id.rsplit_once('#').unwrap_or(("", id));
    match fragment.split_once('@') {
        Some((name, _)) => name,
        None => location.rsplit('/').next().unwrap_or(location),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_program_is_told_from_other_artifacts() {
        let message = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///w/src/core#hubstorage-core@0.1.0",
                "manifest_path":"/w/src/core/Cargo.toml","target":{{"name":"names"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };

        let found = program(&message(true, "\"/t/core-1\"")).unwrap().unwrap();

        assert_eq!(found.package, "hubstorage-core");
        assert_eq!(found.name, "names");
        assert_eq!(found.path, PathBuf::from("/t/core-1"));
        assert_eq!(found.folder, PathBuf::from("/w/src/core"));
        assert_eq!(program(&message(false, "\"/t/core\"")).unwrap(), None);
        assert_eq!(program(&message(true, "null")).unwrap(), None);
        let finished = r#"{"reason":"build-finished","success":true}"#;
        assert_eq!(program(finished).unwrap(), None);
    }

    #[test]
    fn a_package_id_names_the_package_or_its_folder() {
        assert_eq!(
            package_name("path+file:///w/src/agent#hubstorage-agent@0.1.0"),
            "hubstorage-agent"
        );
        assert_eq!(
            package_name("path+file:///w/hubstorage#0.1.0"),
            "hubstorage"
        );
    }
}
