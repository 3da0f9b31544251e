use super::*;

fn grants(rules: &[Rule], resource: &str, verb: &str) -> bool {
    let holds =
        |list: &Value, item: &str| list.as_array().unwrap().iter().any(|entry| entry == item);
    rules
        .iter()
        .any(|(_, rule)| holds(&rule["resources"], resource) && holds(&rule["verbs"], verb))
}

fn rules_of(documents: &[Document], kind: &str, namespace: Option<&str>) -> Vec<Rule> {
    documents
        .iter()
        .filter(|document| document.object["kind"] == kind)
        .filter(|document| document.object["metadata"]["namespace"].as_str() == namespace)
        .flat_map(|document| document.rules.clone())
        .collect()
}

#[test]
fn nobody_reads_secrets_of_every_namespace() {
    for role in [controller(), serve()] {
        let rules = rules_of(&role, "ClusterRole", None);
        for verb in [
            "get", "list", "watch", "create", "update", "patch", "delete", "*",
        ] {
            assert!(
                !grants(&rules, "secrets", verb) && !grants(&rules, "*", verb),
                "{verb}"
            );
        }
    }
}

#[test]
fn serve_reads_one_secret_beside_the_managing_keys() {
    let rules = rules_of(&serve(), "Role", Some(SYSTEM_NAMESPACE));
    let on_secrets: Vec<&Value> = rules
        .iter()
        .map(|(_, rule)| rule)
        .filter(|rule| rule["resources"] == json!(["secrets"]))
        .collect();
    assert_eq!(on_secrets.len(), 1);
    assert_eq!(on_secrets[0]["resourceNames"], json!([AUTHORITY_NAME]));
}

#[test]
fn the_controller_does_not_reach_the_vending_keys() {
    assert!(rules_of(&controller(), "Role", Some(VENDING_NAMESPACE)).is_empty());
}

#[test]
fn each_side_follows_the_secrets_of_its_own_keys_alone_and_changes_none() {
    for (documents, own) in [
        (controller(), SYSTEM_NAMESPACE),
        (serve(), VENDING_NAMESPACE),
    ] {
        for namespace in [SYSTEM_NAMESPACE, VENDING_NAMESPACE, AGENTS_NAMESPACE] {
            let rules = rules_of(&documents, "Role", Some(namespace));
            let of_any_name: Vec<Rule> = rules
                .into_iter()
                .filter(|(_, rule)| rule["resourceNames"].is_null())
                .collect();
            for verb in ["get", "list", "watch"] {
                let is_granted = grants(&of_any_name, "secrets", verb);
                assert_eq!(is_granted, namespace == own, "{verb} in {namespace}");
            }
            for verb in ["update", "patch"] {
                assert!(
                    !grants(&of_any_name, "secrets", verb),
                    "{verb} in {namespace}"
                );
            }
        }
    }
}

#[test]
fn the_controller_follows_one_daemon_set_and_the_endpoints_of_its_own_namespace_alone() {
    let documents = controller();
    assert!(!grants(
        &rules_of(&documents, "ClusterRole", None),
        "daemonsets",
        "list"
    ));
    let agents = rules_of(&documents, "Role", Some(AGENTS_NAMESPACE));
    let on_daemon_sets: Vec<&Value> = agents
        .iter()
        .map(|(_, rule)| rule)
        .filter(|rule| rule["resources"] == json!(["daemonsets"]))
        .collect();
    assert_eq!(on_daemon_sets.len(), 1);
    assert_eq!(on_daemon_sets[0]["resourceNames"], json!([AGENTS]));
    assert_eq!(on_daemon_sets[0]["verbs"], json!(FOLLOW));
    for (rules, is_granted) in [
        (rules_of(&documents, "ClusterRole", None), false),
        (agents, false),
        (rules_of(&documents, "Role", Some(SYSTEM_NAMESPACE)), true),
    ] {
        assert_eq!(grants(&rules, "endpointslices", "list"), is_granted);
    }
}

#[test]
fn nobody_creates_pods_or_asks_for_tokens() {
    for role in [controller(), serve()] {
        let rules = rules_of(&role, "ClusterRole", None);
        for (resource, verb) in [
            ("pods", "create"),
            ("pods", "patch"),
            ("serviceaccounts/token", "create"),
            ("pods/exec", "create"),
        ] {
            assert!(!grants(&rules, resource, verb), "{resource} {verb}");
        }
    }
}

#[test]
fn the_token_that_every_node_sees_reads_statistics_of_nodes_and_nothing_else() {
    let documents = documents();
    let bindings = documents
        .iter()
        .filter(|document| document.object["subjects"][0]["name"] == USAGE_ACCOUNT);
    let roles: Vec<_> = bindings
        .map(|binding| {
            (
                &binding.object["roleRef"]["kind"],
                &binding.object["roleRef"]["name"],
            )
        })
        .collect();
    assert_eq!(roles, [(&json!("ClusterRole"), &json!(USAGE_ACCOUNT))]);
    let role = documents.iter().find(|document| {
        document.object["kind"] == "ClusterRole"
            && document.object["metadata"]["name"] == USAGE_ACCOUNT
    });
    let rules: Vec<&Value> = role.unwrap().rules.iter().map(|(_, rule)| rule).collect();
    let reads = json!({"apiGroups": [""], "resources": ["nodes/stats"], "verbs": ["get"]});
    assert_eq!(rules, [&reads]);
}

#[test]
fn nobody_deletes_anything_but_the_trial_pod() {
    for (why, rule) in documents().iter().flat_map(|document| &document.rules) {
        let verbs = rule["verbs"].to_string();
        let is_of_trial = rule["resourceNames"] == json!([TRIAL_POD]);
        assert!(!verbs.contains("delete") || is_of_trial, "{why}");
    }
}

#[test]
fn what_a_trial_needs_is_bound_by_whoever_wants_it() {
    let bindings = documents();
    let mut bindings = bindings
        .iter()
        .filter(|document| !document.object["roleRef"].is_null());
    assert!(bindings.all(|binding| binding.object["roleRef"]["name"] != TRIAL_ROLE));
}

#[test]
fn no_rule_has_a_wildcard() {
    for (why, rule) in documents().iter().flat_map(|document| &document.rules) {
        assert!(!rule.to_string().contains("\"*\""), "{why}");
    }
}
