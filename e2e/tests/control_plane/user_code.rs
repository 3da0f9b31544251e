//! What scientists do, with unmodified libraries.

use crate::hub::{Hub, failed, said};

/// The user guide's scratch section, with a data set that is made here.
const WRITE_ZARR: &str = include_str!("../../demo/write.py");
const READ_ZARR: &str = include_str!("../../demo/read.py");
const ATTACK: &str = include_str!("../../demo/attack.py");

#[tokio::test]
async fn the_user_guides_code_writes_zarr_to_the_users_own_prefix_and_reads_it_back() {
    let hub = Hub::ready("zarr").await;
    let alice = hub.pod("alice", "alice").await;

    said(&alice, WRITE_ZARR).await;
    let read = said(&alice, READ_ZARR).await;

    assert!(read.contains("dask.array"), "{read}");
    let bucket = hub.bucket().await;
    let code =
        format!("print(*[o['Key'] for o in s3.list_objects_v2(Bucket='{bucket}')['Contents']])");
    let keys = hub.as_owner(&code).await;
    assert!(
        keys.split(' ')
            .all(|key| key.starts_with("alice/rasm.zarr/")),
        "{keys}"
    );
    hub.remove().await;
}

#[tokio::test]
async fn a_neighbour_is_refused_every_call_that_succeeds_on_his_own_prefix() {
    let hub = Hub::ready("attack").await;
    let (alice, bob) = (hub.pod("alice", "alice").await, hub.pod("bob", "bob").await);
    said(&alice, WRITE_ZARR).await;

    let code = format!("BUCKET = {:?}\n{ATTACK}", hub.bucket().await);
    let report = said(&bob, &code).await;

    assert!(!report.contains("REACHED"), "{report}");
    assert_eq!(report.matches("allowed").count(), 7, "{report}");
    assert_eq!(
        report.matches("refused (AccessDenied)").count(),
        7,
        "{report}"
    );
    hub.remove().await;
}

#[tokio::test]
async fn s3fs_makes_lists_moves_and_removes_within_the_own_prefix() {
    let hub = Hub::ready("s3fs").await;
    let alice = hub.pod("alice", "alice").await;

    let code = "
import os, s3fs
fs, own = s3fs.S3FileSystem(), os.environ['SCRATCH_BUCKET']
fs.makedirs(f'{own}/run', exist_ok=True)
with fs.open(f'{own}/run/big', 'wb') as f:   # more than one part
    f.write(os.urandom(12 * 2**20))
fs.pipe(f'{own}/run/small', b'x')
assert fs.cat(f'{own}/run/small') == b'x'
fs.mv(f'{own}/run/small', f'{own}/run/moved')
assert sorted(p.rsplit('/', 1)[1] for p in fs.ls(f'{own}/run')) == ['big', 'moved'], fs.ls(f'{own}/run')
fs.rm(f'{own}/run', recursive=True)
assert not fs.exists(f'{own}/run')
print(os.environ['PANGEO_SCRATCH'] == own + '/')
";
    assert_eq!(said(&alice, code).await, "True");
    hub.remove().await;
}

#[tokio::test]
async fn listing_the_bucket_or_a_name_that_begins_alike_is_refused() {
    let hub = Hub::ready("list").await;
    let bob = hub.pod("bob", "bob").await;
    let bobby = hub.pod("bobby", "bobby").await;
    said(
        &bobby,
        "import os, s3fs; s3fs.S3FileSystem().pipe(os.environ['SCRATCH_BUCKET'] + '/x', b'x')",
    )
    .await;
    let bucket = hub.bucket().await;

    for prefix in ["", "bob", "bobby", "bobby/"] {
        let code = format!(
            "import boto3; boto3.client('s3').list_objects_v2(Bucket='{bucket}', Prefix='{prefix}')"
        );
        let error = failed(&bob, &code).await;
        assert!(error.contains("AccessDenied"), "prefix {prefix:?}: {error}");
    }
    let own = format!(
        "import boto3; print(boto3.client('s3').list_objects_v2(Bucket='{bucket}', Prefix='bob/')['KeyCount'])"
    );
    assert_eq!(said(&bob, &own).await, "0");
    hub.remove().await;
}
