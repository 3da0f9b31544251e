//! What can be said about the code without running it: each check counts as one test.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::cache::{Cache, Key};
use crate::checkout::Checkout;
use crate::commands::{cargo, run_logged};
use crate::files;
use crate::progress::{Progress, Step};
use crate::tally::Tally;

/// cargo-deny's version; it is installed into the cache.
const CARGO_DENY: &str = "0.20.2";

/// Runs all checks.
pub async fn run(checkout: &Checkout) -> Result<Tally> {
    let fmt = passes(checkout, "rustfmt", &["fmt", "--all", "--check"]).await?;
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    let clippy = passes(checkout, "clippy", &lints).await?;
    let deny = verdict("cargo deny", cargo_deny(checkout).await);
    let crds = verdict(
        "crds/ is what `hubstorage crds` prints",
        generated(checkout, "crds", "crds").await,
    );
    let manifests = verdict(
        "charts/hubstorage/ is what `hubstorage manifests` prints",
        generated(checkout, "manifests", "charts/hubstorage").await,
    );
    Ok([fmt, clippy, deny, crds, manifests].into_iter().sum())
}

async fn passes(checkout: &Checkout, name: &str, arguments: &[&str]) -> Result<Tally> {
    let mut command = cargo();
    let status = command
        .current_dir(checkout.root())
        .args(arguments)
        .status()
        .await?;
    let outcome = if status.success() {
        Ok(())
    } else {
        Err(anyhow::anyhow!("cargo {}", arguments.join(" ")))
    };
    Ok(verdict(name, outcome))
}

fn verdict(name: &str, outcome: Result<()>) -> Tally {
    match outcome {
        Ok(()) => {
            println!("{name} ... ok");
            Tally::PASSED
        }
        Err(error) => {
            println!("{name} ... FAILED: {error:#}");
            Tally::FAILED
        }
    }
}

/// Bans, licences and sources. Advisories need a database that is not part of a registry.
async fn cargo_deny(checkout: &Checkout) -> Result<()> {
    files::make_private_folder(&checkout.run("logs"))?;
    let rustc = Command::new("rustc")
        .arg("--version")
        .output()
        .await?
        .stdout;
    let key = Key::default()
        .with("cargo-deny", CARGO_DENY)
        .with("profile", "dev")
        .with("rustc", rustc);
    let installed = Cache::open()?
        .entry(
            &Progress::default(),
            "cargo-deny",
            key,
            async |folder: &Path, step: &Step| {
                let mut install = cargo();
                install
                    .current_dir(folder)
                    // Unoptimised: it runs for two seconds, and compiles in a fifth of the time.
                    .args([
                        "install",
                        "--debug",
                        "--locked",
                        "--version",
                        CARGO_DENY,
                        "--root",
                    ])
                    .arg(folder)
                    .arg("cargo-deny");
                run_logged(checkout, "build-cargo-deny", step, install).await
            },
        )
        .await?;
    let mut command = Command::new(installed.join("bin/cargo-deny"));
    let status = command
        .current_dir(checkout.root())
        .args([
            "deny",
            "--workspace",
            "check",
            "bans",
            "licenses",
            "sources",
        ])
        .status()
        .await?;
    if !status.success() {
        bail!("cargo deny check bans licenses sources");
    }
    Ok(())
}

/// Compares what a subcommand of `hubstorage` prints with the YAML files in a folder, object by
/// object.
async fn generated(checkout: &Checkout, subcommand: &str, folder: &str) -> Result<()> {
    let mut command = cargo();
    command.current_dir(checkout.root()).args([
        "run",
        "--quiet",
        "--package",
        "hubstorage",
        "--",
        subcommand,
    ]);
    let printed = command.output().await?;
    if !printed.status.success() {
        bail!(
            "hubstorage {subcommand}: {}",
            String::from_utf8_lossy(&printed.stderr).trim()
        );
    }
    let printed = objects(&String::from_utf8_lossy(&printed.stdout)).context("its output")?;
    let mut checked_in = BTreeMap::new();
    read_folder(&checkout.path(folder), &mut checked_in)?;

    let names = printed.keys().chain(checked_in.keys());
    let differing: Vec<&str> = names
        .filter(|name| printed.get(*name) != checked_in.get(*name))
        .map(String::as_str)
        .collect();
    if let Some(first) = differing.first() {
        bail!(
            "{} differ, the first is {first}; write what `hubstorage {subcommand}` prints to {folder}/",
            differing.len()
        );
    }
    Ok(())
}

fn read_folder(folder: &Path, into: &mut BTreeMap<String, Value>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            read_folder(&path, into)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = std::fs::read_to_string(&path)?;
            into.extend(objects(&text).with_context(|| path.display().to_string())?);
        }
    }
    Ok(())
}

/// The Kubernetes objects in a stream of YAML documents, by kind, namespace and name. Documents
/// that are no objects, such as a Chart.yaml, are left out.
fn objects(yaml: &str) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let object = Value::deserialize(document)?;
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        if !kind.is_empty() && !name.is_empty() {
            let id = format!("{kind} {}/{name}", text("/metadata/namespace"));
            found.insert(id, object.clone());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str =
        "kind: Secret\nmetadata: {name: a, namespace: n}\n---\nkind: Role\nmetadata: {name: b}\n";

    #[test]
    fn objects_are_told_apart_by_kind_namespace_and_name() {
        let found = objects(TWO).unwrap();

        assert_eq!(found.keys().collect::<Vec<_>>(), ["Role /b", "Secret n/a"]);
    }

    #[test]
    fn a_document_that_is_no_object_is_left_out() {
        assert!(
            objects("name: hubstorage\nversion: 0.1.0\n")
                .unwrap()
                .is_empty()
        );
    }
}
