//! The cache, with a clock that is moved and a store that fails.

use std::sync::Arc;

use async_trait::async_trait;
use hubstorage_cloud::Operation;
use hubstorage_cloud::memory::{Behaviour, MemoryCloud};
use hubstorage_core::api::StorageProvider;
use hubstorage_core::names::{BucketName, Prefix, Username};
use hubstorage_core::policies::{Access, Place, Reach};
use prometheus_client::registry::Registry;
use serde_json::json;

use super::*;
use crate::broker::refusal::Refusal;
use crate::providers::{ManagingSide, VendingSide};

/// Its keys are those of the Secret's version 7.
struct InMemory(MemoryCloud);

#[async_trait]
impl Connect for InMemory {
    async fn managing(&self, _: &StorageProvider) -> Result<ManagingSide, ConnectError> {
        let store = || Arc::new(self.0.store("manager"));
        Ok(ManagingSide {
            ours: store(),
            others: store(),
            roles: Arc::new(self.0.roles("manager")),
        })
    }

    async fn vending(&self, _: &StorageProvider) -> Result<VendingSide, ConnectError> {
        Ok(VendingSide {
            source: Arc::new(self.0.source("vendor")),
            probe: Arc::new(self.0.probe()),
            secret_version: Some("7".into()),
        })
    }
}

fn setup() -> (MemoryCloud, Vendor) {
    let cloud = MemoryCloud::new(Behaviour::aws());
    let clock = cloud.clone();
    let metrics = Metrics::register(&mut Registry::default());
    let vendor = Vendor::new(
        Arc::new(InMemory(cloud.clone())),
        Arc::new(move || clock.now()),
        metrics,
    );
    (cloud, vendor)
}

fn grantee(user: &str) -> Grantee {
    let provider = json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "StorageProvider",
        "metadata": {"name": "minio", "uid": "provider-1", "generation": 1},
        "spec": {"namespaces": {}, "bucketNames": ["*"]},
    });
    let prefix = Prefix::escaped(user.as_bytes());
    let bucket = BucketName::parse("earth-scratch").unwrap();
    Grantee {
        user: Username::parse(user).unwrap(),
        prefix: prefix.clone(),
        reaches: vec![Reach {
            bucket,
            place: Place::Own(prefix),
            access: Access::ReadWrite,
        }],
        hub: "earth".into(),
        hub_uid: "hub-1".into(),
        hub_user: format!("{user}-x"),
        provider: serde_json::from_value(provider).unwrap(),
        issuer: Issuer {
            secret_version: Some("7".into()),
            role: None,
        },
    }
}

