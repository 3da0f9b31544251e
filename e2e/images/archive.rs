//! Image archives, written without a container engine: a tar that holds one layer, the image's
//! configuration and `manifest.json`, as `docker save` writes them. `ctr images import` takes it,
//! and so does `docker load`.
//!
//! The same contents give the same bytes: entries are sorted, times are fixed, owners are numbers.
//! The parts: <https://github.com/moby/docker-image-spec/blob/main/spec.md>.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Part of the key of every image that is kept: raised when other bytes are written for the same
/// contents. A test says when that is.
pub const FORMAT: &str = "1";

/// 2020-01-01, the time of every file: some archive formats have no years before 1980.
const TIME: u64 = 1_577_836_800;

/// How a container of the image runs.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Runs {
    /// `UID:GID`, as numbers: an image need not have an `/etc/passwd`.
    pub user: String,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments for where the pod gives none.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where it starts; `/` where empty.
    pub working_dir: String,
}

/// The files of an image, by their path in it.
#[derive(Debug, Default)]
pub struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    mode: u32,
    uid: u64,
    gid: u64,
}

#[derive(Debug)]
enum Kind {
    Folder,
    /// A file with the contents of this one.
    File(PathBuf),
    /// A symbolic link to this path.
    Link(PathBuf),
}

impl Tree {
    /// Adds a file of root's with the contents of `source`, and the folders above it.
    pub fn with_file(mut self, at: &str, source: &Path, mode: u32) -> Result<Self> {
        let at = relative(Path::new(at))?;
        for folder in at.ancestors().skip(1).filter(|path| *path != Path::new("")) {
            self.entries.entry(folder.to_owned()).or_insert(Entry {
                kind: Kind::Folder,
                mode: 0o755,
                uid: 0,
                gid: 0,
            });
        }
        let kind = Kind::File(source.to_owned());
        let (uid, gid) = (0, 0);
        let entry = Entry {
            kind,
            mode,
            uid,
            gid,
        };
        self.entries.insert(at, entry);
        Ok(self)
    }

    /// Everything under `root`, with its modes and owners. Devices, sockets and pipes are left
    /// out: the container runtime makes the ones that a container has.
    pub fn of_folder(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.add_folder(root, Path::new(""))?;
        Ok(tree)
    }

    fn add_folder(&mut self, root: &Path, folder: &Path) -> Result<()> {
        let real = root.join(folder);
        for found in std::fs::read_dir(&real).with_context(|| real.display().to_string())? {
            let found = found?;
            let (path, metadata) = (folder.join(found.file_name()), found.metadata()?);
            let kind = metadata.file_type();
            let kind = if kind.is_dir() {
                self.add_folder(root, &path)?;
                Kind::Folder
            } else if kind.is_file() {
                Kind::File(found.path())
            } else if kind.is_symlink() {
                Kind::Link(std::fs::read_link(found.path())?)
            } else {
                continue;
            };
            let entry = Entry {
                kind,
                mode: metadata.permissions().mode() & 0o7777,
                uid: metadata.uid().into(),
                gid: metadata.gid().into(),
            };
            self.entries.insert(path, entry);
        }
        Ok(())
    }

    /// The files' contents and modes by their path in the image, sorted by it.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &Path, u32)> {
        self.entries
            .iter()
            .filter_map(|(at, entry)| match &entry.kind {
                Kind::File(source) => Some((at.as_path(), source.as_path(), entry.mode)),
                Kind::Folder | Kind::Link(_) => None,
            })
    }

    fn write(&self, to: impl Write) -> Result<()> {
        let mut layer = Builder::new(to);
        for (path, entry) in &self.entries {
            let mut header = header(entry.mode);
            header.set_uid(entry.uid);
            header.set_gid(entry.gid);
            let written = match &entry.kind {
                Kind::Folder => {
                    header.set_entry_type(EntryType::Directory);
                    layer.append_data(&mut header, path, io::empty())
                }
                Kind::Link(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    layer.append_link(&mut header, path, target)
                }
                Kind::File(source) => {
                    let file = File::open(source).with_context(|| source.display().to_string())?;
                    append_file(&mut layer, &mut header, path, &file)
                }
            };
            written.with_context(|| format!("{} of the image", path.display()))?;
        }
        layer.into_inner()?.flush()?;
        Ok(())
    }
}

/// A path of the image without the leading `/`.
fn relative(path: &Path) -> Result<PathBuf> {
    let parts = path.strip_prefix("/").unwrap_or(path);
    let is_plain = |part| matches!(part, Component::Normal(_));
    if parts.as_os_str().is_empty() || !parts.components().all(is_plain) {
        bail!("{} is no path of a file in an image", path.display());
    }
    Ok(parts.components().collect())
}

/// Writes the archive of an image of one layer.
pub fn write(archive: &Path, reference: &str, runs: &Runs, tree: &Tree) -> Result<()> {
    let layer_path = archive.with_extension("layer");
    let mut layer = Hashed::new(BufWriter::new(File::create(&layer_path)?));
    tree.write(&mut layer)?;
    let layer_digest = layer.hex();
    let config = serde_json::to_vec(&json!({
        "architecture": architecture()?,
        "os": "linux",
        "config": runs,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    }))?;
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let layer_name = format!("{layer_digest}.tar");
    let manifest = serde_json::to_vec(&json!([
        {"Config": config_name, "RepoTags": [reference], "Layers": [layer_name]}
    ]))?;

    let mut tar = Builder::new(BufWriter::new(File::create(archive)?));
    append_bytes(&mut tar, &config_name, &config)?;
    append_file(
        &mut tar,
        &mut header(0o644),
        Path::new(&layer_name),
        &File::open(&layer_path)?,
    )?;
    append_bytes(&mut tar, "manifest.json", &manifest)?;
    tar.into_inner()?.flush()?;
    std::fs::remove_file(&layer_path)?;
    Ok(())
}

