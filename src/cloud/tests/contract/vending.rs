//! Vended credentials: everything under the own prefix, nothing elsewhere.

use std::time::Duration;

use hubstorage_cloud::{AssumedRole, Credential};
use hubstorage_core::names::{BucketName, Prefix, SharedPrefix, session_name};
use hubstorage_core::policies::{Access, MAX_SESSION_POLICY, Place, PolicyDocument, Reach};
use jiff::SignedDuration;

use crate::world::{Denial, Sessions, World, new_bucket};

/// Holds a call that the policy does not allow to the store's traits.
fn beyond<T: std::fmt::Debug>(world: &dyn World, what: &str, answer: Result<T, Denial>) {
    let is_denied = matches!(answer, Err(Denial::AccessDenied));
    let is_held = world.traits().sessions != Sessions::NotHeld;
    assert_eq!(is_denied, is_held, "{what}: {answer:?}");
}

/// A credential for `prefixes`, each in its bucket.
pub async fn vend(world: &dyn World, reaches: &[(&BucketName, &Prefix, Access)]) -> Credential {
    let reaches: Vec<Reach> = reaches
        .iter()
        .map(|(bucket, prefix, access)| Reach {
            bucket: (*bucket).clone(),
            place: Place::Own((*prefix).clone()),
            access: *access,
        })
        .collect();
    vend_places(world, &reaches).await
}

/// A credential for what these come to.
async fn vend_places(world: &dyn World, reaches: &[Reach]) -> Credential {
    let policy = PolicyDocument::allowing(reaches).unwrap();
    let session = session_name(&prefix("bob"));
    world
        .source()
        .await
        .assume(
            world.role().as_deref().map(AssumedRole::untagged),
            &session,
            &policy,
            Duration::from_secs(900),
        )
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
    let rest = [key("b"), key("c")];
    let in_bulk = user.delete_all(bucket, &[&rest[0], &rest[1]]).await;
    let has_bulk = !matches!(
        world.traits().sessions,
        Sessions::Held {
            bulk_delete: false,
            ..
        }
    );
    if has_bulk {
        assert_eq!(in_bulk, Ok(()));
    } else {
        assert_eq!(in_bulk, Err(Denial::AccessDenied));
        for key in &rest {
            user.delete(bucket, key).await.unwrap();
        }
    }
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
    beyond(world, "get", user.get(bucket, &secret).await);
    beyond(world, "put", user.put(bucket, &secret, "new").await);
    beyond(world, "copy out", user.copy(bucket, &secret, &mine).await);
    beyond(world, "copy in", user.copy(bucket, &mine, &secret).await);
    let uploaded = user.upload_in_parts(bucket, &secret, "new").await;
    beyond(world, "upload", uploaded);
    let listed = user.list(bucket, &format!("{other}/")).await;
    beyond(world, "list", listed);
    beyond(world, "list everything", user.list(bucket, "").await);
    beyond(world, "delete", user.delete(bucket, &secret).await);
    let deleted = user.delete_all(bucket, &[&secret]).await;
    beyond(world, "delete in bulk", deleted);
    if world.traits().sessions != Sessions::NotHeld {
        let owner = vend(world, &[(bucket, other, Access::ReadWrite)]).await;
        assert_eq!(
            world.user(&owner).get(bucket, &secret).await.unwrap(),
            "by hand"
        );
    }
}

/// What a session is told of a key that is not there: of its own that it is not, of others nothing.
pub async fn a_session_learns_of_absent_keys_only_under_its_own_prefix(world: &dyn World) {
    let (bucket, bob) = (new_bucket(world).await, prefix("bob"));
    let credential = vend(world, &[(&bucket, &bob, Access::ReadWrite)]).await;
    let user = world.user(&credential);
    let own = user.get(&bucket, "bob/absent").await;
    assert_eq!(own, Err(Denial::NotFound));
    let told = match world.traits().sessions {
        Sessions::Held {
            tells_absent_keys, ..
        } => tells_absent_keys,
        Sessions::NotHeld => true,
    };
    let expected = if told {
        Denial::NotFound
    } else {
        Denial::AccessDenied
    };
    assert_eq!(user.get(&bucket, "alice/absent").await, Err(expected));
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
        beyond(world, listed, user.list(&bucket, listed).await);
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
    beyond(world, "get", user.get(&other, "bob/there").await);
    beyond(world, "put", user.put(&other, "bob/new", "x").await);
    beyond(world, "list", user.list(&other, "bob/").await);
    assert_eq!(user.list(&mine, "bob/").await, Ok(vec![]));
}

