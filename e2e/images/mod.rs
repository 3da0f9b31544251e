//! Container images, made by the harness itself: the machine needs no container engine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::sync::OnceCell;

use crate::cache::Key;
use crate::files;
use crate::progress::Step;
use crate::site::Site;

pub mod archive;
pub mod notebook;
pub mod operator;
pub mod pause;

use archive::{Runs, Tree};

/// Where the references begin. No registry has this name, so nothing is ever pulled.
const REPOSITORY: &str = "localhost/hubstorage";

/// An image, to be imported with `ctr images import`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What pods call it: `localhost/hubstorage/NAME:TAG`, the tag made from all that the image
    /// was made from.
    pub reference: String,
    /// The archive, in the cache.
    pub archive: PathBuf,
}

/// The images of one `up`. Each is asked for by several components, and what goes into it is read only
/// once: a notebook's requirements, a binary and its libraries.
#[derive(Default)]
pub struct Made {
    pause: OnceCell<Image>,
    operator: OnceCell<Image>,
    agent: OnceCell<Image>,
    notebook: OnceCell<Image>,
}

/// The image `name` for `key`: found in the cache, or made of what `collect` puts together. It may
/// use the folder that it is given, which is gone when the archive is written.
async fn image<F>(site: &Site, name: &str, key: Key, runs: Runs, collect: F) -> Result<Image>
where
    F: AsyncFnOnce(&Path, &Step) -> Result<Tree>,
{
    let key = key
        .with("format", archive::FORMAT)
        .with("runs", serde_json::to_vec(&runs)?);
    let tag = &key.clone().hex()[..16];
    let reference = format!("{REPOSITORY}/{name}:{tag}");
    let make = async |folder: &Path, step: &Step| {
        let workplace = folder.join("workplace");
        files::make_private_folder(&workplace)?;
        let tree = collect(&workplace, step).await?;
        step.now("writing the archive");
        let (archive, reference) = (folder.join(ARCHIVE), reference.clone());
        // The notebook's is a gigabyte: the other components go on meanwhile.
        tokio::task::spawn_blocking(move || archive::write(&archive, &reference, &runs, &tree))
            .await
            .context("the writer of the archive")??;
        files::remove(&workplace)
    };
    let folder = site
        .cache
        .entry(&site.progress, &format!("image-{name}"), key, make)
        .await?;
    Ok(Image {
        archive: folder.join(ARCHIVE),
        reference,
    })
}

/// The archive's name in its entry of the cache.
const ARCHIVE: &str = "image.tar";
