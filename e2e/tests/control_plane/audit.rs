//! Who `hubstorage audit` lists, against what the API server itself says that they may.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::hub::Hub;

async fn audit(hub: &Hub) -> Vec<Value> {
    let checkout = &hub.platform.checkout;
    let output = Command::new(checkout.run("bin/hubstorage"))
        .args(["audit", "--output=json", "--namespace", &hub.namespace])
        .env_clear()
        .env("KUBECONFIG", checkout.run("kubeconfig"))
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn allow(hub: &Hub, account: &str, rule: Value) {
    let metadata = json!({"name": account, "namespace": hub.namespace});
    let group = "rbac.authorization.k8s.io";
    let api_version = format!("{group}/v1");
    hub.apply(
        &json!({"apiVersion": api_version, "kind": "Role", "metadata": metadata, "rules": [rule]}),
    )
    .await;
    hub.apply(&json!({
        "apiVersion": api_version, "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": hub.namespace}],
    }))
    .await;
}

#[tokio::test]
async fn whoever_may_become_a_user_is_listed_and_whoever_may_only_look_is_not() {
    let hub = Hub::namespace("audit").await;
    hub.apply(&hub.provider()).await;
    hub.apply(&hub.storage()).await;
    hub.allow_pods("hub").await;
    let ours = "hubstorage.io";
    let cases = [
        ("exec", "", "pods/exec", "create", Some("exec")),
        (
            "debug",
            "",
            "pods/ephemeralcontainers",
            "patch",
            Some("debug pods"),
        ),
        ("change", "", "pods", "patch", Some("change pods")),
        (
            "mint",
            "",
            "serviceaccounts/token",
            "create",
            Some("mint tokens"),
        ),
        ("read", "", "secrets", "list", Some("read secrets")),
        ("plant", "", "secrets", "update", Some("write secrets")),
        (
            "configure",
            "",
            "configmaps",
            "patch",
            Some("write configmaps"),
        ),
        (
            "become",
            "",
            "serviceaccounts",
            "impersonate",
            Some("impersonate accounts"),
        ),
        (
            "forge",
            ours,
            "hubstorages/status",
            "patch",
            Some("forge verdicts"),
        ),
        ("look", "", "pods", "list", None),
    ];
    for (account, group, resource, verb, _) in cases {
        let rule = json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
        allow(&hub, account, rule).await;
    }

    let found = audit(&hub).await;

    let of = |account: &str| {
        let subject = format!("ServiceAccount {}/{account}", hub.namespace);
        found.iter().find(|finding| finding["subject"] == subject)
    };
    for (account, group, resource, verb, told) in cases {
        let may = of(account).map(|finding| finding["may"].clone());
        assert_eq!(may, told.map(|told| json!([told])), "{account}");
        let it = format!("--as=system:serviceaccount:{}:{account}", hub.namespace);
        // `pods/exec` would be a pod called exec.
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let resource = format!("{resource}.{group}");
        let resource = resource.trim_end_matches('.');
        let subresource = format!("--subresource={subresource}");
        let can = [
            "auth",
            "can-i",
            verb,
            resource,
            &subresource,
            "-n",
            &hub.namespace,
            &it,
        ];
        hub.until("the API server to know the right", async || {
            let said = hub.platform.kubectl(can).await.unwrap();
            String::from_utf8_lossy(&said.stdout).trim() == "yes"
        })
        .await;
    }
    assert_eq!(of("hub").unwrap()["knownAs"], "creator of source notebook");
    assert!(
        found
            .iter()
            .any(|finding| finding["subject"] == "Group system:masters")
    );
    hub.remove().await;
}
