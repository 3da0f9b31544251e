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
    for example in ["minio-provider.yaml", "hub.yaml"] {
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
    let can = async |role: &str, arguments: &[&str]| {
        let account = format!("--as=system:serviceaccount:hubstorage-system:hubstorage-{role}");
        let all = [&["auth", "can-i"], arguments, &[account.as_str()]].concat();
        let output = hub.platform.kubectl(&all).await.unwrap();
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    // The vending side never reads managing keys, and writes nothing but status.
    assert!(
        can(
            "serve",
            &["get", "secrets/minio-vend", "-n", "hubstorage-vending"]
        )
        .await
    );
    assert!(
        !can(
            "serve",
            &["get", "secrets/minio-manage", "-n", "hubstorage-system"]
        )
        .await
    );
    assert!(!can("serve", &["list", "secrets", "-n", "hubstorage-system"]).await);
    assert!(!can("serve", &["create", "pods", "-n", &hub.namespace]).await);
    assert!(!can("serve", &["patch", "hubstorages", "-n", &hub.namespace]).await);
    assert!(
        !can(
            "controller",
            &["get", "secrets/minio-vend", "-n", "hubstorage-vending"]
        )
        .await
    );
    assert!(!can("controller", &["get", "secrets", "-n", &hub.namespace]).await);
    assert!(!can("controller", &["create", "pods", "-n", &hub.namespace]).await);
    assert!(
        can(
            "controller",
            &["get", "secrets/minio-manage", "-n", "hubstorage-system"]
        )
        .await
    );
    hub.remove().await;
}
