//! The store stays as declared, and nothing is written while it is.

use serde_json::Value;

use crate::hub::Hub;

#[tokio::test]
async fn a_bucket_appears_with_owner_tag_and_all_rules_that_the_store_can_do() {
    let hub = Hub::ready("bucket").await;
    let bucket = hub.bucket().await;

    let code = format!(
        "rules = s3.get_bucket_lifecycle_configuration(Bucket='{bucket}')['Rules']\n\
         tags = s3.get_bucket_tagging(Bucket='{bucket}')['TagSet']\n\
         print(json.dumps([sorted(r['ID'] for r in rules), {{t['Key']: t['Value'] for t in tags}}, \
               [r['Expiration']['Days'] for r in rules if r['ID'] == 'hubstorage/expire']]))"
    );
    let found: Value = serde_json::from_str(&hub.as_owner(&code).await).unwrap();

    let ids = [
        "hubstorage/expire",
        "hubstorage/expire-noncurrent",
        "hubstorage/remove-expired-delete-markers",
    ];
    assert_eq!(found[0], serde_json::json!(ids));
    let owner = found[1]["hubstorage.io/owner"].as_str().unwrap();
    assert!(
        owner.ends_with(&format!("/{}/hub", hub.namespace)),
        "{owner}"
    );
    assert_eq!(found[2], serde_json::json!([7]));
    // MinIO has no rule that aborts uploads: said, not left out silently.
    let message = hub
        .until_condition("hs/hub", "LifecycleApplied", "True", "PartlyApplied")
        .await;
    assert!(
        message.contains("abort incomplete uploads after 7 days"),
        "{message}"
    );
    hub.remove().await;
}

#[tokio::test]
async fn a_rule_removed_by_hand_comes_back_with_an_event_and_a_foreign_rule_survives() {
    let hub = Hub::ready("drift").await;
    let bucket = hub.bucket().await;
    let set = format!(
        "s3.put_bucket_lifecycle_configuration(Bucket='{bucket}', LifecycleConfiguration={{'Rules': [\n\
         {{'ID': 'by-hand', 'Status': 'Enabled', 'Filter': {{'Prefix': 'tmp/'}}, 'Expiration': {{'Days': 1}}}}]}})"
    );
    hub.as_owner(&set).await;

    let ids = format!(
        "print(*sorted(r['ID'] for r in s3.get_bucket_lifecycle_configuration(Bucket='{bucket}')['Rules']))"
    );
    let wanted = "by-hand hubstorage/expire hubstorage/expire-noncurrent hubstorage/remove-expired-delete-markers";
    hub.until("the rules to be back", async || {
        hub.as_owner(&ids).await == wanted
    })
    .await;
    hub.until_event(
        "DriftCorrected",
        "found no rule to expire objects after 7 days",
    )
    .await;
    hub.remove().await;
}

#[tokio::test]
async fn taking_lifecycle_out_of_the_spec_takes_the_rules_out_of_the_store() {
    let hub = Hub::ready("keep").await;
    let bucket = hub.bucket().await;
    let mut storage = hub.storage();
    // As it is left by somebody who wants to keep the data: a bucket with no more than a name.
    storage["spec"]["buckets"] = serde_json::json!([{"name": "scratch"}]);
    hub.apply(&storage).await;

    hub.until_condition("hs/hub", "LifecycleApplied", "True", "NotDeclared")
        .await;
    let rules = format!(
        "import botocore\n\
         try: print(s3.get_bucket_lifecycle_configuration(Bucket='{bucket}')['Rules'])\n\
         except botocore.exceptions.ClientError as e: print(e.response['Error']['Code'])"
    );
    assert_eq!(hub.as_owner(&rules).await, "NoSuchLifecycleConfiguration");
    hub.remove().await;
}

#[tokio::test]
async fn a_bucket_deleted_by_hand_is_created_again_and_the_loss_is_said() {
    let hub = Hub::ready("gone").await;
    let bucket = hub.bucket().await;
    hub.as_owner(&format!("s3.delete_bucket(Bucket='{bucket}')"))
        .await;

    hub.until_event("DriftCorrected", "it was gone, with all data in it")
        .await;
    hub.until_ready().await;
    let tags = format!("print(len(s3.get_bucket_tagging(Bucket='{bucket}')['TagSet']))");
    assert_eq!(hub.as_owner(&tags).await, "2");
    hub.remove().await;
}

#[tokio::test]
async fn checks_that_find_nothing_write_nothing() {
    let hub = Hub::ready("steady").await;
    let _alice = hub.pod("alice", "alice").await;
    hub.until("the user to be counted", async || {
        hub.current().await["status"]["users"] == 1
    })
    .await;
    let (before, checked) = (hub.current().await, last_check(&hub).await);

    // Two full checks later (one every five seconds here), the object is the same to the byte.
    hub.until("two more checks", async || {
        last_check(&hub).await >= checked + 9.0
    })
    .await;

    assert_eq!(hub.current().await, before);
    hub.remove().await;
}

/// When the controller last compared this hub with the store, as its metrics say.
async fn last_check(hub: &Hub) -> f64 {
    let url = format!(
        "{}/metrics",
        hub.platform.health_endpoint("controller").unwrap()
    );
    let metrics = hubstorage_e2e::http::get(&url, None).await.unwrap();
    let ours = format!("namespace=\"{}\"", hub.namespace);
    let line = metrics
        .lines()
        .find(|line| line.contains("last_check_timestamp") && line.contains(&ours));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_default()
}

#[tokio::test]
async fn deleting_the_hub_leaves_bucket_rules_and_data() {
    let hub = Hub::ready("retain").await;
    let bucket = hub.bucket().await;
    hub.as_owner(&format!(
        "s3.put_object(Bucket='{bucket}', Key='alice/data', Body=b'x')"
    ))
    .await;

    hub.kubectl(&["delete", "-n", &hub.namespace, "hs/hub", "--timeout=60s"])
        .await;

    let left = format!(
        "print(s3.list_objects_v2(Bucket='{bucket}')['KeyCount'], \
         len(s3.get_bucket_lifecycle_configuration(Bucket='{bucket}')['Rules']))"
    );
    assert_eq!(hub.as_owner(&left).await, "1 3");
    hub.until_event("BucketRetained", &bucket).await;
    hub.remove().await;
}
