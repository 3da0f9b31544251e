//! What was built is kept per user, outside the checkout, under a name made from everything that
//! went into it: two checkouts share it, and a changed pin builds anew without touching the old.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::files;
use crate::progress::{Progress, Step};

/// The folder of built things.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

/// Everything that a built thing depends on, as a digest.
#[derive(Clone, Default)]
pub struct Key(Sha256);

impl Key {
    /// Adds one named input.
    pub fn with(mut self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        let contents = contents.as_ref();
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        self.0.update((name.len() as u64).to_be_bytes());
        self.0.update(name);
        self.0.update((contents.len() as u64).to_be_bytes());
        self.0.update(contents);
        self
    }

    /// Adds a file: its name, not its path, and its contents.
    pub fn with_file(self, path: &Path) -> Result<Self> {
        let contents = std::fs::read(path).with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(self.with(&name, contents))
    }

    /// Adds the files of a folder, in the order of their names.
    pub fn with_files_in(mut self, folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            files.push(entry?.path());
        }
        files.sort();
        for file in files {
            self = self.with_file(&file)?;
        }
        Ok(self)
    }

    /// The digest in hexadecimal.
    pub fn hex(self) -> String {
        self.0
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl Cache {
    /// `$HUBSTORAGE_CACHE`, else `hubstorage` in the user's cache folder.
    pub fn open() -> Result<Self> {
        let from = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let folder = from("HUBSTORAGE_CACHE")
            .or_else(|| from("XDG_CACHE_HOME").map(|folder| folder.join("hubstorage")))
            .or_else(|| from("HOME").map(|home| home.join(".cache/hubstorage")));
        let Some(folder) = folder else {
            bail!("no folder for what is built: set HUBSTORAGE_CACHE, XDG_CACHE_HOME or HOME");
        };
        Ok(Self {
            folder: std::path::absolute(folder)?,
        })
    }

    /// The folder of built things.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The entry `name` for `key`: found, or built by `make` into a folder that takes its final
    /// name only when it is complete. Another process that builds the same is waited for.
    pub async fn entry<F>(
        &self,
        progress: &Progress,
        name: &str,
        key: Key,
        make: F,
    ) -> Result<PathBuf>
    where
        F: AsyncFnOnce(&Path, &Step) -> Result<()>,
    {
        let id = format!("{name}-{}", &key.hex()[..24]);
        let entry = self.folder.join(&id);
        if entry.is_dir() {
            return Ok(entry);
        }
        files::make_private_folder(&self.folder)?;
        let step = progress.step(format!("build {name}"), "building");
        let lock_path = self.folder.join(format!("{id}.lock"));
        let lock = File::create(&lock_path).with_context(|| lock_path.display().to_string())?;
        if lock.try_lock().is_err() {
            step.now("another process builds it");
            wait_for_lock(&lock)
                .await
                .with_context(|| lock_path.display().to_string())?;
        }
        if entry.is_dir() {
            step.done("built by another process");
            return Ok(entry);
        }

        self.remove_remains(&id)?;
        let draft = self
            .folder
            .join(format!("{id}.draft-{}", std::process::id()));
        files::make_private_folder(&draft)?;
        make(&draft, &step)
            .await
            .with_context(|| format!("could not build {name}"))?;
        std::fs::rename(&draft, &entry)
            .with_context(|| format!("could not keep the build in {}", entry.display()))?;
        step.done("built");
        Ok(entry)
    }

    /// Drafts of builds that were killed. Only called under the entry's lock.
    fn remove_remains(&self, id: &str) -> Result<()> {
        let prefix = format!("{id}.draft-");
        for found in std::fs::read_dir(&self.folder)? {
            let found = found?;
            if found.file_name().to_string_lossy().starts_with(&prefix) {
                files::remove(&found.path())?;
            }
        }
        Ok(())
    }
}

/// Takes an exclusive lock without blocking the other steps. The system releases it when its
/// holder ends, however it ends.
pub async fn wait_for_lock(lock: &File) -> Result<()> {
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tempfile::TempDir;

    use super::*;

    /// A cache in a folder that goes with the first value.
    fn cache() -> (TempDir, Cache) {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("cache");
        (home, Cache { folder })
    }

    fn key(contents: &str) -> Key {
        Key::default().with("pin", contents)
    }

    #[test]
    fn the_key_tells_names_from_contents() {
        let one = Key::default().with("ab", "c").hex();
        let other = Key::default().with("a", "bc").hex();

        assert_ne!(one, other);
    }

    #[tokio::test]
    async fn an_entry_is_built_once_however_many_ask_for_it() {
        let (_home, cache) = cache();
        let (progress, builds) = (Progress::default(), AtomicUsize::new(0));
        let ask = || {
            cache.entry(
                &progress,
                "thing",
                key("1"),
                async |folder: &Path, _: &Step| {
                    builds.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Ok(std::fs::write(folder.join("binary"), "built")?)
                },
            )
        };

        let (first, second) = tokio::join!(ask(), ask());

        assert_eq!(first.unwrap(), second.unwrap());
        assert_eq!(builds.into_inner(), 1);
    }

    #[tokio::test]
    async fn a_failed_build_leaves_no_entry_and_is_tried_again() {
        let ((_home, cache), progress) = (cache(), Progress::default());
        let failed = cache
            .entry(&progress, "thing", key("1"), async |_: &Path, _: &Step| {
                bail!("no compiler")
            })
            .await;
        assert!(failed.is_err());

        let entry = cache
            .entry(
                &progress,
                "thing",
                key("1"),
                async |folder: &Path, _: &Step| Ok(std::fs::write(folder.join("binary"), "built")?),
            )
            .await
            .unwrap();

        assert_eq!(std::fs::read(entry.join("binary")).unwrap(), b"built");
    }

    #[tokio::test]
    async fn a_changed_input_is_another_entry() {
        let ((_home, cache), progress) = (cache(), Progress::default());
        let mut entries = Vec::new();

        for pin in ["1", "2"] {
            let made = cache.entry(&progress, "thing", key(pin), async |_: &Path, _: &Step| {
                Ok(())
            });
            entries.push(made.await.unwrap());
        }

        assert_ne!(entries[0], entries[1]);
    }
}
