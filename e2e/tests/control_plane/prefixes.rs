//! Names that nobody should have, on the whole way: each reaches its own prefix and no other.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use hubstorage_core::names::Prefix;
use hubstorage_e2e::{HostPod, ServiceAccount};
use serde_json::json;

use crate::hub::{CREATOR, Hub, failed, said};

/// Names that want to be more than one user, or another one.
fn hostile_names() -> Vec<String> {
    let names = [
        "bob",
        "bobby",
        "bo",
        "*",
        "b*",
        "?ob",
        "${aws:username}",
        "bob/..",
        "..",
        "%2e%2e",
        "bob%2f",
        "a'b\"c",
        "bob\n",
        "bob\n\"}]}",
        "\u{1f980}",
        // The same letter in its two Unicode forms.
        "jos\u{e9}",
        "jose\u{301}",
        "BOB",
        "_hubstorage-canary-a",
    ];
    let mut names: Vec<String> = names.map(str::to_owned).to_vec();
    names.extend(["x".repeat(255), "x".repeat(254), "\u{e9}".repeat(255)]);
    // What a name is escaped to is a name, too.
    names.extend(["*", "bob/..", "jos\u{e9}", "BOB"].map(own_prefix));
    names
}

fn own_prefix(name: &str) -> String {
    Prefix::escaped(name.as_bytes()).to_string()
}

/// Writes under the own prefix and reads it; tries to read, to write and to list under each of OTHERS.
/// Prints the own location, and whatever else was reached.
const TRESPASS: &str = "
import boto3, botocore, os
own = os.environ['SCRATCH_BUCKET']
bucket, prefix = own.removeprefix('s3://').split('/')
s3 = boto3.client('s3')
s3.put_object(Bucket=bucket, Key=prefix + '/x', Body=b'mine')
assert s3.get_object(Bucket=bucket, Key=prefix + '/x')['Body'].read() == b'mine'
reached = []
for other in OTHERS:
    for what, call in {
        'read': lambda: s3.get_object(Bucket=bucket, Key=other + '/secret'),
        'written': lambda: s3.put_object(Bucket=bucket, Key=other + '/secret', Body=b''),
        'listed': lambda: s3.list_objects_v2(Bucket=bucket, Prefix=other + '/'),
    }.items():
        try:
            call()
            reached.append([what, other])
        except botocore.exceptions.ClientError as error:
            assert error.response['Error']['Code'] == 'AccessDenied', error
print(own, reached)";

#[tokio::test(flavor = "multi_thread")]
async fn hostile_usernames_reach_their_own_prefix_and_nothing_else() {
    let hub = Hub::ready("names").await;
    let bucket = hub.bucket().await;
    let names = hostile_names();
    let prefixes: Vec<String> = names.iter().map(|name| own_prefix(name)).collect();
    let keys = json!(prefixes);
    hub.as_owner(&format!(
        "[s3.put_object(Bucket='{bucket}', Key=prefix + '/secret', Body=b'x') for prefix in {keys}]"
    ))
    .await;

    hub.allow_pods(CREATOR).await;
    let creator = ServiceAccount::new(&hub.namespace, CREATOR);
    let trespassing =
        stream::iter(names.iter().zip(&prefixes).enumerate()).map(async |(number, (name, own))| {
            let pod = hub.notebook(&format!("n{number}"), name);
            let pod = serde_json::from_value(pod).unwrap();
            let pod = HostPod::create(&hub.platform, &creator, pod).await.unwrap();
            let others: Vec<&String> = prefixes.iter().filter(|other| *other != own).collect();
            let code = TRESPASS.replace("OTHERS", &json!(others).to_string());
            let said = said(&pod, &code).await;
            assert_eq!(said, format!("s3://{bucket}/{own} []"), "{name:?}");
        });
    // Each is a Python of its own.
    trespassing.buffer_unordered(4).collect::<Vec<()>>().await;
    assert_eq!(prefixes.iter().collect::<BTreeSet<_>>().len(), names.len());
    hub.remove().await;
}

