//! Vended credentials: everything under the own prefix, nothing elsewhere.

use std::time::Duration;

use hubstorage_cloud::Credential;
use hubstorage_core::names::{BucketName, Prefix, session_name};
use hubstorage_core::policies::{Access, PolicyDocument, Reach};
use jiff::SignedDuration;

use crate::world::{Denial, World, new_bucket};

const DENIED: Denial = Denial::AccessDenied;

/// A credential for `prefixes`, each in its bucket.
pub async fn vend(world: &dyn World, reaches: &[(&BucketName, &Prefix, Access)]) -> Credential {
    let reaches: Vec<Reach> = reaches
        .iter()
        .map(|(bucket, prefix, access)| Reach {
            bucket: (*bucket).clone(),
            prefix: (*prefix).clone(),
            access: *access,
        })
        .collect();
    let policy = PolicyDocument::allowing(&reaches).unwrap();
    let session = session_name(&reaches[0].prefix);
    world
        .source()
        .await
        .assume(&session, &policy, Duration::from_secs(900))
        .await
        .unwrap()
}

fn prefix(name: &str) -> Prefix {
    Prefix::escaped(name.as_bytes())
}

/// The same calls that are refused elsewhere, on the own prefix: each goes through.
async fn assert_reaches(
    world: &dyn World,
    credential: &Credential,
    bucket: &BucketName,
    own: &Prefix,
) {
    let user = world.user(credential);
    let key = |name: &str| format!("{own}/{name}");
    user.put(bucket, &key("a"), "contents").await.unwrap();
    assert_eq!(user.get(bucket, &key("a")).await.unwrap(), "contents");
    user.copy(bucket, &key("a"), &key("b")).await.unwrap();
    user.upload_in_parts(bucket, &key("c"), "parts")
        .await
        .unwrap();
    assert_eq!(
        user.list(bucket, &key("")).await.unwrap(),
        [key("a"), key("b"), key("c")]
    );
    user.delete(bucket, &key("a")).await.unwrap();
    user.delete_all(bucket, &[&key("b"), &key("c")])
        .await
        .unwrap();
    assert_eq!(user.get(bucket, &key("a")).await, Err(Denial::NotFound));
    assert_eq!(
        user.list(bucket, &key("")).await.unwrap(),
        Vec::<String>::new()
    );
}

/// Every way to `other`, in which `other/secret` exists: each is refused, and nothing changed.
async fn assert_refused(
    world: &dyn World,
    credential: &Credential,
    bucket: &BucketName,
    own: &Prefix,
    other: &Prefix,
) {
    let user = world.user(credential);
    let (secret, mine) = (format!("{other}/secret"), format!("{own}/mine"));
    world.put_by_hand(bucket, &secret).await;
    world.put_by_hand(bucket, &mine).await;
    assert_eq!(user.get(bucket, &secret).await, Err(DENIED));
    assert_eq!(user.put(bucket, &secret, "overwritten").await, Err(DENIED));
    assert_eq!(user.copy(bucket, &secret, &mine).await, Err(DENIED));
    assert_eq!(user.copy(bucket, &mine, &secret).await, Err(DENIED));
    assert_eq!(
        user.upload_in_parts(bucket, &secret, "overwritten").await,
        Err(DENIED)
    );
    assert_eq!(user.delete(bucket, &secret).await, Err(DENIED));
    assert_eq!(user.delete_all(bucket, &[&secret]).await, Err(DENIED));
    assert_eq!(user.list(bucket, &format!("{other}/")).await, Err(DENIED));
    assert_eq!(user.list(bucket, "").await, Err(DENIED));
    let owner = vend(world, &[(bucket, other, Access::ReadWrite)]).await;
    assert_eq!(
        world.user(&owner).get(bucket, &secret).await.unwrap(),
        "by hand"
    );
}

pub async fn a_session_does_everything_under_its_own_prefix(world: &dyn World) {
    let (bucket, bob) = (new_bucket(world).await, prefix("bob"));
    let credential = vend(world, &[(&bucket, &bob, Access::ReadWrite)]).await;
    assert_reaches(world, &credential, &bucket, &bob).await;
}

pub async fn a_session_is_refused_under_every_other_prefix(world: &dyn World) {
    let (bucket, bob) = (new_bucket(world).await, prefix("bob"));
    let credential = vend(world, &[(&bucket, &bob, Access::ReadWrite)]).await;
    for other in ["alice", "bo", "bob-", "*"] {
        assert_refused(world, &credential, &bucket, &bob, &prefix(other)).await;
    }
}

