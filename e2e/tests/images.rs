//! The images that the harness makes, and what is in them.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use hubstorage_e2e::Extent;
use hubstorage_e2e::checkout::Checkout;
use hubstorage_e2e::files;
use hubstorage_e2e::images::{Image, pause};
use hubstorage_e2e::ports::Ports;
use hubstorage_e2e::progress::Progress;
use hubstorage_e2e::site::Site;
use serde_json::{Value, json};
use tar::Archive;

fn site() -> Site {
    let checkout = Checkout::find().unwrap();
    files::make_private_folder(&checkout.run("logs")).unwrap();
    Site::new(
        checkout,
        Extent::Stores,
        Ports::default(),
        Progress::default(),
    )
    .unwrap()
}

/// What a container runtime finds in an archive.
struct Contents {
    references: Value,
    config: Value,
    /// Mode and owner of each file by its path.
    files: BTreeMap<String, (u32, u64)>,
}

fn contents(image: &Image) -> Contents {
    let member = |name: &str| {
        let mut archive = Archive::new(File::open(&image.archive).unwrap());
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let found = entries.find(|entry| entry.path().unwrap().as_os_str() == name);
        let mut bytes = Vec::new();
        found.unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let manifest: Value = serde_json::from_slice(&member("manifest.json")).unwrap();
    let config = member(manifest[0]["Config"].as_str().unwrap());
    let layer = member(manifest[0]["Layers"][0].as_str().unwrap());
    let mut files = BTreeMap::new();
    for entry in Archive::new(layer.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        if header.entry_type().is_file() {
            let path = format!("/{}", entry.path().unwrap().display());
            files.insert(path, (header.mode().unwrap(), header.uid().unwrap()));
        }
    }
    Contents {
        references: manifest[0]["RepoTags"].clone(),
        config: serde_json::from_slice::<Value>(&config).unwrap()["config"].clone(),
        files,
    }
}

#[tokio::test]
async fn the_sandbox_image_is_one_program_that_anybody_may_run() {
    let image = pause::build(&site()).await.unwrap();

    let contents = contents(&image);
    assert_eq!(contents.references, json!([image.reference]));
    assert_eq!(contents.config["Entrypoint"], json!(["/pause"]));
    assert_eq!(contents.config["User"], "65535:65535");
    let program = ("/pause".to_owned(), (0o755, 0));
    assert_eq!(contents.files, BTreeMap::from([program]));
}
