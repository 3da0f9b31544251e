//! Names that nobody should have, on the whole way: each reaches its own prefix and no other.

use hubstorage_core::names::Prefix;

use crate::hub::{Hub, failed, said};

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
