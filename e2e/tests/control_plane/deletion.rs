//! Deleting a HubStorage, its buckets and its namespace.

use serde_json::{Value, json};

use crate::hub::Hub;

/// A ready hub whose bucket has this policy, and holds versions, delete markers and an unfinished
/// upload, under keys with odd characters.
async fn full_hub(purpose: &str, policy: &str) -> (Hub, String) {
    let hub = Hub::ready(purpose).await;
    hub.apply(&with_policy(&hub, policy)).await;
    hub.until_ready().await;
    let bucket = hub.bucket().await;
    hub.as_owner(&format!(
        "s3.put_bucket_versioning(Bucket='{bucket}', VersioningConfiguration={{'Status': 'Enabled'}})\n\
         for key in ['alice/data', 'alice/data', 'alice/a line\\nand another', 'alice/plus+ and \\u00e9', 'alice/folder/']:\n    \
             s3.put_object(Bucket='{bucket}', Key=key, Body=b'x')\n\
         s3.delete_object(Bucket='{bucket}', Key='alice/data')\n\
         s3.create_multipart_upload(Bucket='{bucket}', Key='alice/upload')"
    ))
    .await;
    (hub, bucket)
}

fn with_policy(hub: &Hub, policy: &str) -> Value {
    let mut storage = hub.storage();
    storage["spec"]["buckets"][0]["deletionPolicy"] = json!(policy);
    storage
}

/// Sets the policy of a hub that is being deleted.
async fn set_policy(hub: &Hub, policy: &str) {
    let patch = json!([{"op": "add", "path": "/spec/buckets/0/deletionPolicy", "value": policy}]);
    let namespace = hub.namespace.as_str();
    let patch = patch.to_string();
    hub.kubectl(&[
        "patch",
        "-n",
        namespace,
        "hs/hub",
        "--type=json",
        "-p",
        &patch,
    ])
    .await;
}

async fn delete(hub: &Hub) {
    let namespace = hub.namespace.as_str();
    hub.kubectl(&["delete", "-n", namespace, "hs/hub", "--wait=false"])
        .await;
}

async fn until_gone(hub: &Hub) {
    hub.until("the hub to be gone", async || {
        hub.get(&["hs", "hub", "--ignore-not-found", "-o=name"])
            .await
            .is_empty()
    })
    .await;
}

/// Whether the store has the bucket.
async fn exists(hub: &Hub, bucket: &str) -> bool {
    let code = format!("print('{bucket}' in [b['Name'] for b in s3.list_buckets()['Buckets']])");
    hub.as_owner(&code).await.trim() == "True"
}

/// The messages of events about the provider, whose events outlive the hub's namespace.
async fn told_on_provider(hub: &Hub) -> String {
    let selector = format!("--field-selector=involvedObject.name={}", hub.namespace);
    let messages = "-o=jsonpath={.items[*].message}";
    hub.kubectl(&["get", "events", "-n", "default", &selector, messages])
        .await
}

#[tokio::test]
async fn a_bucket_with_versions_markers_and_an_unfinished_upload_goes_with_its_hub() {
    let (hub, bucket) = full_hub("contents", "DeleteContents").await;
    delete(&hub).await;
    until_gone(&hub).await;
    assert!(!exists(&hub, &bucket).await);
    hub.until_event(
        "BucketDeleted",
        "6 versions and delete markers, 1 unfinished uploads",
    )
    .await;
    hub.remove().await;
}

#[tokio::test]
async fn a_hub_that_its_bucket_holds_says_what_is_there_and_goes_once_the_policy_is_edited() {
    let (hub, bucket) = full_hub("not-empty", "DeleteIfEmpty").await;
    delete(&hub).await;
    let message = hub
        .until_condition("hs/hub", "Stalled", "True", "BucketNotEmpty")
        .await;
    for word in [
        "3 objects",
        "2 noncurrent versions",
        "1 delete marker",
        "1 unfinished upload",
    ] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(exists(&hub, &bucket).await);

    set_policy(&hub, "DeleteContents").await;
    until_gone(&hub).await;
    assert!(!exists(&hub, &bucket).await);
    hub.remove().await;
}

