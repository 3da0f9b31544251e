//! Pods that depend on a server of their user's, as those of Dask Gateway do.

use super::*;

const GATEWAY: &str = "system:serviceaccount:earth:dask-gateway-controller";

fn pod_of(user: &str, name: &str, labels: &Value, creator: &str) -> Value {
    let mut labels = labels.clone();
    labels[USERNAME_LABEL] = json!("slug");
    json!({
        "name": name, "namespace": "earth", "uid": format!("uid-of-{name}"),
        "creationTimestamp": "2026-05-01T10:00:00Z", "labels": labels,
        "annotations": {(USERNAME_ANNOTATION): user, (STAMP_ANNOTATION): creator},
    })
}

fn server_of(user: &str) -> Value {
    let labels = json!({"component": "singleuser-server"});
    pod_of(
        user,
        "jupyter-server",
        &labels,
        "system:serviceaccount:earth:hub",
    )
}

/// Bob's Dask worker, while `servers` run.
fn beside(servers: &[Value]) -> Seen {
    let mut seen = Seen::new();
    seen.hubs[0]["spec"]["users"] = json!({"sources": [
        {"name": "dask", "podSelector": {"matchLabels": {"app": "dask"}}, "dependsOn": {"name": "notebook"},
         "creators": [{"serviceAccount": {"name": "dask-gateway-controller"}}]},
        {"name": "notebook", "podSelector": {"matchLabels": {"component": "singleuser-server"}},
         "creators": [{"serviceAccount": {"name": "hub"}}]},
    ]});
    seen.pod = pod_of("bob", "dask-worker", &json!({"app": "dask"}), GATEWAY);
    seen.servers = servers.to_vec();
    seen
}

/// It asks.
fn worker(servers: &[Value], edit: impl FnOnce(&mut Seen)) -> Result<Grantee, Denied> {
    let mut seen = beside(servers);
    edit(&mut seen);
    seen.authorise()
}

/// The same, where these were found to run before anything else was.
fn worker_with(found: &[Value]) -> Result<Grantee, Denied> {
    let seen = beside(&[]);
    let pod = serde_json::from_value(seen.pod.clone()).unwrap();
    let found: Vec<LivePod> = found.iter().map(live).collect();
    authorise(&pod, &found, &seen)
}

fn refusal(result: &Result<Grantee, Denied>) -> (&'static str, u16, String) {
    let denied = result.as_ref().unwrap_err();
    (denied.into(), denied.status().as_u16(), denied.to_string())
}

#[test]
fn beside_a_server_of_its_user_a_worker_has_what_the_server_has() {
    let grantee = worker(&[server_of("bob")], |_| {}).unwrap();
    let server = Seen::with(|_| {}).unwrap();
    assert_eq!(grantee, server);
}

