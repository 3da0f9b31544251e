//! `IsolationReady` and `InjectionReady`: what others have to bring about.

use std::collections::BTreeSet;

use hubstorage::certificates::WebhookState;
use hubstorage::guard::GuardState;
use hubstorage_cloud::memory::{Behaviour, Bucket};
use hubstorage_core::api::{Capability, ConditionType, Reason, StorageProvider};
use hubstorage_core::bucket_policy::{BucketPolicy, Grant, GrantedBy, Statement};
use hubstorage_core::supports::Supports;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::fixtures::{REGISTERED, hub, hub_with, namespace, persistent, provider, scratch};
use crate::world::World;

use ConditionType::{InjectionReady, IsolationReady, Ready, Reconciling, Stalled, VendingReady};

pub async fn settled() -> World {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.settle().await;
    world
}

/// What serve writes: the verdict on each bucket, for a provider as it is now.
pub fn probed(world: &World, verdicts: [(&str, &str); 2]) {
    let provider = world.server.get::<StorageProvider>(&provider()).unwrap();
    let buckets: Vec<Value> = ["scratch", "persistent"]
        .iter()
        .zip(verdicts)
        .map(|(name, (verdict, message))| {
            json!({
                "name": name, "bucketName": format!("earth-{name}"), "verdict": verdict, "message": message,
                "providerUid": provider.uid(), "providerGeneration": provider.metadata.generation,
            })
        })
        .collect();
    world.server.edit(&hub(), |hub| {
        hub["status"]["vending"] = json!({"buckets": buckets})
    });
}

pub const ISOLATED: (&str, &str) = ("Isolated", "");

#[tokio::test]
async fn before_a_probe_nobody_knows_and_that_does_not_hold_readiness_back() {
    let world = settled().await;
    world.says(
        &hub(),
        IsolationReady,
        "Unknown",
        Reason::ProbePending,
        &["nothing is vended"],
    );
    world.says(
        &hub(),
        Ready,
        "True",
        Reason::Ready,
        &["earth-scratch", "earth-persistent"],
    );
}

