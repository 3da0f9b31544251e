//! The sandbox image: what holds a pod's namespaces open while its containers come and go.

use std::path::Path;

use anyhow::Result;

use super::archive::{Runs, Tree};
use super::{Image, image};
use crate::go;
use crate::progress::Step;
use crate::site::Site;

const SOURCE: &str = "e2e/pause";

/// Builds the program of `e2e/pause`, and the image that holds nothing else.
pub async fn build(site: &Site) -> Result<Image> {
    let make = || made(site);
    site.images.pause.get_or_try_init(make).await.cloned()
}

async fn made(site: &Site) -> Result<Image> {
    let key = go::key()
        .await?
        .with("ldflags", go::LDFLAGS)
        .with_files_in(&site.checkout.path(SOURCE))?;
    let runs = Runs {
        user: "65535:65535".to_owned(),
        entrypoint: vec!["/pause".to_owned()],
        ..Runs::default()
    };
    let collect = async |folder: &Path, step: &Step| {
        let program = folder.join("pause");
        go::build(
            site,
            step,
            "image-pause",
            SOURCE,
            go::LDFLAGS,
            &program,
            &[],
        )
        .await?;
        Tree::default().with_file("/pause", &program, 0o755)
    };
    image(site, "pause", key, runs, collect).await
}
