//! Each refusal by its name, and what a user gets otherwise.

use hubstorage_core::api::{STAMP_ANNOTATION, USERNAME_ANNOTATION, USERNAME_LABEL};
use hubstorage_core::names::SharedPrefix;
use hubstorage_core::policies::{Access, Place, PolicyDocument};
use serde_json::{Value, json};

use super::*;

/// What the watches have seen, as JSON: edited by each test, read by [`authorise`].
struct Seen {
    pod: Value,
    /// The servers that run.
    servers: Vec<Value>,
    hubs: Vec<Value>,
    providers: Vec<Value>,
    users: Vec<Value>,
    /// resourceVersion of the Secret `vend`, if there is one.
    secret: Option<String>,
    guard: GuardState,
}

fn seconds(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Seen {
    /// Everything as it should be: bob's notebook at the hub earth.
    fn new() -> Self {
        Self {
            pod: json!({
                "name": "jupyter-bob", "namespace": "earth", "uid": "uid-1",
                "creationTimestamp": "2026-05-01T10:00:00Z",
                "labels": {"component": "singleuser-server", "hub.jupyter.org/username": "bob"},
                "annotations": {
                    "hub.jupyter.org/username": "bob",
                    "hubstorage.io/created-by": "system:serviceaccount:earth:hub",
                },
            }),
            servers: Vec::new(),
            hubs: vec![hub("earth", "2026-01-01T00:00:00Z")],
            providers: vec![json!({
                "apiVersion": "hubstorage.io/v1alpha1", "kind": "StorageProvider",
                "metadata": {"name": "minio", "uid": "provider-1", "generation": 3},
                "spec": {
                    "namespaces": {}, "bucketNames": ["earth-*"],
                    "s3": {
                        "region": "us-east-1", "credentials": {"type": "Ambient"},
                        "vending": {"credentials": {"type": "Secret", "secretRef": {"name": "vend"}}},
                    },
                },
            })],
            users: Vec::new(),
            secret: Some("7".into()),
            guard: GuardState::InForce {
                since: seconds("2026-04-01T00:00:00Z"),
            },
        }
    }

    fn with(edit: impl FnOnce(&mut Self)) -> Result<Grantee, Denied> {
        let mut seen = Self::new();
        edit(&mut seen);
        seen.authorise()
    }

    fn authorise(&self) -> Result<Grantee, Denied> {
        let pod = serde_json::from_value(self.pod.clone()).unwrap();
        let servers = servers_needed(&pod, self)?.unwrap_or_default();
        authorise(&pod, &servers, self)
    }
}

fn hub(name: &str, created: &str) -> Value {
    json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
        "metadata": {"name": name, "namespace": "earth", "uid": format!("uid-of-{name}"), "creationTimestamp": created},
        "spec": {"providerRef": {"name": "minio"}, "buckets": [{"name": "scratch"}, {"name": "persistent"}]},
        "status": {
            "buckets": [
                {"name": "scratch", "bucketName": "earth-scratch", "store": "Amazon S3 us-east-1"},
                {"name": "persistent", "bucketName": "earth-persistent", "store": "Amazon S3 us-east-1"},
            ],
            "vending": {"buckets": [verdict_on("scratch", "Isolated"), verdict_on("persistent", "Isolated")]},
        },
    })
}

fn verdict_on(bucket: &str, verdict: &str) -> Value {
    json!({
        "name": bucket, "bucketName": format!("earth-{bucket}"),
        "providerUid": "provider-1", "providerGeneration": 3, "secretVersion": "7", "verdict": verdict, "message": "get got through",
    })
}

fn guarded<K: serde::de::DeserializeOwned + kube::Resource>(
    object: &Value,
) -> Arc<DeserializeGuard<K>> {
    Arc::new(serde_json::from_value(object.clone()).unwrap())
}

fn live(pod: &Value) -> LivePod {
    Arc::new(serde_json::from_value(json!({"metadata": pod})).unwrap())
}