#[tokio::test]
async fn a_probe_that_found_everybody_held_apart_leaves_what_else_users_have() {
    let mut world = settled().await;
    probed(&world, [ISOLATED, ISOLATED]);
    world.settle().await;
    world.says(
        &hub(),
        IsolationReady,
        "Unknown",
        Reason::MetadataServiceUntried,
        &[],
    );
    assert!(world.is_ready(&hub()));
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_leak_makes_the_hub_unready_and_says_which_call_got_through() {
    let mut world = settled().await;
    probed(
        &world,
        [ISOLATED, ("Leaks", "GetObject on alice/x was not refused")],
    );
    world.settle().await;
    let told = ["persistent", "GetObject on alice/x was not refused"];
    world.says(&hub(), IsolationReady, "False", Reason::ProbeLeaks, &told);
    world.says(&hub(), Ready, "False", Reason::ProbeLeaks, &told);
    world.says(&hub(), Reconciling, "True", Reason::ProbeLeaks, &told);
    world.stays_as_it_is().await;

    probed(&world, [ISOLATED, ISOLATED]);
    world.settle().await;
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn a_probe_that_could_not_be_carried_out_is_unknown_and_says_why() {
    let mut world = settled().await;
    probed(&world, [("Unknown", "s3:PutObject is missing"), ISOLATED]);
    world.settle().await;
    world.says(
        &hub(),
        IsolationReady,
        "Unknown",
        Reason::ProbeInconclusive,
        &["scratch", "VendingReady"],
    );
    let words = ["scratch", "nothing is vended", "s3:PutObject is missing"];
    for type_ in [VendingReady, Ready] {
        world.says(&hub(), type_, "False", Reason::ProbeInconclusive, &words);
    }
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn what_keeps_a_hub_from_having_a_bucket_is_why_nobody_knows() {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    forbid_namespace(&world);
    world.settle().await;
    let (reason, words) = (Reason::NamespaceNotAllowed, ["spec.namespaces"]);
    world.says(&hub(), IsolationReady, "Unknown", reason, &words);
}

#[tokio::test]
async fn a_verdict_on_known_buckets_stands_while_nobody_gets_as_far_as_the_store() {
    let mut world = settled().await;
    probed(&world, [ISOLATED, ISOLATED]);
    forbid_namespace(&world);
    world.settle().await;
    world.says(&hub(), Ready, "False", Reason::NamespaceNotAllowed, &[]);
    let reason = Reason::MetadataServiceUntried;
    world.says(&hub(), IsolationReady, "Unknown", reason, &[]);
}

#[tokio::test]
async fn a_hub_that_is_paused_after_its_namespace_was_taken_away_stays_refused() {
    let mut world = settled().await;
    probed(&world, [ISOLATED, ISOLATED]);
    forbid_namespace(&world);
    world.settle().await;
    world
        .server
        .edit(&hub(), |hub| hub["spec"]["mode"] = json!("Paused"));
    world.settle().await;
    let reason = Reason::NamespaceNotAllowed;
    world.says(&hub(), Stalled, "True", reason, &["spec.namespaces"]);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn where_the_store_makes_no_bucket_there_is_nothing_to_be_tried() {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.cloud.behave(|behaviour| {
        behaviour.missing_permissions.insert("s3:CreateBucket");
    });
    world.settle().await;
    let (reason, words) = (Reason::AccessDenied, ["s3:CreateBucket"]);
    world.says(&hub(), IsolationReady, "Unknown", reason, &words);
}

pub fn forbid_namespace(world: &World) {
    world.server.edit(&namespace("earth"), |namespace| {
        namespace["metadata"]["labels"] = json!({"tier": "test"})
    });
}

#[tokio::test]
async fn a_probe_of_one_bucket_says_nothing_of_the_other() {
    let mut world = settled().await;
    probed(&world, [ISOLATED, ISOLATED]);
    world.server.edit(&hub(), |hub| {
        hub["status"]["vending"]["buckets"]
            .as_array_mut()
            .unwrap()
            .pop();
    });
    world.settle().await;
    world.says(&hub(), IsolationReady, "Unknown", Reason::ProbePending, &[]);
}

#[tokio::test]
async fn a_probe_of_an_older_provider_does_not_count() {
    for verdict in [ISOLATED, ("Leaks", "GetObject got through")] {
        let mut world = settled().await;
        probed(&world, [verdict, verdict]);
        world.server.edit(&provider(), |provider| {
            provider["spec"]["driftCheckInterval"] = json!("1h")
        });
        world.settle().await;
        world.says(&hub(), IsolationReady, "Unknown", Reason::ProbePending, &[]);
    }
}

#[tokio::test]
async fn a_probe_of_a_provider_that_was_made_anew_does_not_count() {
    let mut world = settled().await;
    probed(&world, [ISOLATED, ISOLATED]);
    world.server.delete(&provider());
    world.server.apply(&provider());
    world.settle().await;
    world.says(&hub(), IsolationReady, "Unknown", Reason::ProbePending, &[]);
}

#[tokio::test]
async fn without_the_guard_the_hub_is_not_ready_and_with_it_it_is_again() {
    let mut world = settled().await;
    let why = "ValidatingAdmissionPolicy hubstorage-stamp is missing".to_owned();
    world.guard_is(GuardState::Missing { why });
    world.settle().await;
    let told = [
        "nothing is vended",
        "ValidatingAdmissionPolicy hubstorage-stamp is missing",
    ];
    world.says(&hub(), IsolationReady, "False", Reason::GuardMissing, &told);
    world.says(&hub(), Ready, "False", Reason::GuardMissing, &told);
    world.stays_as_it_is().await;

    let since = world.cloud.now();
    world.guard_is(GuardState::InForce { since });
    world.settle().await;
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn without_the_webhook_the_hub_is_not_ready_and_with_it_it_is_again() {
    for (state, reason) in [
        (WebhookState::Missing, Reason::WebhookMissing),
        (
            WebhookState::AuthorityMismatch,
            Reason::CertificateAuthorityMismatch,
        ),
    ] {
        let mut world = settled().await;
        world.webhook_is(state);
        world.settle().await;
        world.says(&hub(), InjectionReady, "False", reason, &[]);
        world.says(&hub(), Ready, "False", reason, &[]);
        world.webhook_is(REGISTERED);
        world.settle().await;
        assert!(world.is_ready(&hub()));
    }
}

#[tokio::test]
async fn what_the_vending_identity_wrote_is_never_touched() {
    let mut world = settled().await;
    probed(&world, [ISOLATED, ISOLATED]);
    let before = world.hub(&hub()).status.unwrap().vending;
    world.server.edit(&hub(), |hub| {
        hub["spec"]["buckets"][0]["lifecycle"]["expireAfterDays"] = json!(3)
    });
    world.settle().await;
    assert_eq!(world.hub(&hub()).status.unwrap().vending, before);
}

#[tokio::test]
async fn a_provider_that_vends_nothing_leaves_isolation_unknown() {
    let mut world = settled().await;
    world.server.edit(&provider(), |provider| {
        provider["spec"]["s3"]["vending"] = Value::Null
    });
    world.settle().await;
    world.says(
        &hub(),
        IsolationReady,
        "Unknown",
        Reason::VendingNotConfigured,
        &["spec.s3.vending"],
    );
    assert!(world.is_ready(&hub()));
}

/// Somebody's statements in the policy of the scratch bucket.
fn grant(world: &World, statements: Value) {
    let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    world.cloud.edit_by_hand(&scratch(), |bucket| {
        bucket.policy = BucketPolicy::parse(&policy).unwrap();
    });
}

fn allow(sid: &str, principal: &str) -> Value {
    json!({"Sid": sid, "Effect": "Allow", "Principal": {"AWS": principal}, "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::earth-scratch/*"})
}

#[tokio::test]
async fn what_others_statements_grant_is_named_though_another_bucket_is_throttled() {
    let mut world = settled().await;
    probed(&world, [ISOLATED, ISOLATED]);
    world.settle().await;
    let throttled = BTreeSet::from([persistent()]);
    world
        .cloud
        .behave(|behaviour| behaviour.throttled = throttled);
    grant(
        &world,
        json!([allow("OldHub", "arn:aws:iam::123456789012:user/hub")]),
    );
    // Beside ours, so that there is nothing to put right.
    let ours = BTreeSet::from([Statement::DenyInsecureTransport]);
    world.cloud.edit_by_hand(&scratch(), |bucket| {
        let both = bucket.policy.with(&scratch(), &ours).unwrap();
        bucket.policy = BucketPolicy::parse(&both).unwrap();
    });
    let writes = world.cloud.writes();

    world.reconcile_hub(&hub()).await.unwrap();

    assert_eq!(world.cloud.writes(), writes);
    world.says(
        &hub(),
        IsolationReady,
        "False",
        Reason::OtherGrants,
        &["OldHub"],
    );
    assert!(!world.is_ready(&hub()));
}

#[tokio::test]
async fn what_others_statements_grant_is_named_until_it_is_gone_also_over_news() {
    let mut world = settled().await;
    probed(&world, [ISOLATED, ISOLATED]);
    let user = "arn:aws:iam::123456789012:user/hub";
    grant(&world, json!([allow("OldHub", user)]));
    world.settle().await;
    let words = ["earth-scratch", "OldHub", user, "take them out"];
    let says = |world: &World, type_| {
        world.says(&hub(), type_, "False", Reason::OtherGrants, &words);
    };
    says(&world, IsolationReady);
    says(&world, Ready);
    world.stays_as_it_is().await;

    // What is told from memory alone knows it too.
    for state in [
        GuardState::Missing {
            why: "gone".to_owned(),
        },
        GuardState::InForce {
            since: world.cloud.now(),
        },
    ] {
        world.guard_is(state);
        world.retell(&hub()).await.unwrap();
    }
    says(&world, IsolationReady);

    grant(&world, json!([]));
    world.settle().await;
    world.says(&hub(), Ready, "True", Reason::Ready, &[]);
}

/// On Ceph RGW, say: no setting keeps access control lists from being opened.
#[tokio::test]
async fn what_an_access_control_list_grants_is_named_until_it_is_gone() {
    let without_ownership = Behaviour {
        supports: Supports::ALL.without(Capability::ObjectOwnership),
        ..Behaviour::aws()
    };
    let mut world = World::new(without_ownership).with(&hub());
    world.settle().await;
    probed(&world, [ISOLATED, ISOLATED]);
    let open = |world: &World, is_open: bool| {
        let everybody = Grant {
            by: GrantedBy::AccessList,
            principals: vec!["*".to_owned()],
            actions: vec!["READ".to_owned()],
        };
        let list = is_open.then_some(everybody);
        let written = world.cloud.edit_by_hand(&scratch(), |bucket| {
            bucket.access_list = list.into_iter().collect();
        });
        written.unwrap();
    };
    open(&world, true);
    world.settle().await;
    let words = ["earth-scratch: the access control list grants READ to *"];
    world.says(&hub(), Ready, "False", Reason::OtherGrants, &words);
    world.stays_as_it_is().await;

    open(&world, false);
    world.settle().await;
    world.says(&hub(), Ready, "True", Reason::Ready, &[]);
}

#[tokio::test]
async fn mode_observe_names_grants_and_the_providers_own_role_is_none() {
    let role = "arn:aws:iam::123456789012:role/vending";
    let provider = crate::fixtures::provider_with(
        json!({"s3": {"vending": {"role": {"management": "Given", "arn": role}}}}),
    );
    let only =
        json!([{"name": "scratch", "bucketName": "earth-scratch", "management": "AccessOnly"}]);
    let observing = hub_with(
        "earth",
        "earth",
        json!({"mode": "Observe", "buckets": only}),
    );
    let mut world = World::new(Behaviour::aws()).with(&provider);
    let bucket = Bucket::new(crate::fixtures::ACCOUNT, world.cloud.now());
    world.cloud.insert_by_hand(&scratch(), bucket);
    world.server.apply(&observing);
    grant(&world, json!([allow("Vending", role)]));
    world.settle().await;
    assert!(world.is_ready(&observing));
    grant(
        &world,
        json!([allow("Vending", role), allow("Old", "123456789012")]),
    );
    world.settle().await;
    world.says(
        &observing,
        IsolationReady,
        "False",
        Reason::OtherGrants,
        &["Old"],
    );
    let message = world.condition(&observing, IsolationReady).message;
    assert!(!message.contains("Vending"), "{message}");
}

#[tokio::test]
async fn a_bucket_that_the_hub_itself_opens_to_others_is_told_and_holds_nothing_up() {
    let everyone = json!([{"kind": "Everyone"}]);
    let own = json!({"name": "own", "subjects": everyone, "scope": "UserPrefix", "permission": "ReadWrite"});
    let all = json!({"name": "all", "subjects": [{"kind": "Group", "name": "staff"}], "scope": "Bucket", "permission": "ReadOnly"});
    let grants = |world: &World, grants: Value| {
        let server = &world.server;
        server.edit(&hub(), |hub| hub["spec"]["buckets"][0]["grants"] = grants);
    };
    let mut world = settled().await;
    probed(&world, [ISOLATED, ISOLATED]);
    grants(&world, json!([own, all]));
    world.settle().await;
    let words = [
        "As declared",
        "grant all lets its subjects",
        "read every user's data in bucket scratch",
    ];
    world.says(
        &hub(),
        IsolationReady,
        "Unknown",
        Reason::MetadataServiceUntried,
        &words,
    );
    assert!(world.is_ready(&hub()));
    world.stays_as_it_is().await;

    // Nobody has a prefix of their own there: what is shared is nobody else's.
    for nothing_of_others in [json!([all]), json!([own])] {
        grants(&world, nothing_of_others);
        world.settle().await;
        let told = world.condition(&hub(), IsolationReady);
        assert!(!told.message.contains("As declared"), "{}", told.message);
    }
}
