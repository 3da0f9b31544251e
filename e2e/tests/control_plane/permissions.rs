//! A managing identity that lacks permissions is told which, one after the other, by their names:
//! whoever adds what is named ends with a hub that is ready.

use std::cell::RefCell;
use std::collections::BTreeSet;

use hubstorage_e2e::MinioUser;
use serde_json::{Value, json};

use crate::hub::Hub;

/// What the controller does with a bucket from nothing to ready, in the words of IAM.
const NEEDED: [&str; 10] = [
    "s3:CreateBucket",
    "s3:GetBucketPolicy",
    "s3:GetBucketTagging",
    "s3:GetLifecycleConfiguration",
    "s3:ListAllMyBuckets",
    "s3:ListBucketMultipartUploads",
    "s3:ListBucketVersions",
    "s3:PutBucketPolicy",
    "s3:PutBucketTagging",
    "s3:PutLifecycleConfiguration",
];

/// Makes or changes a key of the managing user that may do this, and nothing else.
async fn allow(hub: &Hub, actions: &BTreeSet<String>, verb: &[&str], key: &str) {
    // MinIO takes no policy that allows nothing; what this one allows is never asked for.
    let actions = actions.iter().map(String::as_str);
    let actions: Vec<&str> = actions.chain(["s3:GetBucketNotification"]).collect();
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": actions, "Resource": ["arn:aws:s3:::*"]}],
    });
    let name = format!("minio/{}.json", hub.namespace);
    let file = hub.platform.checkout.run(&name);
    std::fs::write(&file, policy.to_string()).unwrap();
    let root = hub.platform.minio_key(MinioUser::Root).unwrap();
    let file_name = file.display().to_string();
    let arguments = [
        &["admin", "user", "svcacct"],
        verb,
        &["--policy", &file_name, "local", key],
    ]
    .concat();
    let output = hub.platform.mc(&root, None, &arguments).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "mc {verb:?}: {told}");
}

/// The permission that provider or hub name as missing, other than `known`; `None` once the hub is
/// ready.
async fn named(hub: &Hub, known: &BTreeSet<String>) -> Option<String> {
    let found = RefCell::new(None);
    hub.until(
        "a permission to be named, or the hub to be ready",
        async || {
            let provider = format!("hsp/{}", hub.namespace);
            for object in [provider.as_str(), "hs/hub"] {
                let object: Value =
                    serde_json::from_str(&hub.get(&[object, "-o=json"]).await).unwrap();
                let conditions = object["status"]["conditions"].as_array();
                for condition in conditions.into_iter().flatten() {
                    let is = |type_: &str, reason: &str| {
                        condition["type"] == type_
                            && condition["status"] == "True"
                            && condition["reason"] == reason
                    };
                    if object["kind"] == "HubStorage" && is("Ready", "Ready") {
                        return true;
                    }
                    let message = condition["message"].as_str().unwrap_or_default();
                    let permission = message
                        .split_once("permission ")
                        .and_then(|(_, rest)| rest.split_once(" is missing"))
                        .map(|(permission, _)| permission.to_owned());
                    if let Some(permission) = permission
                        && is("Stalled", "AccessDenied")
                        && !known.contains(&permission)
                    {
                        found.replace(Some(permission));
                        return true;
                    }
                }
            }
            false
        },
    )
    .await;
    found.into_inner()
}

#[tokio::test]
async fn each_permission_that_is_missing_is_named_until_nothing_is() {
    let hub = Hub::namespace("permissions").await;
    let (key, secret) = (hub.namespace.replace("e2e-", ""), "of-one-test-only");
    let mut may = BTreeSet::new();
    let add = ["add", "--access-key", &key, "--secret-key", secret];
    allow(&hub, &may, &add, "hubstorage-manage").await;
    let mut stored = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": hub.namespace, "namespace": "hubstorage-system"},
        "stringData": {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},
    });
    hub.apply(&stored).await;
    let mut provider = hub.provider();
    provider["spec"]["s3"]["credentials"]["secretRef"]["name"] = json!(hub.namespace);
    hub.apply(&provider).await;
    hub.apply(&hub.storage()).await;

    while let Some(permission) = named(&hub, &may).await {
        may.insert(permission);
        allow(&hub, &may, &["edit"], &key).await;
        // The store's policies are not watched; the Secret is.
        stored["metadata"]["labels"] = json!({"permissions": may.len().to_string()});
        hub.apply(&stored).await;
    }

    let may: Vec<&str> = may.iter().map(String::as_str).collect();
    assert_eq!(may, NEEDED);
    hub.kubectl(&[
        "delete",
        "secret",
        &hub.namespace,
        "-n",
        "hubstorage-system",
    ])
    .await;
    hub.remove().await;
}