fn outage() -> CloudError {
    CloudError::Unreachable {
        endpoint: "https://sts".into(),
        cause: "connection refused".into(),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_credential_is_issued_once_and_then_comes_from_the_cache() {
    let (cloud, vendor) = setup();
    let first = vendor.vend(&grantee("bob")).await.unwrap();
    cloud.advance(39 * MINUTE);
    let second = vendor.vend(&grantee("bob")).await.unwrap();
    assert_eq!((first.cached, second.cached), (false, true));
    assert_eq!(first.credential, second.credential);
    assert_eq!(cloud.count(Operation::Assume), 1);
}

#[tokio::test]
async fn two_users_never_share_a_credential() {
    let (cloud, vendor) = setup();
    let bob = vendor.vend(&grantee("bob")).await.unwrap();
    let eve = vendor.vend(&grantee("eve")).await.unwrap();
    assert_ne!(bob.credential.access_key_id, eve.credential.access_key_id);
    assert_eq!(cloud.count(Operation::Assume), 2);
}

#[tokio::test]
async fn another_policy_hub_or_provider_generation_means_another_credential() {
    let (_, vendor) = setup();
    let first = vendor.vend(&grantee("bob")).await.unwrap().credential;
    let edits: [fn(&mut Grantee); 4] = [
        |grantee| grantee.reaches[0].access = Access::ReadOnly,
        |grantee| grantee.hub_uid = "hub-2".into(),
        |grantee| grantee.provider.metadata.generation = Some(2),
        |grantee| grantee.provider.metadata.uid = Some("provider-2".into()),
    ];
    for edit in edits {
        let mut changed = grantee("bob");
        edit(&mut changed);
        let vended = vendor.vend(&changed).await.unwrap();
        assert!(!vended.cached && vended.credential != first);
    }
}

#[tokio::test]
async fn keys_other_than_those_that_were_tried_issue_nothing() {
    let (cloud, vendor) = setup();
    vendor.vend(&grantee("bob")).await.unwrap();
    let mut changed = grantee("bob");
    changed.issuer.secret_version = Some("8".into());

    let refused = vendor.vend(&changed).await.unwrap_err();

    assert_eq!(refused, VendError::KeysChanged);
    assert_eq!(cloud.count(Operation::Assume), 1);
}

#[tokio::test]
async fn a_credential_is_refreshed_from_twenty_minutes_before_its_end() {
    let (cloud, vendor) = setup();
    vendor.vend(&grantee("bob")).await.unwrap();
    cloud.advance(40 * MINUTE);
    let refreshed = vendor.vend(&grantee("bob")).await.unwrap();
    assert!(!refreshed.cached);
    assert_eq!(
        refreshed.credential.expires,
        cloud.now() + SignedDuration::from_hours(1)
    );
}

#[tokio::test]
async fn an_outage_of_the_store_goes_unnoticed_until_a_minute_before_the_end() {
    let (cloud, vendor) = setup();
    let first = vendor.vend(&grantee("bob")).await.unwrap().credential;
    cloud.fail_with(Some(outage()));
    for minutes in [40, 50, 58] {
        cloud.set_now(first.expires - SignedDuration::from_mins(60 - minutes));
        let served = vendor.vend(&grantee("bob")).await.unwrap();
        assert_eq!(
            (served.cached, &served.credential),
            (true, &first),
            "after {minutes} minutes"
        );
    }
    cloud.set_now(first.expires - SERVE_UNTIL);
    let error = vendor.vend(&grantee("bob")).await.unwrap_err();
    assert_eq!(error, VendError::StoreFailed(outage()));
}

#[tokio::test]
async fn a_store_that_fails_is_left_alone_for_a_moment_and_then_asked_again() {
    let (cloud, vendor) = setup();
    cloud.fail_with(Some(outage()));
    for _ in 0..5 {
        vendor.vend(&grantee("bob")).await.unwrap_err();
    }
    assert_eq!(cloud.count(Operation::Assume), 1);
    cloud.fail_with(None);
    cloud.advance(Duration::from_secs(2));
    vendor.vend(&grantee("bob")).await.unwrap();
    assert_eq!(cloud.count(Operation::Assume), 2);
}

#[tokio::test]
async fn of_many_requests_at_once_one_goes_to_the_store() {
    let (cloud, vendor) = setup();
    let grantee = grantee("bob");
    let all = futures::future::join_all((0..50).map(|_| vendor.vend(&grantee))).await;
    let first = all[0].as_ref().unwrap().credential.clone();
    assert!(
        all.iter()
            .all(|vended| vended.as_ref().unwrap().credential == first)
    );
    assert_eq!(cloud.count(Operation::Assume), 1);
}

#[tokio::test]
async fn a_credential_that_has_ended_by_our_clock_is_not_given_out() {
    let cloud = MemoryCloud::new(Behaviour::aws());
    let clock = cloud.clone();
    let ahead = move || clock.now() + SignedDuration::from_hours(1);
    let metrics = Metrics::register(&mut Registry::default());
    let vendor = Vendor::new(Arc::new(InMemory(cloud)), Arc::new(ahead), metrics);
    assert!(matches!(
        vendor.vend(&grantee("bob")).await,
        Err(VendError::StoreClock { .. })
    ));
}

#[tokio::test]
async fn a_user_who_reaches_nothing_gets_no_credential_of_the_vending_identity() {
    let (cloud, vendor) = setup();
    let mut nothing = grantee("bob");
    nothing.reaches.clear();
    assert_eq!(
        vendor.vend(&nothing).await.unwrap_err(),
        VendError::PolicyImpossible(PolicyError::Empty)
    );
    assert_eq!(cloud.count(Operation::Assume), 0);
}

#[tokio::test]
async fn a_policy_that_the_store_does_not_take_is_for_the_administrators_to_mend_and_no_reason_to_retry()
 {
    let (cloud, vendor) = setup();
    cloud.behave(|behaviour| behaviour.longest_session_policy = 100);
    let refusal = Refusal::from(vendor.vend(&grantee("bob")).await.unwrap_err());
    assert_eq!(
        (refusal.code(), refusal.status().as_u16()),
        ("PolicyRefused", 403)
    );
    let message = refusal.to_string();
    for part in [
        "PackedPolicyTooLarge",
        "spec.buckets[].grants",
        "administrators of the hub",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("retry"), "{message}");
}

#[tokio::test]
async fn a_vended_credential_says_no_secret_when_it_is_formatted() {
    let (_, vendor) = setup();
    let vended = vendor.vend(&grantee("bob")).await.unwrap();
    let text = format!("{vended:?}");
    assert!(
        !text.contains(vended.credential.secret_access_key.expose()),
        "{text}"
    );
    assert!(
        !text.contains(vended.credential.session_token.expose()),
        "{text}"
    );
}
