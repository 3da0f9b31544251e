//! The operator's two images: a binary and the libraries that it needs, as in `Dockerfile`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::archive::{Runs, Tree};
use super::{Image, image};
use crate::cache::Key;
use crate::commands::run_logged;
use crate::components::operator;
use crate::progress::Step;
use crate::site::Site;

/// Nobody in particular: no other image of ours has this user.
const USER: &str = "65532:65532";

/// Certificates of public authorities, for stores that have one.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The image of controller and serve. The binaries are built before (`operator::build`).
pub async fn operator(site: &Site) -> Result<Image> {
    let make = || binary_image(site, "hubstorage", &[CERTIFICATES]);
    site.images.operator.get_or_try_init(make).await.cloned()
}

/// The image of the agent.
pub async fn agent(site: &Site) -> Result<Image> {
    let make = || binary_image(site, "hubstorage-agent", &[]);
    site.images.agent.get_or_try_init(make).await.cloned()
}

async fn binary_image(site: &Site, binary: &str, files: &[&str]) -> Result<Image> {
    let program = operator::program(&site.checkout, binary);
    let mut sources = libraries(&program).await?;
    sources.extend(files.iter().map(PathBuf::from));
    let mut key = Key::default().with_file(&program)?;
    for source in &sources {
        key = key.with_file(source)?;
    }
    let at = format!("/usr/bin/{binary}");
    let runs = Runs {
        user: USER.to_owned(),
        entrypoint: vec![at.clone()],
        ..Runs::default()
    };
    let collect = async |folder: &Path, step: &Step| {
        let stripped = folder.join(binary);
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(&stripped).arg(&program);
        run_logged(
            &site.checkout,
            &format!("build-image-{binary}"),
            step,
            strip,
        )
        .await?;
        let mut tree = Tree::default().with_file(&at, &stripped, 0o755)?;
        for source in &sources {
            let mode = if source.to_string_lossy().contains("/ld-linux") {
                0o755
            } else {
                0o644
            };
            tree = tree.with_file(&source.display().to_string(), source, mode)?;
        }
        Ok(tree)
    };
    image(site, binary, key, runs, collect).await
}

/// The loader and the libraries that a program needs, at the paths where the loader looks for them.
pub async fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .await
        .context("could not run ldd")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut found = Vec::new();
    for line in said.lines() {
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`;
        // what has no path is the kernel's.
        if line.contains("not found") {
            bail!("{}: {}", program.display(), line.trim());
        }
        found.extend(
            line.split_whitespace()
                .find(|word| word.starts_with('/'))
                .map(PathBuf::from),
        );
    }
    Ok(found)
}
