//! The images that the harness makes, and what is in them. The notebook's takes root, in a chroot.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use hubstorage_e2e::checkout::Checkout;
use hubstorage_e2e::extent::Extent;
use hubstorage_e2e::files;
use hubstorage_e2e::images::{Image, notebook, operator, pause};
use hubstorage_e2e::ports::Ports;
use hubstorage_e2e::progress::Progress;
use hubstorage_e2e::site::Site;
use serde_json::{Value, json};
use tar::Archive;

/// A million bytes, as in the budgets.
const MB: u64 = 1_000_000;

fn site() -> Site {
    let checkout = Checkout::find().unwrap();
    files::make_private_folder(&checkout.run("logs")).unwrap();
    let (ports, progress) = (Ports::default(), Progress::default());
    Site::new(checkout, Extent::Node, ports, progress).unwrap()
}

/// What a container runtime finds in an archive.
struct Contents {
    references: Value,
    runs: Value,
    /// Everything in the layer, by its path.
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    is_file: bool,
    mode: u32,
    owner: (u64, u64),
    size: u64,
}

impl Contents {
    fn of(image: &Image) -> Self {
        let (mut documents, mut entries) = (BTreeMap::new(), BTreeMap::new());
        let mut archive = Archive::new(File::open(&image.archive).unwrap());
        for member in archive.entries().unwrap() {
            let mut member = member.unwrap();
            let name = member.path().unwrap().display().to_string();
            if name.ends_with(".json") {
                let mut text = String::new();
                member.read_to_string(&mut text).unwrap();
                documents.insert(name, serde_json::from_str::<Value>(&text).unwrap());
                continue;
            }
            for entry in Archive::new(member).entries().unwrap() {
                let entry = entry.unwrap();
                let header = entry.header();
                let read = Entry {
                    is_file: header.entry_type().is_file(),
                    mode: header.mode().unwrap(),
                    owner: (header.uid().unwrap(), header.gid().unwrap()),
                    size: entry.size(),
                };
                entries.insert(format!("/{}", entry.path().unwrap().display()), read);
            }
        }
        let manifest = &documents["manifest.json"][0];
        Self {
            references: manifest["RepoTags"].clone(),
            runs: documents[manifest["Config"].as_str().unwrap()]["config"].clone(),
            entries,
        }
    }

    fn files(&self) -> BTreeSet<&str> {
        let files = self.entries.iter().filter(|(_, entry)| entry.is_file);
        files.map(|(path, _)| path.as_str()).collect()
    }

    fn size(&self) -> u64 {
        self.entries.values().map(|entry| entry.size).sum()
    }
}

/// One final stage of the Dockerfile: what it copies, and how it runs.
#[derive(Default)]
struct Stage {
    files: BTreeSet<String>,
    user: String,
    entrypoint: Value,
}

/// The stage `name`, with what it has from the stages that it is made from.
fn stage(dockerfile: &str, architecture: &str, name: &str) -> Stage {
    let mut stages: BTreeMap<String, Stage> = BTreeMap::new();
    let mut current = Stage::default();
    let mut current_name = String::new();
    for line in dockerfile.lines() {
        let line = line.replace("${TARGETARCH}", architecture);
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["FROM", base, "AS", stage] => {
                stages.insert(current_name, current);
                current_name = (*stage).to_owned();
                current = Stage::default();
                if let Some(base) = stages.get(*base) {
                    current.files = base.files.clone();
                }
            }
            ["COPY", "--from=build", _, to] => drop(current.files.insert((*to).to_owned())),
            ["USER", user] => current.user = (*user).to_owned(),
            ["ENTRYPOINT", ..] => {
                let list = line.trim_start_matches("ENTRYPOINT");
                current.entrypoint = serde_json::from_str(list).unwrap();
            }
            _ => {}
        }
    }
    stages.insert(current_name, current);
    stages.remove(name).unwrap()
}

#[tokio::test]
async fn the_sandbox_image_is_one_program_that_anybody_may_run() {
    let image = pause::build(&site()).await.unwrap();

    let contents = Contents::of(&image);
    assert_eq!(contents.references, json!([image.reference]));
    assert_eq!(contents.runs["Entrypoint"], json!(["/pause"]));
    assert_eq!(contents.runs["User"], "65535:65535");
    assert_eq!(contents.entries.len(), 1);
    let program = &contents.entries["/pause"];
    assert_eq!((program.mode, program.owner), (0o755, (0, 0)));
}

#[tokio::test]
async fn the_operators_images_are_those_of_the_dockerfile() {
    let site = site();
    let dockerfile = std::fs::read_to_string(site.checkout.path("Dockerfile")).unwrap();
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let made = [
        ("operator", operator::operator(&site).await.unwrap()),
        ("agent", operator::agent(&site).await.unwrap()),
    ];

    for (name, image) in made {
        let (contents, stage) = (Contents::of(&image), stage(&dockerfile, architecture, name));
        let of_stage: BTreeSet<&str> = stage.files.iter().map(String::as_str).collect();
        assert_eq!(contents.files(), of_stage, "{name}");
        assert_eq!(contents.runs["User"], stage.user.as_str(), "{name}");
        assert_eq!(contents.runs["Entrypoint"], stage.entrypoint, "{name}");
    }
}

#[tokio::test]
async fn the_operators_images_are_small() {
    let site = site();

    let operator = Contents::of(&operator::operator(&site).await.unwrap()).size();
    let agent = Contents::of(&operator::agent(&site).await.unwrap()).size();

    let why = "HUBSTORAGE_PROFILE=dev makes larger ones";
    assert!(
        operator <= 40 * MB,
        "the operator's has {operator} bytes; {why}"
    );
    assert!(agent <= 10 * MB, "the agent's has {agent} bytes; {why}");
}

#[tokio::test]
async fn the_notebook_image_has_a_server_and_nothing_of_the_machine_that_made_it() {
    let image = notebook::build(&site()).await.unwrap();

    let contents = Contents::of(&image);
    let packages = "/opt/notebook/lib/python3.11/site-packages";
    let has = |path: &str| contents.entries.contains_key(path);
    assert_eq!(contents.runs["Cmd"], json!(["jupyterhub-singleuser"]));
    assert!(has("/opt/notebook/bin/jupyterhub-singleuser"));
    assert!(has(&format!(
        "{packages}/s3fs/__pycache__/core.cpython-311.pyc"
    )));
    assert_eq!(contents.entries["/home/jovyan"].owner, (1000, 100));
    for machine in [
        "/etc/apt/sources.list",
        "/etc/pip.conf",
        "/etc/resolv.conf",
        "/wheels",
    ] {
        assert!(!has(machine), "{machine}");
    }
    let is_mounted = |path: &String| Path::new(path).starts_with("/proc/1");
    assert!(!contents.entries.keys().any(is_mounted));
}
