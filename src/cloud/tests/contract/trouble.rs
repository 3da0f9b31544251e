//! What goes wrong between here and the store.

use std::time::Duration;

use hubstorage_cloud::{AssumedRole, CloudError, Disposition, Tags};
use hubstorage_core::names::Prefix;
use hubstorage_core::policies::{Access, Place, PolicyDocument, Reach};

use crate::world::{World, WrongKeys};

pub async fn keys_that_work_have_access_and_belong_to_one_account(world: &dyn World) {
    let account = world.store().await.check_access().await.unwrap();
    assert!(account.as_ref().is_some_and(|account| !account.is_empty()));
    // Another connection with the same keys.
    assert_eq!(world.store().await.check_access().await, Ok(account));
}

pub async fn keys_that_the_store_does_not_know_are_told(world: &dyn World) {
    let answer = world.store_with_unknown_key().await.check_access().await;
    assert_told(world, answer.map(drop));
}

pub async fn a_secret_that_does_not_fit_its_key_is_told(world: &dyn World) {
    let answer = world.store_with_wrong_secret().await.check_access().await;
    assert_told(world, answer.map(drop));
}

pub async fn vending_keys_that_do_not_fit_are_told(world: &dyn World) {
    let bob = Reach {
        bucket: world.new_name(),
        place: Place::Own(Prefix::escaped(b"bob")),
        access: Access::ReadWrite,
    };
    let policy = PolicyDocument::allowing(&[bob]).unwrap();
    let source = world.source_with_wrong_secret().await;
    let answer = source
        .assume(
            world.role().as_deref().map(AssumedRole::untagged),
            "bob",
            &policy,
            Duration::from_secs(900),
        )
        .await;
    assert_told(world, answer.map(drop));
}

/// As far as the store tells: that the keys are wrong, or that a right is missing. Neither passes
/// by itself.
fn assert_told(world: &dyn World, answer: Result<(), CloudError>) {
    let error = match (world.traits().wrong_keys, answer) {
        (WrongKeys::Taken, answer) => return assert_eq!(answer, Ok(())),
        (_, answer) => answer.unwrap_err(),
    };
    match world.traits().wrong_keys {
        WrongKeys::Denied => assert!(
            matches!(error, CloudError::AccessDenied { .. }),
            "{error:?}"
        ),
        _ => assert!(
            matches!(error, CloudError::CredentialsRejected { .. }),
            "{error:?}"
        ),
    }
    assert_eq!(error.disposition(), Disposition::Stall);
}

pub async fn a_closed_port_is_unreachable(world: &dyn World) {
    let store = world.store_at_a_closed_port().await;
    let (bucket, tags) = (world.new_name(), Tags::default());
    for error in [
        store.check_access().await.unwrap_err(),
        store.create_bucket(&bucket, &tags).await.unwrap_err(),
    ] {
        assert!(matches!(error, CloudError::Unreachable { .. }), "{error:?}");
        assert_eq!(error.disposition(), Disposition::Retry);
    }
}
