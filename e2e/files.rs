//! Files of `.run`: written whole or not at all, and readable by their owner only.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Writes `contents` to `path` with mode 0600. A reader sees the old file or the new one, never
/// a part: the agent and the SDKs read token files at any moment.
pub fn write_private(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    write_with_mode(path, contents.as_ref(), 0o600)
}

/// Like [`write_private`], for a script that its owner runs.
pub fn write_executable(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    write_with_mode(path, contents.as_ref(), 0o700)
}

fn write_with_mode(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    let draft = draft_of(path);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&draft)?;
        file.write_all(contents)?;
        fs::rename(&draft, path)
    };
    write().with_context(|| format!("could not write {}", path.display()))
}

/// Makes `folder` and its parents with mode 0700.
pub fn make_private_folder(folder: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("could not make the folder {}", folder.display()))
}

/// Makes `link` point to `target`, replacing what it pointed to.
pub fn link(target: &Path, link: &Path) -> Result<()> {
    let draft = draft_of(link);
    remove(&draft)?;
    std::os::unix::fs::symlink(target, &draft)
        .and_then(|()| fs::rename(&draft, link))
        .with_context(|| format!("could not link {} to {}", link.display(), target.display()))
}

/// Copies `from` to `to` unless `to` already has the same contents. A running program keeps the
/// file it was started from, because the copy is a new file that takes over the name.
pub fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("could not copy {} to {}", from.display(), to.display());
    let new = fs::read(from).with_context(context)?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let draft = draft_of(to);
    fs::copy(from, &draft)
        .and_then(|_| fs::rename(&draft, to))
        .with_context(context)
}

/// Removes a file, a link or a whole folder; nothing there is fine.
pub fn remove(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let removed = if found.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.with_context(|| format!("could not remove {}", path.display()))
}

/// The last `count` lines of a log, for an error message.
pub fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");

        write_private(&path, "secret").unwrap();

        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_copy_with_the_same_contents_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        fs::write(folder.join("from"), "program").unwrap();
        copy_if_changed(&folder.join("from"), &folder.join("to")).unwrap();
        let before = fs::metadata(folder.join("to")).unwrap().modified().unwrap();

        copy_if_changed(&folder.join("from"), &folder.join("to")).unwrap();

        let after = fs::metadata(folder.join("to")).unwrap().modified().unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn the_last_lines_of_a_short_log_are_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "one\ntwo\n").unwrap();

        assert_eq!(last_lines(&path, 10), "one\ntwo");
    }
}