fn is_named(object: &Value, namespace: Option<&str>, name: &str) -> bool {
    object["metadata"]["name"] == name
        && namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace)
}

impl World for Seen {
    fn hubs(&self, namespace: &str) -> Vec<Arc<DeserializeGuard<HubStorage>>> {
        self.hubs
            .iter()
            .filter(|hub| hub["metadata"]["namespace"] == namespace)
            .map(guarded)
            .collect()
    }

    fn provider(&self, name: &str) -> Option<Arc<DeserializeGuard<StorageProvider>>> {
        self.providers
            .iter()
            .find(|provider| is_named(provider, None, name))
            .map(guarded)
    }

    /// Of every namespace: that those of others do not count is not left to who is asked.
    fn pods(&self, _: &str) -> Vec<LivePod> {
        self.servers.iter().chain([&self.pod]).map(live).collect()
    }

    fn user(&self, namespace: &str, name: &str) -> Option<Arc<DeserializeGuard<HubUser>>> {
        self.users
            .iter()
            .find(|user| is_named(user, Some(namespace), name))
            .map(guarded)
    }

    fn suspended(&self, namespace: &str, hub: &str, user: &Username) -> Option<String> {
        let is_it = |found: &&Value| {
            found["metadata"]["namespace"] == namespace
                && found["spec"]["hubRef"]["name"] == hub
                && found["spec"]["username"] == user.as_str()
                && found["spec"]["access"] == "Suspended"
        };
        let found = self.users.iter().find(is_it);
        found.map(|found| found["metadata"]["name"].as_str().unwrap().to_owned())
    }

    fn vending_secret(&self, name: &str) -> Option<String> {
        self.secret.clone().filter(|_| name == "vend")
    }

    fn guard(&self) -> GuardState {
        self.guard.clone()
    }
}

fn denied(edit: impl FnOnce(&mut Seen)) -> (&'static str, u16, String) {
    let denied = Seen::with(edit).unwrap_err();
    let message = denied.to_string();
    assert!(!message.contains('\n'), "{message}");
    ((&denied).into(), denied.status().as_u16(), message)
}

fn buckets(grantee: &Grantee) -> Vec<&str> {
    grantee
        .reaches
        .iter()
        .map(|reach| reach.bucket.as_str())
        .collect()
}

#[test]
fn a_user_gets_their_own_prefix_in_every_bucket_that_grants_it() {
    let grantee = Seen::new().authorise().unwrap();
    assert_eq!(
        (grantee.user.as_str(), grantee.prefix.as_str()),
        ("bob", "bob")
    );
    assert_eq!(
        (grantee.hub.as_str(), grantee.hub_uid.as_str()),
        ("earth", "uid-of-earth")
    );
    assert_eq!(buckets(&grantee), ["earth-persistent", "earth-scratch"]);
    let own = Place::Own(grantee.prefix.clone());
    assert!(
        grantee
            .reaches
            .iter()
            .all(|reach| reach.place == own && reach.access == Access::ReadWrite)
    );
}

#[test]
fn two_users_never_get_the_same_prefix() {
    let prefix_of = |name: &str| {
        Seen::with(|seen| seen.pod["annotations"]["hub.jupyter.org/username"] = json!(name))
            .unwrap()
            .prefix
    };
    assert_ne!(prefix_of("bob"), prefix_of("Bob"));
    assert_ne!(prefix_of("b*"), prefix_of("bob"));
    assert!(!prefix_of("b*").as_str().contains('*'));
}

#[test]
fn the_oldest_hub_of_the_namespace_counts() {
    let older = hub("mars", "2025-01-01T00:00:00Z");
    assert_eq!(
        Seen::with(|seen| seen.hubs.push(older)).unwrap().hub,
        "mars"
    );
}

