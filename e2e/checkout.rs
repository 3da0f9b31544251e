//! Where everything is: the checkout and its git-ignored `.run` folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::files;

/// A checkout of this repository, found from the working directory.
#[derive(Debug, Clone)]
pub struct Checkout {
    root: PathBuf,
}

/// The file by which a checkout is recognised.
const LANDMARK: &str = "e2e/platform/go.mod";

/// The folder in `.run` with further checkouts.
const BESIDE: &str = "beside";

/// What of a checkout is no source.
const NO_SOURCES: [&str; 3] = [".run", ".git", "target"];

impl Checkout {
    /// The checkout that holds the working directory. `cargo test` starts in the crate's folder
    /// and `make` in the root, so parents are searched too.
    pub fn find() -> Result<Self> {
        let start = std::env::current_dir().context("the working directory")?;
        for folder in start.ancestors() {
            if folder.join(LANDMARK).is_file() {
                return Ok(Self::at(folder));
            }
        }
        bail!(
            "{} is not inside a checkout of hubstorage (no folder above it holds {LANDMARK}); run this from the checkout",
            start.display()
        )
    }

    /// The checkout at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A further checkout in this one's `.run`, of links to all of its sources, for tests that would
    /// disturb the platform here. `down` here takes down what runs there first.
    pub fn beside(&self, name: &str) -> Result<Self> {
        let folder = self.run(BESIDE).join(name);
        files::make_private_folder(&folder)?;
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            if !NO_SOURCES.iter().any(|name| entry.file_name() == *name) {
                files::link(&entry.path(), &folder.join(entry.file_name()))?;
            }
        }
        Ok(Self::at(folder))
    }

    /// The further checkouts that there are.
    pub fn all_beside(&self) -> Result<Vec<Self>> {
        let Ok(entries) = std::fs::read_dir(self.run(BESIDE)) else {
            return Ok(Vec::new());
        };
        entries.map(|entry| Ok(Self::at(entry?.path()))).collect()
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the checkout.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A path in `.run`, where everything is that belongs to the running platform.
    pub fn run(&self, relative: &str) -> PathBuf {
        self.root.join(".run").join(relative)
    }

    /// The log of one component or build.
    pub fn log(&self, name: &str) -> PathBuf {
        self.run("logs").join(format!("{name}.log"))
    }

    /// `path` as a person in the root folder would type it.
    pub fn display(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}