pub async fn a_read_only_session_does_not_write(world: &dyn World) {
    let (bucket, ocean) = (new_bucket(world).await, prefix("ocean"));
    let credential = vend(world, &[(&bucket, &ocean, Access::ReadOnly)]).await;
    let user = world.user(&credential);
    world.put_by_hand(&bucket, "ocean/data").await;
    assert_eq!(user.get(&bucket, "ocean/data").await.unwrap(), "by hand");
    assert_eq!(user.list(&bucket, "ocean/").await.unwrap(), ["ocean/data"]);
    let data = "ocean/data";
    beyond(world, "put", user.put(&bucket, data, "x").await);
    let uploaded = user.upload_in_parts(&bucket, data, "x").await;
    beyond(world, "upload", uploaded);
    beyond(world, "delete", user.delete(&bucket, data).await);
    let deleted = user.delete_all(&bucket, &[data]).await;
    beyond(world, "delete in bulk", deleted);
}

pub async fn a_session_reaches_what_is_shared_as_far_as_it_is(world: &dyn World) {
    let (mine, data) = (new_bucket(world).await, new_bucket(world).await);
    let ocean = Place::Shared(SharedPrefix::parse("_groups/ocean").unwrap());
    let reach = |bucket: &BucketName, place, access| Reach {
        bucket: bucket.clone(),
        place,
        access,
    };
    let credential = vend_places(
        world,
        &[
            reach(&mine, Place::Own(prefix("bob")), Access::ReadWrite),
            reach(&mine, ocean, Access::ReadWrite),
            reach(&data, Place::Whole, Access::ReadOnly),
        ],
    )
    .await;
    let user = world.user(&credential);
    for key in ["_groups/ocean/data", "_groups/oceans/data", "alice/data"] {
        world.put_by_hand(&mine, key).await;
        world.put_by_hand(&data, key).await;
    }
    let (there, new) = ("_groups/ocean/data", "_groups/ocean/new");
    user.put(&mine, new, "ours").await.unwrap();
    assert_eq!(user.get(&mine, there).await.unwrap(), "by hand");
    let listed = user.list(&mine, "_groups/ocean/").await;
    assert_eq!(listed.unwrap(), [there, new]);
    beyond(world, "list beside", user.list(&mine, "_groups/").await);
    beyond(
        world,
        "get beside",
        user.get(&mine, "_groups/oceans/data").await,
    );
    beyond(
        world,
        "put beside",
        user.put(&mine, "_groups/oceans/x", "x").await,
    );
    beyond(world, "get another's", user.get(&mine, "alice/data").await);
    let everything = user.list(&data, "").await.unwrap();
    assert_eq!(
        everything,
        ["_groups/ocean/data", "_groups/oceans/data", "alice/data"]
    );
    assert_eq!(user.get(&data, "alice/data").await.unwrap(), "by hand");
    beyond(
        world,
        "put into what is read",
        user.put(&data, "bob/x", "x").await,
    );
    beyond(
        world,
        "delete there",
        user.delete(&data, "alice/data").await,
    );
}

pub async fn a_session_ends_in_900_seconds_or_later(world: &dyn World) {
    let bucket = new_bucket(world).await;
    let bob = Reach {
        bucket,
        place: Place::Own(prefix("bob")),
        access: Access::ReadWrite,
    };
    let policy = PolicyDocument::allowing(&[bob]).unwrap();
    for (asked, least) in [(60, 900), (900, 900), (3600, 3600)] {
        // Stores cut the end to whole seconds.
        let before = world.now() - SignedDuration::from_secs(1);
        let credential = world
            .source()
            .await
            .assume(
                world.role().as_deref().map(AssumedRole::untagged),
                "bob",
                &policy,
                Duration::from_secs(asked),
            )
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
        beyond(world, key, user.put(bucket, key, "x").await);
    }
    beyond(world, "bob/", user.list(&shared, "bob/").await);
    beyond(world, "ocean/", user.list(&scratch, "ocean/").await);
}

/// What [`PolicyDocument`] takes for short enough, the store does.
pub async fn a_policy_as_long_as_there_may_be_is_taken_and_holds(world: &dyn World) {
    let bucket = new_bucket(world).await;
    let mut reaches = vec![Reach {
        bucket: bucket.clone(),
        place: Place::Own(prefix("bob")),
        access: Access::ReadWrite,
    }];
    let mut longest = String::new();
    for number in 0.. {
        reaches.push(Reach {
            place: Place::Shared(SharedPrefix::parse(&format!("_{number}")).unwrap()),
            ..reaches[0].clone()
        });
        match PolicyDocument::allowing(&reaches) {
            Ok(policy) => longest = policy.as_str().to_owned(),
            Err(_) => break,
        }
    }
    reaches.pop();
    assert!(longest.len() > MAX_SESSION_POLICY - 100, "{longest}");
    let user = world.user(&vend_places(world, &reaches).await);
    user.put(&bucket, "bob/object", "x").await.unwrap();
    beyond(
        world,
        "put under another's prefix",
        user.put(&bucket, "bobby/object", "x").await,
    );
}