#[test]
fn grants_reach_the_own_prefix_a_shared_one_or_all_of_the_bucket() {
    let policy = |grants: Value| {
        let grantee = Seen::with(|seen| {
            seen.hubs[0]["spec"]["buckets"] = json!([{"name": "scratch", "grants": grants}]);
        });
        let reaches = grantee.unwrap().reaches;
        let policy = PolicyDocument::allowing(&reaches).unwrap();
        serde_json::from_str::<Value>(policy.as_str()).unwrap()["Statement"].clone()
    };
    let grant = |name: &str, scope: &str, permission: &str| json!({"name": name, "subjects": [{"kind": "Everyone"}], "scope": scope, "permission": permission});
    let mut ocean = grant("ocean", "Prefix", "ReadOnly");
    ocean["prefix"] = json!("_groups/ocean");
    let objects = |what: &str| json!([format!("arn:aws:s3:::earth-scratch/{what}*")]);

    let own = policy(json!([grant("own", "UserPrefix", "ReadOnly")]));
    assert_eq!(own[0]["Action"], json!(["s3:GetObject"]));
    assert_eq!(own[0]["Resource"], objects("bob/"));

    let widest = policy(json!([
        grant("r", "UserPrefix", "ReadOnly"),
        grant("w", "UserPrefix", "ReadWrite")
    ]));
    assert_eq!(widest[0]["Action"][1], "s3:PutObject");
    assert_eq!(widest[0]["Resource"], objects("bob/"));
    assert_eq!(widest[1]["Action"], json!(["s3:ListBucket"]));

    let shared = policy(json!([grant("own", "UserPrefix", "ReadWrite"), ocean]));
    assert_eq!(shared[0]["Resource"], objects("bob/"));
    assert_eq!(shared[1]["Action"], json!(["s3:GetObject"]));
    assert_eq!(shared[1]["Resource"], objects("_groups/ocean/"));

    let whole = policy(json!([grant("all", "Bucket", "ReadOnly")]));
    assert_eq!(whole[0]["Resource"], objects(""));
    assert_eq!(whole[1]["Action"], json!(["s3:ListBucket"]));
    assert_eq!(whole[1]["Condition"], Value::Null);
}

#[test]
fn a_pod_of_a_namespace_without_hub_gets_nothing() {
    let (code, status, message) = denied(|seen| seen.pod["namespace"] = json!("mars"));
    assert_eq!((code, status), ("NoHubStorage", 404));
    assert!(message.contains("mars"), "{message}");
}

#[test]
fn a_hub_that_is_being_deleted_vends_nothing() {
    let edit = |seen: &mut Seen| {
        seen.hubs[0]["metadata"]["deletionTimestamp"] = json!("2026-05-01T00:00:00Z")
    };
    assert_eq!(denied(edit).0, "HubStorageDeleting");
}

#[test]
fn a_hub_whose_namespace_the_provider_no_longer_allows_vends_nothing() {
    let stalled = |status: &str, reason: &str| {
        json!([{"type": "Stalled", "status": status, "reason": reason, "message": "label the namespace",
                "lastTransitionTime": "2026-05-01T00:00:00Z"}])
    };
    let (code, _, message) = denied(|seen| {
        seen.hubs[0]["status"]["conditions"] = stalled("True", "NamespaceNotAllowed")
    });
    assert_eq!(code, "HubStorageNotAllowed");
    assert!(message.contains("label the namespace"), "{message}");
    // The managing side's troubles are not the users'.
    Seen::with(|seen| {
        seen.hubs[0]["status"]["conditions"] = stalled("True", "CredentialsRejected")
    })
    .unwrap();
}

#[test]
fn an_object_that_cannot_be_read_is_not_taken_for_absent() {
    let (code, status, message) = denied(|seen| {
        seen.hubs.push(hub("broken", "2027-01-01T00:00:00Z"));
        seen.hubs[1]["spec"]["users"] = json!({"prefixScheme": "Reversed"});
    });
    assert_eq!((code, status), ("ObjectUnreadable", 503));
    assert!(message.contains("HubStorage broken"), "{message}");
    let broken_provider =
        |seen: &mut Seen| seen.providers[0]["spec"]["s3"]["addressing"] = json!("Diagonal");
    assert_eq!(denied(broken_provider).0, "ObjectUnreadable");
    assert_eq!(
        denied(|seen| seen.users.push(hub_user("Vacationing"))).0,
        "ObjectUnreadable"
    );
}