/// The machine's architecture by the name that Go, and so every image, has for it.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("images are made for x86_64 and aarch64; this machine is {other}"),
    }
}

fn header(mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_mtime(TIME);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

fn append_bytes(tar: &mut Builder<impl Write>, name: &str, contents: &[u8]) -> Result<()> {
    let mut header = header(0o644);
    header.set_size(contents.len() as u64);
    Ok(tar.append_data(&mut header, name, contents)?)
}

fn append_file(
    tar: &mut Builder<impl Write>,
    header: &mut Header,
    name: &Path,
    file: &File,
) -> io::Result<()> {
    let size = file.metadata()?.len();
    header.set_size(size);
    // A file that grows meanwhile must not shift what comes after it.
    tar.append_data(header, name, BufReader::new(file).take(size))
}

/// Passes on what it is given, and knows its digest.
struct Hashed<W> {
    to: W,
    digest: Sha256,
}

impl<W> Hashed<W> {
    fn new(to: W) -> Self {
        let digest = Sha256::new();
        Self { to, digest }
    }

    fn hex(self) -> String {
        hex(&self.digest.finalize())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use serde_json::Value;

    use super::*;

    const REFERENCE: &str = "localhost/hubstorage/example:1";

    /// A file, a program, a link and a path longer than the 100 bytes of a plain tar header.
    fn example(folder: &Path, reversed: bool) -> Tree {
        let root = folder.join("root");
        let long = format!("usr/lib/{}/{}", "deep".repeat(20), "name".repeat(20));
        let mut files = vec![
            ("etc/name", 0o644),
            ("usr/bin/program", 0o755),
            (&long, 0o600),
        ];
        if reversed {
            files.reverse();
        }
        for (path, mode) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let deep = Path::new(&long).parent().unwrap();
        for folder in ["etc", "usr", "usr/bin", "usr/lib"]
            .map(Path::new)
            .iter()
            .chain([&deep])
        {
            fs::set_permissions(root.join(folder), fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink("program", root.join("usr/bin/link")).unwrap();
        let mut tree = Tree::of_folder(&root).unwrap();
        for entry in tree.entries.values_mut() {
            (entry.uid, entry.gid) = (1000, 100);
        }
        tree
    }

    fn write_example(reversed: bool) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let tree = example(folder.path(), reversed);
        let runs = Runs {
            user: "1000:100".to_owned(),
            entrypoint: vec!["/usr/bin/program".to_owned()],
            ..Runs::default()
        };
        let image = folder.path().join("image.tar");
        write(&image, REFERENCE, &runs, &tree).unwrap();
        fs::read(image).unwrap()
    }

    fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut members = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            members.insert(name, contents);
        }
        members
    }

    #[test]
    fn the_same_contents_give_the_same_bytes_in_whatever_order_they_were_made() {
        assert!(write_example(false) == write_example(true));
    }

    #[test]
    fn other_bytes_for_the_same_layer_need_another_format() {
        let folder = tempfile::tempdir().unwrap();
        let mut layer = Hashed::new(io::sink());

        example(folder.path(), false).write(&mut layer).unwrap();

        let digest = layer.hex();
        assert_eq!(
            (FORMAT, digest.as_str()),
            (
                "1",
                "9c50541c335079d12f5aa7d4727da5b088efadfa97f0f3202c022ff18312750b"
            )
        );
    }

    #[test]
    fn the_manifest_names_the_configuration_and_the_layer_by_their_digests() {
        let members = members(&write_example(false));

        let manifest: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
        let name = |field: &Value| field.as_str().unwrap().to_owned();
        let (config, layer) = (
            name(&manifest[0]["Config"]),
            name(&manifest[0]["Layers"][0]),
        );
        let digest_of = |member: &str| hex(&Sha256::digest(&members[member]));
        assert_eq!(manifest[0]["RepoTags"], json!([REFERENCE]));
        assert_eq!(config, format!("{}.json", digest_of(&config)));
        assert_eq!(layer, format!("{}.tar", digest_of(&layer)));
        let config: Value = serde_json::from_slice(&members[&config]).unwrap();
        let diff_ids = json!([format!("sha256:{}", digest_of(&layer))]);
        assert_eq!(config["rootfs"]["diff_ids"], diff_ids);
        assert_eq!(config["config"]["User"], "1000:100");
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/program"]));
    }

    #[test]
    fn a_layer_keeps_modes_owners_links_and_long_names_but_no_times() {
        let members = members(&write_example(false));
        let is_layer = |name: &&String| name.ends_with(".tar");
        let layer = &members[members.keys().find(is_layer).unwrap()];

        let mut seen = BTreeMap::new();
        for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (1000, 100));
            assert_eq!(header.mtime().unwrap(), TIME);
            let name = entry.path().unwrap().display().to_string();
            let link = entry
                .link_name()
                .unwrap()
                .map(|to| to.display().to_string());
            seen.insert(name, (header.mode().unwrap(), link));
        }
        assert_eq!(seen["usr/bin/program"], (0o755, None));
        assert_eq!(seen["usr/bin/link"].1.as_deref(), Some("program"));
        assert!(seen.keys().any(|name| name.len() > 160));
    }

    #[test]
    fn a_path_that_leads_out_of_the_image_is_refused() {
        for path in ["../etc/passwd", "/", "usr/../../etc", ""] {
            assert!(
                Tree::default()
                    .with_file(path, Path::new("x"), 0o644)
                    .is_err()
            );
        }
    }
}
