//! A hub that was there before HubStorage moves over: `docs/migrate.md`, step by step. And what a
//! bucket's policy keeps out on a store without a switch for it.

use hubstorage_e2e::{HostPod, MinioUser};
use serde_json::{Value, json};

use crate::hub::{CREATOR, Hub, failed, said};

/// As Terraform left it: tags, a policy that lets everybody read, and the data of two users.
fn make(bucket: &str) -> String {
    format!(
        "s3.create_bucket(Bucket='{bucket}')\n\
         s3.put_bucket_tagging(Bucket='{bucket}', Tagging={{'TagSet': [{{'Key': 'team', 'Value': 'climate'}}]}})\n\
         for user in ('jane', 'bob'): s3.put_object(Bucket='{bucket}', Key=f'{{user}}/old.txt', Body=b'from before')\n\
         {}",
        open(bucket)
    )
}

/// Lets everybody read.
fn open(bucket: &str) -> String {
    format!(
        "s3.put_bucket_policy(Bucket='{bucket}', Policy=json.dumps({{'Version': '2012-10-17', 'Statement': [\n\
         {{'Sid': 'OldHub', 'Effect': 'Allow', 'Principal': '*', 'Action': 's3:GetObject', \
         'Resource': 'arn:aws:s3:::{bucket}/*'}}]}}))"
    )
}

/// Everything of the bucket that was there before, for a comparison.
async fn contents(hub: &Hub, bucket: &str) -> Value {
    let code = format!(
        "tags = {{t['Key']: t['Value'] for t in s3.get_bucket_tagging(Bucket='{bucket}')['TagSet']}}\n\
         tags.pop('hubstorage.io/owner', None)\n\
         print(json.dumps([tags, json.loads(s3.get_bucket_policy(Bucket='{bucket}')['Policy']), \
         s3.get_bucket_versioning(Bucket='{bucket}').get('Status'), \
         [o['Key'] for o in s3.list_objects_v2(Bucket='{bucket}')['Contents']]]))"
    );
    serde_json::from_str(&hub.as_owner(&code).await).unwrap()
}

/// The status of an anonymous GET.
async fn anonymously(hub: &Hub, bucket: &str, key: &str) -> String {
    let url = format!("{}/{bucket}/{key}", hub.platform.minio_endpoint().unwrap());
    let code = format!(
        "import urllib.request, urllib.error\n\
         try: print(urllib.request.urlopen('{url}').status)\n\
         except urllib.error.HTTPError as e: print(e.code)"
    );
    hub.as_owner(&code).await
}

async fn plan(hub: &Hub) -> Vec<String> {
    let plan = hub.current().await["status"]["plan"].clone();
    serde_json::from_value(plan).unwrap_or_default()
}