#[test]
fn a_pod_whose_labels_match_no_source_is_no_users_pod() {
    assert_eq!(
        denied(|seen| seen.pod["labels"] = json!({"component": "hub"})).0,
        "NotAUserPod"
    );
    assert_eq!(
        denied(|seen| seen.pod["labels"] = Value::Null).0,
        "NotAUserPod"
    );
    // The controller does not see it, so nobody could suspend or audit its user.
    let unseen = |seen: &mut Seen| seen.pod["labels"] = json!({"component": "singleuser-server"});
    assert_eq!(denied(unseen).0, "NotAUserPod");
}

#[test]
fn a_pod_without_stamp_gets_nothing() {
    let edit = |seen: &mut Seen| _ = annotations(seen).remove(STAMP_ANNOTATION);
    assert_eq!(denied(edit).0, "StampMissing");
}

#[test]
fn a_stamp_of_an_account_that_is_no_creator_gets_nothing() {
    for account in [
        "system:serviceaccount:earth:default",
        "system:serviceaccount:mars:hub",
        "kubernetes-admin",
        "",
        "system:serviceaccount:earth:hub ",
    ] {
        let (code, status, message) = denied(|seen| {
            annotations(seen).insert(STAMP_ANNOTATION.into(), json!(account));
        });
        assert_eq!((code, status), ("StampUntrusted", 403));
        assert!(
            message.contains("spec.users.sources[notebook].creators"),
            "{message}"
        );
    }
}

#[test]
fn the_creators_of_one_source_do_not_vouch_for_pods_of_another() {
    let (code, _, message) = denied(|seen| {
        seen.hubs[0]["spec"]["users"] = json!({"sources": [
            {"name": "notebook", "podSelector": {"matchLabels": {"component": "singleuser-server"}},
             "creators": [{"serviceAccount": {"name": "spawner"}}]},
            {"name": "dask", "podSelector": {"matchLabels": {"app": "dask"}},
             "creators": [{"serviceAccount": {"name": "hub"}}]},
        ]});
    });
    assert_eq!(code, "StampUntrusted");
    assert!(message.contains("sources[notebook]"), "{message}");
}

#[test]
fn a_selector_with_an_unknown_operator_selects_nothing() {
    let (code, _, message) = denied(|seen| {
        seen.hubs[0]["spec"]["users"] = json!({"sources": [{
            "name": "notebook", "creators": [{"serviceAccount": {"name": "hub"}}],
            "podSelector": {"matchExpressions": [{"key": "component", "operator": "Like", "values": ["x"]}]},
        }]});
    });
    assert_eq!(code, "SelectorInvalid");
    assert!(
        message.contains("sources[notebook].podSelector"),
        "{message}"
    );
}

#[test]
fn a_pod_without_username_or_with_an_empty_one_gets_nothing() {
    let missing = |seen: &mut Seen| _ = annotations(seen).remove(USERNAME_ANNOTATION);
    assert_eq!(denied(missing).0, "UsernameMissing");
    let empty =
        |seen: &mut Seen| _ = annotations(seen).insert(USERNAME_ANNOTATION.into(), json!(""));
    let (code, status, message) = denied(empty);
    assert_eq!((code, status), ("UsernameInvalid", 403));
    assert!(message.contains("the username is empty"), "{message}");
}

#[test]
fn a_username_that_is_unsafe_under_raw_gets_nothing_rather_than_another_prefix() {
    let (code, _, message) = denied(|seen| {
        seen.hubs[0]["spec"]["users"] = json!({"prefixScheme": "Raw"});
        annotations(seen).insert(USERNAME_ANNOTATION.into(), json!("b*"));
    });
    assert_eq!(code, "PrefixUnsafe");
    assert!(message.contains("prefixScheme"), "{message}");
}

