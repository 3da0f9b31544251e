//! Names that nobody should have, on the whole way: each reaches its own prefix and no other.

use hubstorage_core::names::Prefix;

use serde_json::json;

use crate::hub::{CREATOR, Hub, failed, said};

#[tokio::test]
async fn hostile_usernames_reach_their_own_prefix_and_nothing_else() {
    let hub = Hub::ready("names").await;
    let victim = hub.pod("victim", "bob").await;
    said(
        &victim,
        "import os, s3fs; s3fs.S3FileSystem().pipe(os.environ['SCRATCH_BUCKET'] + '/secret', b'x')",
    )
    .await;
    let bucket = hub.bucket().await;

    let names = [
        "*",
        "b*",
        "?ob",
        "${aws:username}",
        "bob/..",
        "%2e%2e",
        "a'b\"c",
        "josé",
        "_hubstorage-canary-a",
    ];
    for (at, name) in names.into_iter().enumerate() {
        let pod = hub.pod(&format!("n{at}"), name).await;
        let own = format!("s3://{bucket}/{}", Prefix::escaped(name.as_bytes()));

        let code = "import os, s3fs; fs = s3fs.S3FileSystem(); b = os.environ['SCRATCH_BUCKET']\n\
                    fs.pipe(b + '/x', b'mine'); assert fs.cat(b + '/x') == b'mine'; print(b)";
        assert_eq!(said(&pod, code).await, own, "{name}");
        let theft = format!(
            "import boto3; boto3.client('s3').get_object(Bucket='{bucket}', Key='bob/secret')"
        );
        let error = failed(&pod, &theft).await;
        assert!(error.contains("AccessDenied"), "{name}: {error}");
    }
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
