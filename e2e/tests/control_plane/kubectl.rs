//! What platform engineers see.

use crate::hub::{Hub, said};

#[tokio::test]
async fn one_screen_tells_the_whole_story() {
    let hub = Hub::ready("screen").await;
    let alice = hub.pod("alice", "alice").await;
    said(
        &alice,
        "import boto3; boto3.Session().get_credentials().get_frozen_credentials()",
    )
    .await;
    hub.until("the user to be counted", async || {
        hub.current().await["status"]["users"] == 1
    })
    .await;

    let screen = hub.get(&["hsp,hs,hu"]).await;

    let row = |kind: &str| {
        screen
            .lines()
            .find(|line| line.starts_with(kind))
            .unwrap_or_default()
            .to_owned()
    };
    let hubs = row("hubstorage.hubstorage.io/hub");
    for told in ["True", "Ready", "1/1", "1", "Unknown", &hub.namespace] {
        assert!(hubs.contains(told), "{told}: {screen}");
    }
    assert!(
        row("hubuser").contains("alice") && row("hubuser").contains("Active"),
        "{screen}"
    );
    assert!(
        screen.contains("ENDPOINT") && screen.contains("ISOLATED") && screen.contains("LAST-VEND"),
        "{screen}"
    );
    hub.remove().await;
}

#[tokio::test]
async fn every_field_is_explained() {
    let hub = Hub::namespace("explain").await;
    for field in [
        "hsp.spec.s3.vending.role",
        "hs.spec.buckets.lifecycle.expireAfterDays",
        "hu.spec.access",
        "hs.status.conditions",
    ] {
        let text = hub.kubectl(&["explain", field]).await;
        let description = text.split("DESCRIPTION:").nth(1).unwrap_or_default();
        assert!(
            description.trim().len() > 30 && !description.contains("<empty>"),
            "{field}: {text}"
        );
    }
    hub.remove().await;
}

#[tokio::test]
async fn the_example_files_are_taken_as_they_stand() {
    let hub = Hub::namespace("examples").await;
    for example in [
        "minio-provider.yaml",
        "hub.yaml",
        "dask-hub.yaml",
        "minio.yaml",
        "broker-network-policy.yaml",
    ] {
        let path = hub.platform.checkout.path("docs/examples").join(example);
        let path = path.to_str().unwrap();
        // The namespace `earth` is not there: the dry run checks kind, schema and rules only.
        hub.kubectl(&["apply", "--dry-run=client", "--validate=strict", "-f", path])
            .await;
    }
    hub.remove().await;
}

#[tokio::test]
async fn each_role_has_the_rights_it_needs_and_not_the_others() {
    let hub = Hub::namespace("rights").await;
    let can = async |role: &str, what: &str, namespace: &str| {
        let account = format!("--as=system:serviceaccount:hubstorage-system:hubstorage-{role}");
        let mut arguments = vec!["auth", "can-i", "-n", namespace, &account];
        arguments.extend(what.split(' '));
        let output = hub.platform.kubectl(&arguments).await.unwrap();
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    let (system, vending) = ("hubstorage-system", "hubstorage-vending");
    let users = hub.namespace.as_str();
    let cases = [
        ("serve", "get secrets/minio-vend", vending, true),
        ("serve", "get secrets/minio-manage", system, false),
        ("serve", "list secrets", system, false),
        ("serve", "get pods", users, true),
        ("serve", "create pods", users, false),
        ("serve", "patch hubstorages", users, false),
        ("serve", "patch hubusers --subresource=status", users, true),
        ("controller", "get secrets/minio-manage", system, true),
        ("controller", "get secrets/minio-vend", vending, false),
        ("controller", "get secrets", users, false),
        ("controller", "list pods", users, true),
        ("controller", "get pods", users, false),
        ("controller", "create pods", users, false),
        ("controller", "create hubusers", users, true),
        ("controller", "delete hubusers", users, false),
        (
            "controller",
            "patch hubstorages --subresource=status",
            users,
            true,
        ),
        (
            "controller",
            "update hubstorages --subresource=status",
            users,
            false,
        ),
    ];
    for (role, what, namespace, expected) in cases {
        let allowed = can(role, what, namespace).await;
        assert_eq!(allowed, expected, "{role}: {what} in {namespace}");
    }
    hub.remove().await;
}