#[test]
fn nothing_is_vended_while_the_guard_is_missing() {
    let (code, status, message) = denied(|seen| {
        seen.guard = GuardState::Missing {
            why: "no policy pods".into(),
        }
    });
    assert_eq!((code, status), ("GuardMissing", 503));
    assert!(message.contains("no policy pods"), "{message}");
}

#[test]
fn a_pod_that_is_older_than_the_guard_has_to_be_restarted() {
    let since = |time: &str| {
        let since = seconds(time);
        move |seen: &mut Seen| seen.guard = GuardState::InForce { since }
    };
    Seen::with(since("2026-05-01T10:00:00Z")).unwrap();
    // Of the same second, and nobody knows which was first.
    let (code, status, message) = denied(since("2026-05-01T10:00:00.3Z"));
    assert_eq!((code, status), ("PodOlderThanGuard", 403));
    assert!(message.contains("restart the server"), "{message}");
    assert_eq!(
        denied(|seen| seen.pod["creationTimestamp"] = Value::Null).0,
        "PodOlderThanGuard"
    );
}

#[test]
fn a_suspended_user_gets_nothing_and_an_active_one_everything() {
    Seen::with(|seen| seen.users.push(hub_user("Active"))).unwrap();
    let (code, status, message) = denied(|seen| seen.users.push(hub_user("Suspended")));
    assert_eq!((code, status), ("UserSuspended", 403));
    assert!(message.contains("HubUser bob-"), "{message}");
}

#[test]
fn a_user_is_suspended_by_an_object_of_any_name_beside_the_operators_own() {
    let (code, _, message) = denied(|seen| {
        let mut by_hand = hub_user("Suspended");
        by_hand["metadata"]["name"] = json!("locked-out");
        seen.users.extend([hub_user("Active"), by_hand]);
    });
    assert_eq!(code, "UserSuspended");
    assert!(message.contains("HubUser locked-out"), "{message}");
}

#[test]
fn a_suspended_user_of_another_namespace_or_hub_is_somebody_else() {
    Seen::with(|seen| {
        let mut elsewhere = hub_user("Suspended");
        elsewhere["metadata"]["namespace"] = json!("mars");
        let mut of_another_hub = hub_user("Suspended");
        of_another_hub["metadata"]["name"] = json!("of-another-hub");
        of_another_hub["spec"]["hubRef"]["name"] = json!("mars");
        seen.users.extend([elsewhere, of_another_hub]);
    })
    .unwrap();
}

#[test]
fn a_hub_without_provider_or_with_one_that_does_not_vend_gives_nothing() {
    let (code, _, message) = denied(|seen| seen.providers.clear());
    assert_eq!(code, "ProviderNotFound");
    assert!(message.contains("minio"), "{message}");
    let no_vending = |seen: &mut Seen| {
        _ = seen.providers[0]["spec"]["s3"]
            .as_object_mut()
            .unwrap()
            .remove("vending")
    };
    assert_eq!(denied(no_vending).0, "VendingNotConfigured");
    let other_kind = |seen: &mut Seen| {
        seen.providers[0]["spec"] =
            json!({"namespaces": {}, "bucketNames": ["*"], "gcs": {"project": "p"}});
    };
    assert_eq!(denied(other_kind).0, "VendingNotConfigured");
}

#[test]
fn without_the_secret_with_the_vending_keys_nothing_is_vended() {
    let (code, status, message) = denied(|seen| seen.secret = None);
    assert_eq!((code, status), ("VendingSecretMissing", 503));
    assert!(
        message.contains("Secret vend in namespace hubstorage-vending"),
        "{message}"
    );
}

#[test]
fn an_ambient_identity_has_no_secret_to_change() {
    let grantee = Seen::with(|seen| {
        seen.secret = None;
        seen.providers[0]["spec"]["s3"]["vending"]["credentials"] = json!({"type": "Ambient"});
        for entry in seen.hubs[0]["status"]["vending"]["buckets"]
            .as_array_mut()
            .unwrap()
        {
            entry["secretVersion"] = Value::Null;
        }
    });
    assert_eq!(grantee.unwrap().issuer.secret_version, None);
}

