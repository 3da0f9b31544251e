//! Keys, roles, and what a session with a policy may do.

use std::time::Duration;

use hubstorage_cloud::{AssumedRole, CloudError, ProbeVerdict};
use hubstorage_core::names::{BucketName, Prefix};
use hubstorage_core::policies::{Access, Place, PolicyDocument, Reach};
use serde_json::json;

use super::{Finding, iam};
use crate::probing;
use crate::s3::S3World;
use crate::sdk;
use crate::vending::vend;
use crate::world::{Denial, User, World, new_bucket};

/// More calls than this are counted, not named.
const NAMED: usize = 4;

pub async fn wrong_keys(world: &S3World) -> Finding {
    let stores = [
        world.store_with_unknown_key().await,
        world.store_with_wrong_secret().await,
    ];
    let mut findings = Vec::new();
    for store in stores {
        findings.push(match store.check_access().await {
            Err(CloudError::CredentialsRejected { .. }) => Finding::Yes,
            Err(CloudError::AccessDenied { .. }) => Finding::no("`AccessDenied` for both"),
            Err(error) => Finding::No(error.to_string()),
            Ok(_) => Finding::no("takes any key"),
        });
    }
    assert_eq!(findings[0], findings[1]);
    findings.remove(0)
}

/// Makes a role with a policy, assumes it, works, tries to assume it once more as its session, and
/// removes both.
pub async fn roles(world: &S3World) -> Finding {
    let bucket = new_bucket(world).await;
    let call = async |parameters: &[(&str, &str)]| {
        let (endpoint, region) = (world.endpoint(), world.which().region);
        iam::call(iam::IAM, endpoint, region, world.manager(), parameters).await
    };
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": {"AWS": [world.which().vending_principal]},
        "Action": ["sts:AssumeRole"],
    }]})
    .to_string();
    let ceiling = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
        "Resource": ["arn:aws:s3:::*"],
    }]})
    .to_string();
    // Of one bucket, as tests run beside each other.
    let name = ("RoleName", bucket.as_str());
    let make = [
        ("Action", "CreateRole"),
        name,
        ("Path", "/hubstorage/"),
        ("AssumeRolePolicyDocument", &trust),
    ];
    let made = match call(&make).await {
        Ok(made) => made,
        Err(code) => return Finding::No(format!("`{code}`")),
    };
    let policy = ("PolicyName", "ceiling");
    let put = [
        ("Action", "PutRolePolicy"),
        name,
        policy,
        ("PolicyDocument", &ceiling),
    ];
    call(&put).await.unwrap();

    let role = iam::inside(&made, "Arn").unwrap().to_owned();
    let source = world.source().await;
    let reach = Reach {
        bucket: bucket.clone(),
        place: Place::Own(Prefix::escaped(b"bob")),
        access: Access::ReadWrite,
    };
    let narrow = PolicyDocument::allowing(&[reach]).unwrap();
    let session = source.assume(
        Some(AssumedRole::untagged(&role)),
        "bob",
        &narrow,
        Duration::from_secs(900),
    );
    let session = session.await.unwrap();
    let user = world.user(&session);
    user.put(&bucket, "bob/object", "x").await.unwrap();
    let again = [
        ("Action", "AssumeRole"),
        ("RoleArn", &role),
        ("RoleSessionName", "again"),
    ];
    let (endpoint, region) = (world.endpoint(), world.which().region);
    let again = iam::call(iam::STS, endpoint, region, sdk::session(&session), &again).await;

    for action in [
        &[("Action", "DeleteRolePolicy"), name, policy][..],
        &[("Action", "DeleteRole"), name],
    ] {
        call(action).await.unwrap();
    }
    match again {
        Ok(_) => Finding::YesAnd("and a session may assume its role again".into()),
        Err(_) => Finding::Yes,
    }
}

/// A new bucket, and a user who is held to `bob` in it.
async fn bob(world: &S3World) -> (BucketName, Box<dyn User>) {
    let bucket = new_bucket(world).await;
    let own = Prefix::escaped(b"bob");
    let credential = vend(world, &[(&bucket, &own, Access::ReadWrite)]).await;
    let user = world.user(&credential);
    (bucket, user)
}

pub async fn keys_of_others(world: &S3World) -> Finding {
    let (bucket, bob) = bob(world).await;
    let key = "alice/secret";
    world.put_by_hand(&bucket, key).await;
    let answers = [
        bob.get(&bucket, key).await.map(drop),
        bob.put(&bucket, key, "new").await,
        bob.list(&bucket, "alice/").await.map(drop),
        bob.delete(&bucket, key).await,
    ];
    if answers.iter().all(|it| *it == Err(Denial::AccessDenied)) {
        Finding::Yes
    } else {
        Finding::no("session policies are taken, and limit nothing")
    }
}

pub async fn absent_keys(world: &S3World) -> Finding {
    let (bucket, bob) = bob(world).await;
    match bob.get(&bucket, "alice/absent").await {
        Err(Denial::AccessDenied) => Finding::Yes,
        Err(Denial::NotFound) => Finding::no("404 for one that is not there"),
        answer => Finding::No(format!("{answer:?}")),
    }
}

pub async fn bulk_delete(world: &S3World) -> Finding {
    let (bucket, bob) = bob(world).await;
    bob.put(&bucket, "bob/object", "x").await.unwrap();
    match bob.delete_all(&bucket, &["bob/object"]).await {
        Ok(()) => Finding::Yes,
        Err(Denial::AccessDenied) => Finding::no("`AccessDenied`"),
        Err(denial) => Finding::No(format!("{denial:?}")),
    }
}

pub async fn probe(world: &S3World) -> Finding {
    match probing::of_a_limited_session(world).await {
        ProbeVerdict::Isolated => Finding::Other("isolated".into()),
        ProbeVerdict::Leaks { calls } if calls.len() > NAMED => {
            Finding::Other(format!("leaks: {} calls come through", calls.len()))
        }
        ProbeVerdict::Leaks { calls } => Finding::Other(format!("leaks: {}", calls.join(", "))),
        ProbeVerdict::Unknown { call, cause } => {
            Finding::Other(format!("unknown: could not {call}: {cause}"))
        }
    }
}
