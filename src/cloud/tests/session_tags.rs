//! The second lock on a user's prefix: the role of a hub on Amazon, by the tag of the session. In memory, by
//! rules of IAM that no store at hand has; whether Amazon keeps them has not been tried.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use hubstorage_cloud::memory::{Behaviour, Bucket, MemoryCloud, MemorySession, Refusal};
use hubstorage_cloud::{AssumedRole, CloudError, CredentialSource as _, RolePart, RoleStore as _};
use hubstorage_core::names::{BucketName, Prefix, RoleName, SharedPrefix};
use hubstorage_core::plan::Owner;
use hubstorage_core::policies::{Access, Place, PolicyDocument, Reach};
use hubstorage_core::roles::{DeclaredRole, RoleHome};

const ACCOUNT: &str = "serve";

/// A bucket, a role that reaches it, and what the vending identity asks for.
struct Hub {
    cloud: MemoryCloud,
    bucket: BucketName,
    role: String,
}

impl Hub {
    async fn new() -> Self {
        let cloud = MemoryCloud::new(Behaviour::aws());
        let bucket = BucketName::parse("earth-scratch").unwrap();
        cloud.insert_by_hand(&bucket, Bucket::new(ACCOUNT, cloud.now()));
        let hub = Self {
            cloud,
            bucket,
            role: String::new(),
        };
        let role = DeclaredRole {
            name: RoleName::derive("here", "earth", "earth"),
            owner: Owner {
                installation: "here".into(),
                namespace: "earth".into(),
                name: "earth".into(),
            },
            trusted: "arn:aws:iam::123456789012:user/serve".into(),
            boundary: None,
            ceiling: [hub.bucket.clone()].into(),
            shared: BTreeSet::from([hub.reach(shared(), Access::ReadOnly)]),
            home: RoleHome::Amazon,
        };
        let roles = hub.cloud.roles(ACCOUNT);
        roles.create_role(&role).await.unwrap();
        roles.change_role(&role, RolePart::Policy).await.unwrap();
        let role = hub.cloud.role(&role.name).unwrap().arn;
        Self { role, ..hub }
    }

    fn reach(&self, place: Place, access: Access) -> Reach {
        Reach {
            bucket: self.bucket.clone(),
            place,
            access,
        }
    }

    async fn session(
        &self,
        tag: Option<&Prefix>,
        reaches: &[Reach],
    ) -> Result<MemorySession, CloudError> {
        let role = AssumedRole {
            arn: &self.role,
            tag,
        };
        let policy = PolicyDocument::allowing(reaches).unwrap();
        let source = self.cloud.source(ACCOUNT);
        let lifetime = Duration::from_secs(3600);
        let issued = source
            .assume(Some(role), "session", &policy, lifetime)
            .await?;
        Ok(self.cloud.session(&issued))
    }
}

fn own(user: &str) -> Prefix {
    Prefix::escaped(user.as_bytes())
}

fn shared() -> Place {
    Place::Shared(SharedPrefix::parse("_groups/ocean").unwrap())
}

#[tokio::test]
async fn a_session_reaches_the_prefix_of_its_tag_as_far_as_its_policy_says() {
    let hub = Hub::new().await;
    let bob = own("bob");
    let reaches = [hub.reach(Place::Own(bob.clone()), Access::ReadWrite)];
    let session = hub.session(Some(&bob), &reaches).await.unwrap();

    session.put(&hub.bucket, "bob/x", b"x").unwrap();
    assert_eq!(session.list(&hub.bucket, "bob/").unwrap(), ["bob/x"]);
    let beyond = session.get(&hub.bucket, "_groups/ocean/x");
    assert_eq!(beyond, Err(Refusal::AccessDenied));
}

#[tokio::test]
async fn a_session_policy_that_is_too_wide_does_not_leave_the_prefix_of_the_tag() {
    let hub = Hub::new().await;
    let everything = [hub.reach(Place::Whole, Access::ReadWrite)];
    let session = hub.session(Some(&own("bob")), &everything).await.unwrap();

    session.put(&hub.bucket, "bob/x", b"x").unwrap();
    for key in ["alice/x", "bobby/x", "_groups/ocean/x", "x"] {
        let written = session.put(&hub.bucket, key, b"x");
        assert_eq!(written, Err(Refusal::AccessDenied), "{key}");
    }
    for prefix in ["", "alice/", "bobby/", "bob"] {
        let listed = session.list(&hub.bucket, prefix);
        assert_eq!(listed, Err(Refusal::AccessDenied), "{prefix:?}");
    }
    let read = session.get(&hub.bucket, "_groups/ocean/x");
    assert_eq!(read, Err(Refusal::NotFound), "it is shared to read");
}

#[tokio::test]
async fn a_session_for_one_user_under_the_tag_of_another_reaches_nothing_of_either() {
    let hub = Hub::new().await;
    let alices = [hub.reach(Place::Own(own("alice")), Access::ReadWrite)];
    let session = hub.session(Some(&own("bob")), &alices).await.unwrap();

    for key in ["alice/x", "bob/x"] {
        let written = session.put(&hub.bucket, key, b"x");
        assert_eq!(written, Err(Refusal::AccessDenied), "{key}");
    }
}

#[tokio::test]
async fn without_a_tag_there_is_no_session() {
    let hub = Hub::new().await;
    let bobs = [hub.reach(Place::Own(own("bob")), Access::ReadWrite)];
    let refused = hub.session(None, &bobs).await;
    assert!(matches!(refused, Err(CloudError::AccessDenied { .. })));
}