fn annotations(seen: &mut Seen) -> &mut serde_json::Map<String, Value> {
    seen.pod["annotations"].as_object_mut().unwrap()
}

fn hub_user(access: &str) -> Value {
    let name = hub_user_name("earth", &Username::parse("bob").unwrap());
    json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubUser",
        "metadata": {"name": name, "namespace": "earth", "uid": "hub-user-1"},
        "spec": {"hubRef": {"name": "earth"}, "username": "bob", "access": access},
    })
}

const ROLE: &str = "arn:aws:iam::123456789012:role/hubstorage/earth-earth-abc";

/// The provider has a role made for each hub, and status tells of this one.
fn with_role(seen: &mut Seen, role: Value) {
    let vending = &mut seen.providers[0]["spec"]["s3"]["vending"];
    vending["role"] = json!({
        "management": "Managed",
        "trustedPrincipal": "arn:aws:iam::123456789012:role/hubstorage-serve",
    });
    seen.hubs[0]["status"]["role"] = role;
    for found in seen.hubs[0]["status"]["vending"]["buckets"]
        .as_array_mut()
        .unwrap()
    {
        found["roleId"] = json!("AROA1");
    }
}

fn made() -> Value {
    json!({"name": "earth-earth-abc", "store": "Amazon S3 us-east-1", "arn": ROLE, "id": "AROA1"})
}

#[test]
fn a_role_that_is_made_for_the_hub_is_the_one_that_is_assumed() {
    let grantee = Seen::with(|seen| with_role(seen, made())).unwrap();
    assert_eq!(grantee.issuer.role_arn(), Some(ROLE));
}

#[test]
fn on_amazon_a_session_of_a_made_role_is_tagged_with_the_users_prefix_and_elsewhere_with_none() {
    let tag = |seen: Seen| {
        let grantee = seen.authorise().unwrap();
        let role = grantee.issuer.assumed_for(&grantee.prefix);
        role.unwrap().tag.map(ToString::to_string)
    };
    let mut on_amazon = Seen::new();
    with_role(&mut on_amazon, made());
    assert_eq!(tag(on_amazon), Some("bob".to_owned()));

    let endpoint = "https://minio.example.org";
    let mut elsewhere = Seen::new();
    let mut role = made();
    role["store"] = json!(endpoint);
    with_role(&mut elsewhere, role);
    elsewhere.providers[0]["spec"]["s3"]["endpoint"] = json!(endpoint);
    for bucket in elsewhere.hubs[0]["status"]["buckets"]
        .as_array_mut()
        .unwrap()
    {
        bucket["store"] = json!(endpoint);
    }
    assert_eq!(tag(elsewhere), None);
}

#[test]
fn without_its_role_or_with_one_that_cannot_be_ours_a_hub_vends_nothing() {
    let changed = |field: &str, value: Value| {
        let mut role = made();
        role[field] = value;
        role
    };
    for role in [
        Value::Null,
        changed("arn", Value::Null),
        changed("id", Value::Null),
        changed("store", json!("https://elsewhere")),
        changed("arn", json!("arn:aws:iam::123456789012:role/admin")),
    ] {
        let denied = Seen::with(|seen| with_role(seen, role.clone())).unwrap_err();
        assert!(
            matches!(denied, Denied::RoleMissing { .. }),
            "{role}: {denied}"
        );
    }
}

#[test]
fn what_was_found_with_another_role_of_the_same_name_says_nothing() {
    let made_anew = json!({
        "name": "earth-earth-abc", "store": "Amazon S3 us-east-1", "arn": ROLE, "id": "AROA2",
    });
    let denied = Seen::with(|seen| with_role(seen, made_anew)).unwrap_err();
    assert!(matches!(denied, Denied::NothingVendable { .. }), "{denied}");
}

mod buckets;
mod grants;
mod servers;