#[tokio::test]
async fn what_a_hub_shares_is_reached_by_those_to_whom_it_is_granted_as_far_as_it_is() {
    let hub = Hub::namespace("grants").await;
    hub.apply(&hub.provider()).await;
    let everyone = json!([{"kind": "Everyone"}]);
    let mut storage = hub.storage();
    storage["spec"]["buckets"] = json!([
        {
            "name": "scratch", "env": [{"name": "SCRATCH_BUCKET"}],
            "grants": [
                {"name": "own", "subjects": everyone, "scope": "UserPrefix", "permission": "ReadWrite"},
                {"name": "ocean", "subjects": [{"kind": "Group", "name": "ocean"}], "scope": "Prefix", "prefix": "_groups/ocean", "permission": "ReadWrite"},
            ],
        },
        {
            "name": "data", "env": [{"name": "DATA_BUCKET"}],
            "grants": [{"name": "all", "subjects": everyone, "scope": "Bucket", "permission": "ReadOnly"}],
        },
    ]);
    hub.apply(&storage).await;
    hub.until_ready().await;
    hub.until("both buckets to be probed", async || {
        hub.get(&[
            "hs",
            "hub",
            "-o=jsonpath={.status.vending.buckets[*].verdict}",
        ])
        .await
            == "Isolated Isolated"
    })
    .await;
    hub.until(
        "the store to be asked for a session with the longest policy",
        async || {
            hub.get(&["hs", "hub", "-o=jsonpath={.status.vending.policy.verdict}"])
                .await
                == "Accepted"
        },
    )
    .await;
    let name = |bucket: &str| {
        let path = format!("-o=jsonpath={{.status.buckets[?(@.name=='{bucket}')].bucketName}}");
        let hub = &hub;
        async move { hub.get(&["hs", "hub", &path]).await }
    };
    let (scratch, data) = (name("scratch").await, name("data").await);
    hub.as_owner(&format!(
        "s3.put_object(Bucket='{data}', Key='2026/sst.zarr', Body=b'warm')"
    ))
    .await;
    let member = async |name: &str, groups: &str| {
        let mut pod = hub.notebook(name, name);
        pod["metadata"]["annotations"]["hubstorage.io/groups"] = json!(groups);
        hub.pod_by(CREATOR, pod).await.unwrap()
    };
    let alice = member("alice", r#"["ocean"]"#).await;
    let bob = member("bob", r#"["ice", "ocean"]"#).await;
    let eve = member("eve", r#"["oceans", "_groups/ocean", "*"]"#).await;
    let fs = "import os, s3fs; fs = s3fs.S3FileSystem(); b = os.environ['SCRATCH_BUCKET']; d = os.environ['DATA_BUCKET']";
    let ocean = format!("s3://{scratch}/_groups/ocean");

    let writes =
        format!("{fs}\nfs.pipe(b + '/own', b'x'); fs.pipe('{ocean}/shared', b'ours'); print(d)");
    assert_eq!(said(&alice, &writes).await, format!("s3://{data}"));
    let reads = format!(
        "{fs}\nprint(fs.cat('{ocean}/shared').decode(), fs.cat(d + '/2026/sst.zarr').decode(), len(fs.find(d)))"
    );
    assert_eq!(said(&bob, &reads).await, "ours warm 1");
    for beyond in [
        format!("fs.cat('s3://{scratch}/alice/own')"),
        format!("fs.ls('s3://{scratch}/_groups')"),
        format!("fs.pipe('s3://{scratch}/_groups/oceans/x', b'x')"),
        "fs.pipe(d + '/mine', b'x')".to_owned(),
        "fs.rm_file(d + '/2026/sst.zarr')".to_owned(),
    ] {
        let error = failed(&bob, &format!("{fs}\n{beyond}")).await;
        assert!(error.contains("PermissionError"), "{beyond}: {error}");
    }
    let error = failed(&eve, &format!("{fs}\nfs.cat('{ocean}/shared')")).await;
    assert!(error.contains("PermissionError"), "{error}");
    let own =
        format!("{fs}\nfs.pipe(b + '/own', b'x'); print(fs.cat(d + '/2026/sst.zarr').decode())");
    assert_eq!(said(&eve, &own).await, "warm");
    hub.remove().await;
}