pub async fn a_session_for_bob_does_not_list_bobby(world: &dyn World) {
    let (bucket, bob, bobby) = (new_bucket(world).await, prefix("bob"), prefix("bobby"));
    let credential = vend(world, &[(&bucket, &bob, Access::ReadWrite)]).await;
    assert_refused(world, &credential, &bucket, &bob, &bobby).await;
    let user = world.user(&credential);
    for listed in ["bob", "bobb", "bobby", "b"] {
        assert_eq!(user.list(&bucket, listed).await, Err(DENIED), "{listed}");
    }
}

pub async fn a_prefix_made_of_a_hostile_name_holds(world: &dyn World) {
    let bucket = new_bucket(world).await;
    // Names that would be active in a policy if they were pasted into it.
    for (name, other) in [
        ("*", "bob"),
        ("?ob", "bob"),
        ("${aws:username}", "bob"),
        ("../bob", "bob"),
        ("Bob", "bob"),
    ] {
        let (own, other) = (prefix(name), prefix(other));
        let credential = vend(world, &[(&bucket, &own, Access::ReadWrite)]).await;
        assert_reaches(world, &credential, &bucket, &own).await;
        assert_refused(world, &credential, &bucket, &own, &other).await;
    }
}

pub async fn a_session_for_one_bucket_is_refused_in_another(world: &dyn World) {
    let (mine, other, bob) = (
        new_bucket(world).await,
        new_bucket(world).await,
        prefix("bob"),
    );
    let credential = vend(world, &[(&mine, &bob, Access::ReadWrite)]).await;
    let user = world.user(&credential);
    world.put_by_hand(&other, "bob/there").await;
    assert_eq!(user.get(&other, "bob/there").await, Err(DENIED));
    assert_eq!(user.put(&other, "bob/new", "x").await, Err(DENIED));
    assert_eq!(user.list(&other, "bob/").await, Err(DENIED));
    assert_eq!(user.list(&mine, "bob/").await, Ok(vec![]));
}

pub async fn a_read_only_session_does_not_write(world: &dyn World) {
    let (bucket, ocean) = (new_bucket(world).await, prefix("ocean"));
    let credential = vend(world, &[(&bucket, &ocean, Access::ReadOnly)]).await;
    let user = world.user(&credential);
    world.put_by_hand(&bucket, "ocean/data").await;
    assert_eq!(user.get(&bucket, "ocean/data").await.unwrap(), "by hand");
    assert_eq!(user.list(&bucket, "ocean/").await.unwrap(), ["ocean/data"]);
    assert_eq!(user.put(&bucket, "ocean/data", "x").await, Err(DENIED));
    assert_eq!(user.delete(&bucket, "ocean/data").await, Err(DENIED));
    assert_eq!(user.delete_all(&bucket, &["ocean/data"]).await, Err(DENIED));
    assert_eq!(
        user.upload_in_parts(&bucket, "ocean/data", "x").await,
        Err(DENIED)
    );
}

pub async fn a_session_ends_in_900_seconds_or_later(world: &dyn World) {
    let bucket = new_bucket(world).await;
    let bob = Reach {
        bucket,
        prefix: prefix("bob"),
        access: Access::ReadWrite,
    };
    let policy = PolicyDocument::allowing(&[bob]).unwrap();
    for (asked, least) in [(60, 900), (900, 900), (3600, 3600)] {
        // Stores cut the end to whole seconds.
        let before = world.now() - SignedDuration::from_secs(1);
        let credential = world
            .source()
            .await
            .assume("bob", &policy, Duration::from_secs(asked))
            .await
            .unwrap();
        let remaining = credential.expires.duration_since(before);
        assert!(
            remaining >= SignedDuration::from_secs(least),
            "{asked}: {remaining}"
        );
        assert!(
            remaining < SignedDuration::from_secs(least + 300),
            "{asked}: {remaining}"
        );
    }
}

pub async fn a_policy_with_several_buckets_reaches_each_as_granted(world: &dyn World) {
    let (scratch, shared) = (new_bucket(world).await, new_bucket(world).await);
    let (bob, ocean) = (prefix("bob"), prefix("ocean"));
    let credential = vend(
        world,
        &[
            (&scratch, &bob, Access::ReadWrite),
            (&shared, &ocean, Access::ReadOnly),
        ],
    )
    .await;
    let user = world.user(&credential);
    world.put_by_hand(&shared, "ocean/data").await;
    user.put(&scratch, "bob/data", "x").await.unwrap();
    assert_eq!(user.get(&shared, "ocean/data").await.unwrap(), "by hand");
    for (bucket, key) in [
        (&shared, "ocean/data"),
        (&shared, "bob/data"),
        (&scratch, "ocean/data"),
    ] {
        assert_eq!(
            user.put(bucket, key, "x").await,
            Err(DENIED),
            "{bucket} {key}"
        );
    }
    assert_eq!(user.list(&shared, "bob/").await, Err(DENIED));
    assert_eq!(user.list(&scratch, "ocean/").await, Err(DENIED));
}
