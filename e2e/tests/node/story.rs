//! What users do in their notebooks.

use hubstorage_core::names::Prefix;
use hubstorage_e2e::components::hub::{HUB, OLD_HUB};
use rand::RngExt as _;

use crate::cluster::Cluster;

const GUIDE: &str = concat!(
    include_str!("../../demo/write.py"),
    "\n",
    include_str!("../../demo/read.py")
);

#[tokio::test]
async fn the_user_guides_scratch_section_works_as_it_stands_under_both_hubs() {
    let cluster = Cluster::enter().await;

    for hub in [HUB, OLD_HUB] {
        cluster.server(&hub, "guide").await;
        let said = cluster
            .hub(&hub)
            .run("guide", GUIDE)
            .await
            .unwrap()
            .ok()
            .unwrap();
        cluster.hub(&hub).stop("guide").await.unwrap();

        assert!(said.contains("dask.array"), "{said}");
        assert!(said.contains("/guide/rasm.zarr"), "{said}");
    }
}

#[tokio::test]
async fn another_users_server_is_refused_by_the_store_wherever_it_tries() {
    let cluster = Cluster::enter().await;
    for user in ["alice", "bob"] {
        cluster.server(&HUB, user).await;
    }
    let hub = cluster.hub(&HUB);
    for user in ["alice", "bob"] {
        hub.run(user, include_str!("../../demo/write.py"))
            .await
            .unwrap()
            .ok()
            .unwrap();
    }
    let bucket = "-o=jsonpath={.status.buckets[0].bucketName}";
    let bucket = cluster
        .get(&["hs", "node", "-n", HUB.namespace, bucket])
        .await;

    let attack = format!(
        "BUCKET = {bucket:?}\n{}",
        include_str!("../../demo/attack.py")
    );
    let said = hub.run("bob", &attack).await.unwrap().ok().unwrap();
    for user in ["alice", "bob"] {
        hub.stop(user).await.unwrap();
    }

    assert_eq!(said.matches("allowed").count(), 7, "{said}");
    assert_eq!(said.matches("refused (AccessDenied)").count(), 7, "{said}");
}

#[tokio::test]
async fn the_hub_writes_on_a_users_pod_which_groups_they_are_in() {
    let cluster = Cluster::enter().await;
    // A name of its own: hubs remember who was in a group.
    let user = format!("grouped-{:06x}", rand::rng().random_range(0..0x100_0000));
    let annotation = r"-o=jsonpath={.metadata.annotations.hubstorage\.io/groups}";
    for hub in [HUB, OLD_HUB] {
        let groups = async || {
            let pod = cluster.server(&hub, &user).await;
            cluster
                .get(&["pod", &pod, "-n", hub.namespace, annotation])
                .await
        };
        let before = groups().await;
        cluster.hub(&hub).join("ocean", &[&user]).await.unwrap();
        let after = groups().await;
        cluster.hub(&hub).stop(&user).await.unwrap();
        assert_eq!((before.as_str(), after.as_str()), ("[]", r#"["ocean"]"#));
    }
}

/// Writes under the own prefix, tries bob's, and says which prefix that is and what the store said.
const OWN_AND_BOBS: &str = "
import os, boto3
from botocore.exceptions import ClientError
bucket, _, prefix = os.environ['SCRATCH_BUCKET'].removeprefix('s3://').partition('/')
s3 = boto3.client('s3')
s3.put_object(Bucket=bucket, Key=prefix + '/x', Body=b'mine')
assert s3.get_object(Bucket=bucket, Key=prefix + '/x')['Body'].read() == b'mine'
tried = [
    lambda: s3.get_object(Bucket=bucket, Key='bob/x'),
    lambda: s3.put_object(Bucket=bucket, Key='bob/y', Body=b''),
    lambda: s3.list_objects_v2(Bucket=bucket, Prefix='bob/'),
]
print(prefix, end='')
for call in tried:
    try:
        call()
        print(' REACHED', end='')
    except ClientError as error:
        print(' ' + error.response['Error']['Code'], end='')
";

#[tokio::test]
async fn whoever_the_hub_lets_in_reaches_their_own_prefix_whatever_they_are_called() {
    let cluster = Cluster::enter().await;
    let hub = cluster.hub(&HUB);
    // The last two are one letter in two forms of Unicode.
    let names = [
        "*",
        "b*",
        "bobby",
        "${aws:username}",
        "jos\u{e9}",
        "jose\u{301}",
    ];
    cluster.server(&HUB, "bob").await;
    cluster.has_storage(&HUB, "bob").await;
    let bobs = hub.run("bob", OWN_AND_BOBS).await.unwrap().ok().unwrap();
    assert!(bobs.starts_with("bob"), "{bobs}");

    let mut said = Vec::new();
    for name in names {
        cluster.server(&HUB, name).await;
        cluster.has_storage(&HUB, name).await;
        let ran = hub.run(name, OWN_AND_BOBS).await.unwrap();
        said.push(ran.ok().unwrap());
        hub.stop(name).await.unwrap();
    }
    hub.stop("bob").await.unwrap();

    for (name, said) in names.into_iter().zip(said) {
        let own = Prefix::escaped(name.as_bytes());
        let refused = "AccessDenied AccessDenied AccessDenied";
        assert_eq!(said, format!("{own} {refused}"), "{name}");
    }
}