/// A notebook with what people typed into the hub's configuration: the location, and, while it is
/// there, the identity that all users share.
async fn notebook(hub: &Hub, name: &str, bucket: &str, has_shared_identity: bool) -> HostPod {
    let mut pod = hub.notebook(name, "jane");
    let env = pod["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    env.push(json!({"name": "SCRATCH_BUCKET", "value": format!("s3://{bucket}/jane")}));
    if has_shared_identity {
        let key = hub.platform.minio_key(MinioUser::Root).unwrap();
        let endpoint = hub.platform.minio_endpoint().unwrap();
        env.extend([
            json!({"name": "AWS_ACCESS_KEY_ID", "value": key.id}),
            json!({"name": "AWS_SECRET_ACCESS_KEY", "value": key.secret}),
            json!({"name": "AWS_ENDPOINT_URL_S3", "value": endpoint}),
        ]);
    }
    hub.pod_by(CREATOR, pod).await.unwrap()
}

/// Reads a key of a user's with the pod's own means.
fn read(user: &str) -> String {
    format!(
        "import os, s3fs\n\
         bucket = os.environ['SCRATCH_BUCKET'].removeprefix('s3://').split('/')[0]\n\
         print(s3fs.S3FileSystem().cat(f'{{bucket}}/{user}/old.txt').decode())"
    )
}

#[tokio::test]
async fn a_hub_with_a_bucket_typed_variables_and_one_shared_identity_moves_over() {
    let hub = Hub::namespace("migrate").await;
    let bucket = format!("{}-data", hub.namespace);
    hub.as_owner(&make(&bucket)).await;
    let before = contents(&hub, &bucket).await;
    let storage = |mode: &str| {
        let mut storage = hub.storage();
        storage["spec"]["mode"] = json!(mode);
        storage["spec"]["users"] = json!({"prefixScheme": "Raw"});
        storage["spec"]["buckets"] = json!([{
            "name": "scratch", "bucketName": bucket, "adoption": "Always",
            "env": [{"name": "SCRATCH_BUCKET", "onConflict": "Keep"}],
        }]);
        storage
    };

    // Observe: the plan stands in status, users notice nothing.
    hub.apply(&hub.provider()).await;
    hub.apply(&storage("Observe")).await;
    hub.until_condition("hs/hub", "Stalled", "True", "Observing")
        .await;
    let take_over = format!("take bucket {bucket} over: mark it with the owner tag");
    assert_eq!(plan(&hub).await.join("; "), take_over);
    let old = notebook(&hub, "old", &bucket, true).await;
    assert_eq!(said(&old, &read("jane")).await, "from before");
    assert_eq!(contents(&hub, &bucket).await, before);

    // Enforce: just that is done. Who else gets in is named.
    hub.apply(&storage("Enforce")).await;
    let message = hub
        .until_condition("hs/hub", "IsolationReady", "False", "OtherGrants")
        .await;
    assert!(
        message.contains(&bucket) && message.contains("OldHub"),
        "{message}"
    );
    assert_eq!(hub.events("BucketAdopted").await, take_over);
    assert_eq!(contents(&hub, &bucket).await, before);

    // Injected, while the shared identity still works.
    hub.until("the store to be probed", async || {
        let vending = &hub.current().await["status"]["vending"];
        vending["buckets"][0]["verdict"] == "Isolated"
    })
    .await;
    let both = notebook(&hub, "both", &bucket, true).await;
    let typed = format!("s3://{bucket}/jane");
    assert_eq!(both.environment().unwrap()["SCRATCH_BUCKET"], typed);
    assert_eq!(said(&both, &read("bob")).await, "from before");
    assert_eq!(said(&old, &read("jane")).await, "from before");

    // Without it, what is vended reaches the own prefix alone.
    let new = notebook(&hub, "new", &bucket, false).await;
    assert_eq!(said(&new, &read("jane")).await, "from before");
    let refused = failed(&new, &read("bob")).await;
    assert!(refused.contains("PermissionError"), "{refused}");

    // The old grant goes, and a check on demand sees it.
    hub.as_owner(&format!("s3.delete_bucket_policy(Bucket='{bucket}')"))
        .await;
    let asked = "hubstorage.io/check-requested-at=the-grant-is-gone";
    hub.kubectl(&["annotate", "-n", &hub.namespace, "hs/hub", asked])
        .await;
    hub.until("the answer", async || {
        hub.current().await["status"]["lastHandledCheckRequest"] == "the-grant-is-gone"
    })
    .await;

    // Servers that still have the shared identity are told of until they are stopped.
    let message = hub
        .until_condition("hs/hub", "IsolationReady", "False", "CloudIdentityOnPods")
        .await;
    assert!(message.contains("AWS_ACCESS_KEY_ID"), "{message}");
    for server in [old, both] {
        server.delete().await.unwrap();
    }
    hub.until_ready().await;
    hub.remove().await;
}

#[tokio::test]
async fn a_bucket_that_was_opened_by_hand_is_closed_again_and_keys_go_on_working() {
    let hub = Hub::ready("anonymous").await;
    let bucket = hub.bucket().await;
    let beside = format!("{}-beside", hub.namespace);
    hub.as_owner(&make(&beside)).await;
    let put = format!("s3.put_object(Bucket='{bucket}', Key='jane/a', Body=b'a')\n");
    hub.as_owner(&format!("{put}{}", open(&bucket))).await;
    hub.until_event(
        "DriftCorrected",
        "found no statement HubStorageDenyAnonymous",
    )
    .await;
    let statements = format!(
        "print(*sorted(s['Sid'] for s in json.loads(s3.get_bucket_policy(Bucket='{bucket}')['Policy'])['Statement']))"
    );
    assert_eq!(
        hub.as_owner(&statements).await,
        "HubStorageDenyAnonymous OldHub"
    );
    assert_eq!(anonymously(&hub, &bucket, "jane/a").await, "403");
    assert_eq!(anonymously(&hub, &beside, "jane/old.txt").await, "200");
    let jane = hub.pod("jane", "jane").await;
    let code = "import os, s3fs\nprint(s3fs.S3FileSystem().cat(os.environ['SCRATCH_BUCKET'] + '/a').decode())";
    assert_eq!(said(&jane, code).await, "a");
    hub.remove().await;
}