/// Servers that are none to a worker of bob's.
fn that_do_not_count() -> [(&'static str, Vec<Value>); 9] {
    let with = |edit: fn(&mut Value)| {
        let mut server = server_of("bob");
        edit(&mut server);
        vec![server]
    };
    [
        ("none", Vec::new()),
        ("another user's", vec![server_of("bobby")]),
        (
            "one in another namespace",
            with(|pod| pod["namespace"] = json!("mars")),
        ),
        (
            "one on its way out",
            with(|pod| pod["deletionTimestamp"] = json!("2026-05-02T00:00:00Z")),
        ),
        (
            "one older than the guard",
            with(|pod| pod["creationTimestamp"] = json!("2026-03-01T00:00:00Z")),
        ),
        (
            "one without a stamp",
            with(|pod| pod["annotations"] = json!({(USERNAME_ANNOTATION): "bob"})),
        ),
        (
            "one that somebody else made",
            with(|pod| pod["annotations"][STAMP_ANNOTATION] = json!("eve")),
        ),
        (
            "one that the gateway made",
            with(|pod| pod["annotations"][STAMP_ANNOTATION] = json!(GATEWAY)),
        ),
        (
            "another worker",
            vec![pod_of("bob", "other", &json!({"app": "dask"}), GATEWAY)],
        ),
    ]
}

#[test]
fn without_a_server_of_the_same_user_it_has_nothing() {
    for (what, servers) in that_do_not_count() {
        let (code, status, message) = refusal(&worker(&servers, |_| {}));
        assert_eq!((code, status), ("ServerNotRunning", 403), "{what}");
        for part in ["sources[dask]", "sources[notebook]", "\"bob\""] {
            assert!(message.contains(part), "{what}: {message}");
        }
    }
}

#[test]
fn a_server_that_no_longer_counts_when_it_is_decided_is_none() {
    assert!(worker_with(&[server_of("bob")]).is_ok());
    for (what, servers) in that_do_not_count() {
        assert_eq!(
            refusal(&worker_with(&servers)).0,
            "ServerNotRunning",
            "{what}"
        );
    }
}

#[test]
fn a_source_of_which_nothing_is_declared_is_not_running() {
    // The API server refuses such a spec; an older one may be stored.
    let nowhere = worker(&[server_of("bob")], |seen| {
        seen.hubs[0]["spec"]["users"]["sources"][0]["dependsOn"] = json!({"name": "nowhere"});
    });
    assert_eq!(refusal(&nowhere).0, "ServerNotRunning");
}

#[test]
fn a_worker_is_in_no_group_that_no_server_of_its_user_is_in() {
    let grant = |group: &str| {
        json!({"name": group, "subjects": [{"kind": "Group", "name": group}], "scope": "Prefix",
               "prefix": format!("_{group}"), "permission": "ReadOnly"})
    };
    let granted = |theirs: &[&str], own: &str| {
        let servers: Vec<Value> = theirs
            .iter()
            .map(|groups| {
                let mut server = server_of("bob");
                server["annotations"]["hubstorage.io/groups"] = json!(groups);
                server
            })
            .collect();
        worker(&servers, |seen| {
            seen.hubs[0]["spec"]["buckets"] =
                json!([{"name": "scratch", "grants": [grant("ice"), grant("ocean")]}]);
            annotations(seen).insert("hubstorage.io/groups".into(), json!(own));
        })
    };
    let places = |theirs: &[&str], own: &str| {
        let reaches = granted(theirs, own).unwrap().reaches;
        reaches.iter().map(Reach::to_string).collect::<Vec<_>>()
    };
    let both = r#"["ice", "ocean"]"#;
    assert_eq!(
        places(&[r#"["ocean"]"#], both),
        ["earth-scratch/_ocean ReadOnly"]
    );
    assert_eq!(
        places(&[both], r#"["ice"]"#),
        ["earth-scratch/_ice ReadOnly"]
    );
    assert_eq!(
        places(&["[]", both], both).len(),
        2,
        "any of the user's servers"
    );
    let of_none = refusal(&granted(&["[]"], both));
    assert_eq!((of_none.0, of_none.1), ("NothingGrantedToUser", 403));
}

#[test]
fn a_worker_of_a_suspended_user_has_nothing_beside_their_server() {
    let suspended = worker(&[server_of("bob")], |seen| {
        seen.users.push(hub_user("Suspended"))
    });
    assert_eq!(refusal(&suspended).0, "UserSuspended");
}

#[test]
fn a_pod_of_dask_kubernetes_has_nothing_whoever_is_trusted_and_whatever_it_says() {
    // Its operator is trusted here, as it must not be.
    let templated = worker(&[server_of("bob")], |seen| {
        seen.pod["labels"] = json!({"app": "dask", "dask.org/cluster-name": "mine"});
    });
    let (code, status, message) = refusal(&templated);
    assert_eq!((code, status), ("WrittenByUser", 403));
    assert!(message.contains("users write themselves"), "{message}");
    assert!(message.contains("Dask Gateway"), "{message}");
}