#[tokio::test]
async fn a_deletion_that_is_called_off_leaves_the_bucket_and_says_where() {
    let (hub, bucket) = full_hub("called-off", "DeleteIfEmpty").await;
    delete(&hub).await;
    hub.until_condition("hs/hub", "Stalled", "True", "BucketNotEmpty")
        .await;
    set_policy(&hub, "Retain").await;
    until_gone(&hub).await;
    assert!(exists(&hub, &bucket).await);
    hub.until("the event on the provider", async || {
        told_on_provider(&hub).await.contains(&bucket)
    })
    .await;
    hub.remove().await;
}

/// A bucket that was there before, with an object that the store does not let go for an hour.
fn make_locked(bucket: &str) -> String {
    format!(
        "import datetime\n\
         s3.create_bucket(Bucket='{bucket}', ObjectLockEnabledForBucket=True)\n\
         until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)\n\
         for key in ('bob/a', 'bob/b'): s3.put_object(Bucket='{bucket}', Key=key, Body=b'x')\n\
         s3.put_object(Bucket='{bucket}', Key='bob/locked', Body=b'x', ObjectLockMode='GOVERNANCE', \
         ObjectLockRetainUntilDate=until)"
    )
}

#[tokio::test]
async fn what_the_store_has_locked_holds_the_hub_and_the_deletion_is_called_off_in_its_middle() {
    let hub = Hub::namespace("locked").await;
    let bucket = format!("{}-data", hub.namespace);
    hub.as_owner(&make_locked(&bucket)).await;
    hub.apply(&hub.provider()).await;
    let mut storage = with_policy(&hub, "DeleteContents");
    storage["spec"]["buckets"][0]["bucketName"] = json!(bucket);
    storage["spec"]["buckets"][0]["adoption"] = json!("Always");
    hub.apply(&storage).await;
    hub.until_ready().await;

    delete(&hub).await;
    let message = hub
        .until_condition("hs/hub", "Stalled", "True", "BucketNotEmpty")
        .await;
    assert!(message.contains("bob/locked"), "{message}");
    let deleted = "-o=jsonpath={.status.buckets[0].emptying.deletedVersions}";
    // The two objects, and what the probe had written and deleted, if it came before.
    let deleted: u64 = hub.get(&["hs", "hub", deleted]).await.parse().unwrap();
    assert!(deleted >= 2, "{deleted}");

    set_policy(&hub, "Retain").await;
    until_gone(&hub).await;
    let left = format!(
        "versions = s3.list_object_versions(Bucket='{bucket}')['Versions']\n\
         print([v['Key'] for v in versions])\n\
         for v in versions: s3.delete_object(Bucket='{bucket}', Key=v['Key'], VersionId=v['VersionId'], \
         BypassGovernanceRetention=True)\n\
         s3.delete_bucket(Bucket='{bucket}')"
    );
    assert_eq!(hub.as_owner(&left).await.trim(), "['bob/locked']");
    hub.remove().await;
}

#[tokio::test]
async fn a_namespace_is_deleted_whole_and_what_stays_is_told_on_the_provider() {
    for (purpose, policy, stays) in [
        ("whole", "DeleteContents", false),
        ("whole-kept", "Retain", true),
    ] {
        let (hub, bucket) = full_hub(purpose, policy).await;
        hub.kubectl(&["delete", "namespace", &hub.namespace, "--timeout=60s"])
            .await;
        assert_eq!(exists(&hub, &bucket).await, stays, "{policy}");
        assert_eq!(told_on_provider(&hub).await.contains(&bucket), stays);
        hub.kubectl(&["delete", "hsp", &hub.namespace, "--wait=false"])
            .await;
        if stays {
            hub.as_owner(&format!(
                "bucket = boto3.resource('s3').Bucket('{bucket}')\n\
                 bucket.object_versions.delete(); bucket.delete()"
            ))
            .await;
        }
    }
}
