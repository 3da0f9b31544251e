//! The two users of the object store can do what their roles need, and cannot reach further.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use hubstorage_e2e::{AccessKey, MinioUser, Platform, Python};
use serde_json::Value;

/// Assumes a role as a user of the store; prints the session's credentials.
const ASSUME_ROLE: &str = r#"
import boto3, json, os
sts = boto3.client("sts", endpoint_url=os.environ["ENDPOINT"], region_name="us-east-1")
answer = sts.assume_role(RoleArn="arn:aws:iam::000000000000:role/any", RoleSessionName="test")
print(json.dumps(answer["Credentials"], default=str))
"#;

/// What Python prints with this key in its environment.
async fn said(platform: &Platform, key: &AccessKey, code: &str, arguments: &[&str]) -> String {
    let python = Python::at(&platform.python(), &platform.checkout.run("minio")).with_env([
        ("ENDPOINT", platform.minio_endpoint().unwrap()),
        ("AWS_ACCESS_KEY_ID", key.id.clone()),
        ("AWS_SECRET_ACCESS_KEY", key.secret.clone()),
    ]);
    python.run(code, arguments).await.unwrap()
}

async fn session(platform: &Platform, user: MinioUser) -> (AccessKey, String) {
    let key = platform.minio_key(user).unwrap();
    let answer = said(platform, &key, ASSUME_ROLE, &[]).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let field = |name: &str| answer[name].as_str().unwrap().to_owned();
    (
        AccessKey {
            id: field("AccessKeyId"),
            secret: field("SecretAccessKey"),
        },
        field("SessionToken"),
    )
}

/// Makes a service account below `owner` and says whether that worked.
async fn makes_service_account(
    platform: &Platform,
    key: &AccessKey,
    token: Option<&str>,
    owner: &str,
) -> Result<(), String> {
    let output = platform
        .mc(
            key,
            token,
            &["admin", "user", "svcacct", "add", "local", owner],
        )
        .await
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

#[tokio::test]
async fn a_session_of_the_vending_user_cannot_make_a_service_account() {
    let platform = Platform::load().unwrap();
    let (key, token) = session(&platform, MinioUser::Vend).await;

    let refusal = makes_service_account(&platform, &key, Some(&token), "hubstorage-vend").await;

    assert!(refusal.unwrap_err().contains("Access Denied"));
}

#[tokio::test]
async fn the_vending_user_cannot_make_itself_a_service_account() {
    let platform = Platform::load().unwrap();
    let key = platform.minio_key(MinioUser::Vend).unwrap();

    let refusal = makes_service_account(&platform, &key, None, "hubstorage-vend").await;

    assert!(refusal.unwrap_err().contains("Access Denied"));
}

#[tokio::test]
async fn the_same_request_succeeds_for_who_may() {
    let platform = Platform::load().unwrap();
    let key = platform.minio_key(MinioUser::Root).unwrap();

    let made = makes_service_account(&platform, &key, None, "hubstorage-vend").await;

    assert_eq!(made, Ok(()));
}

#[tokio::test]
async fn the_managing_user_makes_and_removes_buckets_but_no_users() {
    let platform = Platform::load().unwrap();
    let key = platform.minio_key(MinioUser::Manage).unwrap();
    let bucket = format!("local/e2e-manage-{}", std::process::id());

    let made = platform.mc(&key, None, &["mb", &bucket]).await.unwrap();
    let removed = platform.mc(&key, None, &["rb", &bucket]).await.unwrap();
    let users = platform
        .mc(&key, None, &["admin", "user", "list", "local"])
        .await
        .unwrap();

    assert!(made.status.success());
    assert!(removed.status.success());
    assert!(
        String::from_utf8_lossy(&users.stderr).contains("Access Denied"),
        "{users:?}"
    );
}

#[tokio::test]
async fn the_vending_user_cannot_make_a_bucket() {
    let platform = Platform::load().unwrap();
    let key = platform.minio_key(MinioUser::Vend).unwrap();
    let bucket = format!("local/e2e-vend-{}", std::process::id());

    let made = platform.mc(&key, None, &["mb", &bucket]).await.unwrap();

    assert!(
        String::from_utf8_lossy(&made.stderr).contains("Access Denied"),
        "{made:?}"
    );
}

/// What the store answers to a user who puts an object into a bucket and lists it.
const REACH: &str = r#"
import boto3, botocore, os, sys
s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], region_name="us-east-1")
def answer(call, **arguments):
    try:
        call(Bucket=sys.argv[1], **arguments)
        return "OK"
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
print(answer(s3.put_object, Key="object", Body=b"x"), answer(s3.list_objects_v2))
"#;

#[tokio::test]
async fn neither_user_reaches_a_bucket_beyond_the_names_in_its_policy() {
    let platform = Platform::load().unwrap();
    let within = format!("e2e-ceiling-{}", std::process::id());
    let beyond = format!("beyond-{}", std::process::id());
    let root = platform.minio_key(MinioUser::Root).unwrap();
    let as_owner = async |arguments: &[&str]| {
        let output = platform.mc(&root, None, arguments).await.unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    for bucket in [&within, &beyond] {
        as_owner(&["mb", &format!("local/{bucket}")]).await;
    }

    // Writes an object, and lists: the managing user lists only, to say what a bucket holds.
    let users = [
        (MinioUser::Manage, "AccessDenied OK"),
        (MinioUser::Vend, "OK OK"),
    ];
    for (user, reaches) in users {
        let key = platform.minio_key(user).unwrap();
        let answers = async |bucket: &str| said(&platform, &key, REACH, &[bucket]).await;

        assert_eq!(answers(&within).await, reaches, "{user:?}");
        let refused = "AccessDenied AccessDenied";
        assert_eq!(answers(&beyond).await, refused, "{user:?}");
    }

    for bucket in [&within, &beyond] {
        as_owner(&["rb", "--force", &format!("local/{bucket}")]).await;
    }
}
