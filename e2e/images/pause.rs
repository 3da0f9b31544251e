//! The sandbox image: what holds a pod's namespaces open while its containers come and go.

use std::path::Path;

use anyhow::Result;
use tokio::process::Command;

use super::archive::{Runs, Tree};
use super::{Image, image};
use crate::cache::Key;
use crate::commands::run_logged;
use crate::components::kubernetes::go_version;
use crate::progress::Step;
use crate::site::Site;

const LDFLAGS: &str = "-s -w";

/// Builds the program of `e2e/pause`, and the image that holds nothing else.
pub async fn build(site: &Site) -> Result<Image> {
    let source = site.checkout.path("e2e/pause");
    let key = Key::default()
        .with("go", go_version().await?)
        .with("ldflags", LDFLAGS)
        .with_file(&source.join("go.mod"))?
        .with_file(&source.join("main.go"))?;
    let runs = Runs {
        user: "65535:65535".to_owned(),
        entrypoint: vec!["/pause".to_owned()],
        ..Runs::default()
    };
    let collect = async |folder: &Path, step: &Step| {
        step.now("waiting for another Go build");
        let _turn = site.go.acquire().await?;
        step.now("go build");
        let program = folder.join("pause");
        let mut go = Command::new("go");
        go.current_dir(&source)
            .env("CGO_ENABLED", "0")
            .args(["build", "-trimpath", "-ldflags", LDFLAGS, "-o"])
            .arg(&program)
            .arg(".");
        run_logged(&site.checkout, "build-image-pause", step, go).await?;
        Tree::default().with_file("/pause", &program, 0o755)
    };
    image(site, "pause", key, runs, collect).await
}
