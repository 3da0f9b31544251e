//! Data that is not the hub's: public data, and users' own storage with keys of their own. What a user writes
//! is taken from `docs/public-data.md`, so that the page says what works.

mod elsewhere;
mod examples;

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};
use hubstorage_core::api::{Bucket, HubStorage, StorageProvider};
use hubstorage_core::injection::{AGENT_URL, Decision, HubInjection, SentPod, admit};
use hubstorage_core::names::BucketName;
use hubstorage_e2e::translation::{Translation, environment};
use hubstorage_e2e::{Platform, Python};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize as _;
use serde_json::json;

use crate::hub::Hub;
use elsewhere::{Elsewhere, REGION};

/// Examples at a time: there are more of them than cores.
const AT_A_TIME: usize = 3;

/// An example, what is written after it to see what it has done, and what is printed then.
type Case = (&'static str, &'static str, &'static str);

const PUBLIC_FILES: &str = "\nprint('mur-sst/zarr/.zmetadata' in files)";
const PUBLIC_ARRAY: &str = "\nprint(ds.analysed_sst.values)";
const WRITES_OWN: &str = "\nfs.pipe('private/x', b'mine'); print(fs.cat('private/x').decode())";

const ON_AMAZON: [Case; 3] = [
    ("amazon-s3fs", PUBLIC_FILES, "True"),
    ("amazon-xarray", PUBLIC_ARRAY, "[18.  18.5]"),
    ("amazon-key", WRITES_OWN, "mine"),
];

const NOT_ON_AMAZON: [Case; 12] = [
    (
        "own-pyarrow",
        "\nimport s3fs; print(s3fs.S3FileSystem().cat(os.environ['SCRATCH_BUCKET'] + '/data.txt').decode())",
        "some data",
    ),
    (
        "own-duckdb",
        "\nprint(duckdb.sql(f\"FROM '{os.environ['SCRATCH_BUCKET']}/answer.parquet'\").fetchall())",
        "[(42,)]",
    ),
    ("public-s3fs", PUBLIC_FILES, "True"),
    ("public-xarray", PUBLIC_ARRAY, "[18.  18.5]"),
    (
        "public-boto3",
        "\nprint('zarr/.zmetadata' in [file['Key'] for file in files])",
        "True",
    ),
    (
        "public-pyarrow",
        "\nprint('mur-sst/zarr/.zmetadata' in [file.path for file in files])",
        "True",
    ),
    (
        "public-obstore",
        "\nprint('zarr/.zmetadata' in [file['path'] for file in files])",
        "True",
    ),
    ("public-duckdb", "\nprint(table.fetchall())", "[(10, 18.5)]"),
    ("public-rasterio", "\nprint(depth.tolist())", "[[10]]"),
    ("own-key", WRITES_OWN, "mine"),
    ("own-wasabi", WRITES_OWN, "mine"),
    (
        "own-gcs",
        "\ngcs.pipe('private/x', b'mine'); print(gcs.cat('private/x').decode())",
        "mine",
    ),
];

/// What DuckDB does by itself where it reaches the host of its extensions.
const EXTENSIONS: &str = "
import duckdb, duckdb_extension_aws, duckdb_extension_httpfs, pathlib
for package in duckdb_extension_httpfs, duckdb_extension_aws:
    extension, = pathlib.Path(package.__file__).parent.rglob('*.duckdb_extension')
    duckdb.execute(f\"LOAD '{extension}'\")
";

/// And at the end of each, that the hub's own storage is still there for whoever says nothing.
const HUBS_OWN: &str = "
import os, s3fs
hubs, beside = s3fs.S3FileSystem(), os.environ['SCRATCH_BUCKET'] + '/beside'
hubs.pipe(beside, b'hub'); print(hubs.cat(beside).decode())";

#[test]
fn every_example_of_the_page_is_run() {
    let mut run: Vec<_> = ON_AMAZON
        .iter()
        .chain(&NOT_ON_AMAZON)
        .map(|case| case.0)
        .collect();
    let mut all: Vec<_> = examples::all().iter().map(|example| example.0).collect();
    run.sort_unstable();
    all.sort_unstable();
    assert_eq!(run, all);
}

#[tokio::test]
async fn where_the_hub_is_on_amazon_no_address_is_set_and_public_data_and_own_keys_work_as_ever() {
    let elsewhere = Elsewhere::start().await;
    let env = on_amazon();
    assert!(!env.keys().any(|name| name.contains("ENDPOINT")), "{env:?}");
    let python = Platform::load().unwrap().python_of_clients(false);
    let home = tempfile::tempdir().unwrap();

    let run = async |code: &str| {
        let python = Python::at(&python, home.path()).with_env(env.clone());
        let python = python.with_env(elsewhere.as_amazon());
        python.run(code, &[]).await
    };
    for (name, check, expected) in ON_AMAZON {
        let code = elsewhere.translate(examples::named(name)) + check;
        assert_eq!(run(&code).await.unwrap(), expected, "{name}");
    }

    // It is by being public that data is read, and by the key that it is written.
    let private = examples::named("amazon-s3fs").replace("mur-sst", "private");
    let refused = run(&private).await.unwrap_err();
    assert!(refused.to_string().contains("PermissionError"), "{refused}");
    let nobody = examples::named("amazon-key").to_owned() + WRITES_OWN;
    let refused = run(&nobody).await.unwrap_err();
    assert!(refused.to_string().contains("PermissionError"), "{refused}");
}

#[tokio::test]
async fn where_the_hub_is_not_on_amazon_the_page_says_what_to_write_and_the_hubs_own_storage_is_there_beside()
 {
    let elsewhere = Elsewhere::start().await;
    let hub = Hub::ready("public").await;
    let alice = hub.pod("alice", "alice").await;
    let python = hub.platform.python_of_clients(false);
    let home = tempfile::tempdir().unwrap();
    let key_file = home.path().join("key");
    let mut google = Python::at(&python, home.path())
        .start(
            include_str!("../../../python/gcs.py"),
            &[&format!("{}.json", key_file.display())],
        )
        .unwrap();
    let google_url = google.ask("").await.unwrap();
    let run = async |code: &str| {
        let python = alice.interpreter(&python).unwrap().with_env([
            // Stores of this machine have no TLS, which object_store does not take by itself.
            ("AWS_ALLOW_HTTP", "true"),
            ("STORAGE_EMULATOR_HOST", &google_url),
            // What there is of Google speaks no gRPC.
            ("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false"),
        ]);
        python.run(code, &[]).await
    };

    let cases = stream::iter(NOT_ON_AMAZON).map(async |(name, check, expected)| {
        let example = elsewhere.translate(examples::named(name));
        let example = example.replace("<your_token_file>", &key_file.display().to_string());
        let extensions = if name.ends_with("duckdb") {
            EXTENSIONS
        } else {
            ""
        };
        let code = format!("{extensions}{example}{check}{HUBS_OWN}");
        (name, run(&code).await, format!("{expected}\nhub"))
    });
    let outcomes: Vec<_> = cases.buffer_unordered(AT_A_TIME).collect().await;

    for (name, printed, expected) in outcomes {
        // On a busy machine DuckDB shows its progress first.
        let printed = printed.unwrap();
        assert!(printed.ends_with(&expected), "{name}: {printed}");
    }
    let mine = "print(s3.get_object(Bucket='private', Key='x')['Body'].read().decode())";
    let mine = elsewhere
        .as_owner(&format!("import boto3; s3 = boto3.client('s3')\n{mine}"))
        .await;
    assert_eq!(mine, "mine");
    // Without the address it is the hub's own store that is asked, which has no such bucket.
    let unaddressed = run(examples::named("amazon-s3fs")).await.unwrap_err();
    assert!(
        ["PermissionError", "FileNotFoundError"]
            .iter()
            .any(|error| unaddressed.to_string().contains(error)),
        "{unaddressed}"
    );
    drop(google);
    hub.remove().await;
}

/// What a pod of a hub on Amazon finds in its environment: there is no Amazon here for a controller to make
/// buckets in, so the webhook's own code decides it, from the files that platform engineers are given.
fn on_amazon() -> BTreeMap<String, String> {
    let provider = include_str!("../../../../docs/examples/aws-provider.yaml");
    let provider: StorageProvider = serde_yaml::from_str(provider).unwrap();
    let hub = include_str!("../../../../docs/examples/hub.yaml");
    let mut hub: HubStorage = serde_yaml::from_str(hub).unwrap();
    hub.metadata.generation = Some(1);
    let in_store = |bucket: &Bucket| {
        let name = BucketName::parse(&format!("earth-{}", bucket.name)).unwrap();
        (bucket.clone(), name)
    };
    let buckets: Vec<_> = hub.spec.buckets.iter().map(in_store).collect();
    let s3 = provider.spec.s3.unwrap();
    assert_eq!((s3.region.as_str(), s3.endpoint.as_ref()), (REGION, None));
    let injection = HubInjection::new(&hub, &buckets, &s3, AGENT_URL).unwrap();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "jupyter-jane", "namespace": "earth",
            "labels": {"app": "jupyterhub", "component": "singleuser-server", "hub.jupyter.org/username": "jane"},
            "annotations": {"hub.jupyter.org/username": "jane"},
        },
        "spec": {"containers": [{"name": "notebook", "image": "notebook"}]},
    });
    let sent = SentPod::deserialize(&pod).unwrap();
    let admission = admit(sent, "system:serviceaccount:earth:hub", Some(&injection));
    assert!(
        matches!(admission.decision, Decision::Injected(_)),
        "{admission:?}"
    );
    json_patch::patch(&mut pod, &admission.patch).unwrap();
    let pod: Pod = serde_json::from_value(pod).unwrap();
    environment(&pod, "notebook", &Translation::default()).unwrap()
}
