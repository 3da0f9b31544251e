//! The negative probe tells a session that is held to its prefix from one that is not.

use std::time::Duration;

use hubstorage_cloud::{AssumedRole, Credential, ProbeVerdict};
use hubstorage_core::names::{BucketName, Prefix};
use hubstorage_core::policies::{Access, Place, PolicyDocument, Reach};

use crate::vending::vend;
use crate::world::{Sessions, World, new_bucket};

struct Canaries {
    bucket: BucketName,
    own: Prefix,
    foreign: Prefix,
}

async fn canaries(world: &dyn World) -> Canaries {
    Canaries {
        bucket: new_bucket(world).await,
        own: Prefix::reserved("canary-a"),
        foreign: Prefix::reserved("canary-b"),
    }
}

async fn verdict(world: &dyn World, canaries: &Canaries, session: &Credential) -> ProbeVerdict {
    verdict_of(world, canaries, world.role().as_deref(), session).await
}

async fn verdict_of(
    world: &dyn World,
    canaries: &Canaries,
    role: Option<&str>,
    session: &Credential,
) -> ProbeVerdict {
    let probe = world.probe().await;
    probe
        .probe(
            &canaries.bucket,
            role,
            session,
            &canaries.own,
            &canaries.foreign,
            true,
        )
        .await
}

/// What the probe says of a session that is limited to its own prefix.
pub async fn of_a_limited_session(world: &dyn World) -> ProbeVerdict {
    let canaries = canaries(world).await;
    limited(world, &canaries).await
}

/// The same of one of this role.
pub async fn of_a_session_of(world: &dyn World, bucket: &BucketName, role: &str) -> ProbeVerdict {
    let canaries = Canaries {
        bucket: bucket.clone(),
        ..canaries(world).await
    };
    let own = Reach {
        bucket: canaries.bucket.clone(),
        place: Place::Own(canaries.own.clone()),
        access: Access::ReadWrite,
    };
    let policy = PolicyDocument::allowing(&[own]).unwrap();
    let lifetime = Duration::from_secs(900);
    let source = world.source().await;
    let session = source
        .assume(
            Some(AssumedRole::untagged(role)),
            "canary",
            &policy,
            lifetime,
        )
        .await;
    verdict_of(world, &canaries, Some(role), &session.unwrap()).await
}

async fn limited(world: &dyn World, canaries: &Canaries) -> ProbeVerdict {
    let own = (&canaries.bucket, &canaries.own, Access::ReadWrite);
    let session = vend(world, &[own]).await;
    verdict(world, canaries, &session).await
}

/// What comes through where a policy limits nothing, whatever else does.
const UNLIMITED: [&str; 5] = [
    "put",
    "copy to the other prefix",
    "delete",
    "list the other prefix",
    "list without prefix",
];

/// The calls about keys that are not there, where the store says so before it looks at permissions.
/// What exists is refused; the probe cannot know, as it has nothing under the other prefix.
const TELLS_ABSENT: [&str; 7] = [
    "get",
    "head",
    "copy from the other prefix",
    "copy to the other prefix",
    "get through ..",
    "get through %2e%2e",
    "get through //",
];

fn assert_unlimited(verdict: &ProbeVerdict) {
    let ProbeVerdict::Leaks { calls } = verdict else {
        panic!("{verdict:?}")
    };
    assert!(
        UNLIMITED.iter().all(|call| calls.contains(call)),
        "{calls:?}"
    );
}

pub async fn the_probe_finds_out_whether_a_session_is_held_to_its_policy(world: &dyn World) {
    let canaries = canaries(world).await;
    let verdict = limited(world, &canaries).await;
    match world.traits().sessions {
        Sessions::NotHeld => return assert_unlimited(&verdict),
        Sessions::Held {
            tells_absent_keys: true,
            ..
        } => assert_eq!(
            verdict,
            ProbeVerdict::Leaks {
                calls: TELLS_ABSENT.to_vec()
            }
        ),
        Sessions::Held { .. } => assert_eq!(verdict, ProbeVerdict::Isolated),
    }
    let store = world.store().await;
    let unclaimed = store.unclaimed(&canaries.bucket).await.unwrap();
    assert!(unclaimed.empty, "the probe left something behind");
}

/// Who may write to the whole bucket may write there; nothing that anybody can name keeps the probe from telling.
pub async fn what_lies_under_the_canaries_prefixes_does_not_change_the_verdict(world: &dyn World) {
    let clean = of_a_limited_session(world).await;
    let canaries = canaries(world).await;
    let both = [
        (&canaries.bucket, &canaries.own, Access::ReadWrite),
        (&canaries.bucket, &canaries.foreign, Access::ReadWrite),
    ];
    let writer = world.user(&vend(world, &both).await);
    for prefix in [&canaries.own, &canaries.foreign] {
        for name in ["absent", "probe", "copy"] {
            let key = format!("{prefix}/{name}");
            writer.put(&canaries.bucket, &key, "x").await.unwrap();
        }
    }
    assert_eq!(limited(world, &canaries).await, clean);
}

pub async fn a_session_that_also_reaches_the_other_prefix_leaks(world: &dyn World) {
    let canaries = canaries(world).await;
    let bucket = &canaries.bucket;
    let both = [
        (bucket, &canaries.own, Access::ReadWrite),
        (bucket, &canaries.foreign, Access::ReadOnly),
    ];
    let session = vend(world, &both).await;
    let verdict = verdict(world, &canaries, &session).await;
    if world.traits().sessions == Sessions::NotHeld {
        return assert_unlimited(&verdict);
    }
    let ProbeVerdict::Leaks { calls } = verdict else {
        panic!("no leak")
    };
    assert!(
        calls.contains(&"get") && calls.contains(&"list the other prefix"),
        "{calls:?}"
    );
    assert!(
        !calls.contains(&"put") && !calls.contains(&"list without prefix"),
        "{calls:?}"
    );
}

pub async fn a_session_without_its_own_prefix_proves_nothing(world: &dyn World) {
    let canaries = canaries(world).await;
    let session = vend(
        world,
        &[(
            &canaries.bucket,
            &Prefix::escaped(b"bob"),
            Access::ReadWrite,
        )],
    )
    .await;
    let verdict = verdict(world, &canaries, &session).await;
    if world.traits().sessions == Sessions::NotHeld {
        // There is no such session.
        return assert_unlimited(&verdict);
    }
    assert!(
        matches!(verdict, ProbeVerdict::Unknown { .. }),
        "{verdict:?}"
    );
}
