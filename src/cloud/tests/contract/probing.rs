//! The negative probe tells a session that is held to its prefix from one that is not.

use hubstorage_cloud::{Credential, ProbeVerdict};
use hubstorage_core::names::{BucketName, Prefix};
use hubstorage_core::policies::Access;

use crate::vending::vend;
use crate::world::{World, new_bucket};

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
    let probe = world.probe().await;
    probe
        .probe(
            &canaries.bucket,
            session,
            &canaries.own,
            &canaries.foreign,
            true,
        )
        .await
}

pub async fn a_session_with_its_policy_is_isolated(world: &dyn World) {
    let canaries = canaries(world).await;
    let session = vend(
        world,
        &[(&canaries.bucket, &canaries.own, Access::ReadWrite)],
    )
    .await;
    assert_eq!(
        verdict(world, &canaries, &session).await,
        ProbeVerdict::Isolated
    );
    assert!(
        world
            .store()
            .await
            .unclaimed(&canaries.bucket)
            .await
            .unwrap()
            .empty,
        "the probe left something behind"
    );
}

pub async fn a_session_that_also_reaches_the_other_prefix_leaks(world: &dyn World) {
    let canaries = canaries(world).await;
    let bucket = &canaries.bucket;
    let both = [
        (bucket, &canaries.own, Access::ReadWrite),
        (bucket, &canaries.foreign, Access::ReadOnly),
    ];
    let session = vend(world, &both).await;
    let ProbeVerdict::Leaks { calls } = verdict(world, &canaries, &session).await else {
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
    assert!(
        matches!(verdict, ProbeVerdict::Unknown { .. }),
        "{verdict:?}"
    );
}
