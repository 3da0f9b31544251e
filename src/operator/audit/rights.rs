//! Which rights lead to other people's data. RBAC alone is read: what a cluster's other authorizers allow is
//! theirs to tell.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// Rights that end in the same: all of some resources, with one verb.
struct Danger {
    /// For people.
    what: &'static str,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    /// Whether a right in one namespace is none, because the resource is in no namespace.
    is_of_cluster: bool,
    /// Whether a rule that names objects holds: the API server knows no name of what is to be created.
    may_name: bool,
}

const WRITE: &[&str] = &["create", "update", "patch"];

/// Each of these is enough to act as any user of a hub: by a pod of the hub's account, inside of a user's pod,
/// under another's name or token, with the keys of the store, or by changing what decides whose a pod is.
const DANGERS: &[Danger] = &[
    Danger::here("create pods", "", &["pods"], &["create"]),
    Danger::here("create workloads", "", &["replicationcontrollers"], WRITE).of_named(),
    Danger::here(
        "create workloads",
        "apps",
        &["deployments", "daemonsets", "replicasets", "statefulsets"],
        WRITE,
    )
    .of_named(),
    Danger::here("create workloads", "batch", &["jobs", "cronjobs"], WRITE).of_named(),
    // dask-kubernetes makes pods from the templates in them, of whichever account those name.
    Danger::here(
        "create workloads",
        "kubernetes.dask.org",
        &["daskclusters", "daskjobs", "daskworkergroups"],
        WRITE,
    )
    .of_named(),
    // Dask Gateway's controller is among the creators, and makes its pods from them: image, account and username.
    Danger::here(
        "declare Dask clusters",
        "gateway.dask.org",
        &["daskclusters"],
        WRITE,
    )
    .of_named(),
    // The image of a container can be changed while its pod runs.
    Danger::here("change pods", "", &["pods"], &["update", "patch"]).of_named(),
    // Streams are asked for by POST, or by GET where they are websockets.
    Danger::here(
        "exec",
        "",
        &["pods/exec", "pods/attach"],
        &["create", "get"],
    )
    .of_named(),
    Danger::here(
        "debug pods",
        "",
        &["pods/ephemeralcontainers"],
        &["update", "patch"],
    )
    .of_named(),
    Danger::here("mint tokens", "", &["serviceaccounts/token"], &["create"]).of_named(),
    Danger::here("read secrets", "", &["secrets"], &["get", "list", "watch"]).of_named(),
    // A Secret and a ConfigMap of Zero to JupyterHub hold the program that its hub runs.
    Danger::here("write secrets", "", &["secrets"], WRITE).of_named(),
    Danger::here("write configmaps", "", &["configmaps"], WRITE).of_named(),
    Danger::here(
        "impersonate accounts",
        "",
        &["serviceaccounts"],
        &["impersonate"],
    )
    .of_named(),
    Danger::here("declare storage", "hubstorage.io", &["hubstorages"], WRITE).of_named(),
    // What the probe found, and which buckets of the store are the hub's.
    Danger::here(
        "forge verdicts",
        "hubstorage.io",
        &["hubstorages/status"],
        &["update", "patch"],
    )
    .of_named(),
    Danger::here(
        "grant rights",
        "rbac.authorization.k8s.io",
        &["roles", "clusterroles"],
        &["bind", "escalate"],
    )
    .of_named(),
    Danger::everywhere("impersonate", "", &["users", "groups"], &["impersonate"]),
    Danger::everywhere(
        "exec through nodes",
        "",
        &["nodes/proxy"],
        &["create", "get"],
    ),
    Danger::everywhere(
        "declare storage",
        "hubstorage.io",
        &["storageproviders"],
        WRITE,
    ),
    // Beside it takes certificatesigningrequests/approval, which is worth nothing without.
    Danger::everywhere(
        "approve certificates",
        "certificates.k8s.io",
        &["signers"],
        &["approve"],
    ),
    // Whoever answers in the API's place, or converts what is stored, says what it holds.
    Danger::everywhere(
        "change APIs",
        "apiregistration.k8s.io",
        &["apiservices"],
        WRITE,
    ),
    Danger::everywhere(
        "change APIs",
        "apiextensions.k8s.io",
        &["customresourcedefinitions"],
        WRITE,
    ),
    // A webhook that validates is shown every Secret that is written.
    Danger::everywhere(
        "change admission",
        "admissionregistration.k8s.io",
        &[
            "validatingwebhookconfigurations",
            "mutatingwebhookconfigurations",
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
        ],
        WRITE,
    ),
];

/// A right that somebody may have, as the API server is asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// What it comes to, for people.
    pub what: &'static str,
    /// API group of the resource.
    pub group: &'static str,
    /// The resource, and after a `/` its subresource.
    pub resource: &'static str,
    /// The verb.
    pub verb: &'static str,
    /// Whether the resource is in no namespace.
    pub is_of_cluster: bool,
}

/// One question for each verb and resource of each right that leads to other people's data. Nobody is asked of
/// single objects by name.
pub fn questions() -> impl Iterator<Item = Question> {
    DANGERS.iter().flat_map(|danger| {
        danger.resources.iter().flat_map(move |resource| {
            danger.verbs.iter().map(move |verb| Question {
                what: danger.what,
                group: danger.group,
                resource,
                verb,
                is_of_cluster: danger.is_of_cluster,
            })
        })
    })
}

/// What a rule of nothing but `*` gives.
const EVERYTHING: &str = "everything";

/// What an account needs that makes users' pods, as KubeSpawner's and Dask Gateway's: each of these it has by its
/// pods, too, in the namespace where it makes them.
const OF_CREATORS: &[&str] = &[
    "create pods",
    "declare Dask clusters",
    "read secrets",
    "write secrets",
];

impl Danger {
    const fn here(
        what: &'static str,
        group: &'static str,
        resources: &'static [&'static str],
        verbs: &'static [&'static str],
    ) -> Self {
        Self {
            what,
            group,
            resources,
            verbs,
            is_of_cluster: false,
            may_name: false,
        }
    }

    const fn everywhere(
        what: &'static str,
        group: &'static str,
        resources: &'static [&'static str],
        verbs: &'static [&'static str],
    ) -> Self {
        let here = Self::here(what, group, resources, verbs);
        Self {
            is_of_cluster: true,
            may_name: true,
            ..here
        }
    }

    const fn of_named(self) -> Self {
        Self {
            may_name: true,
            ..self
        }
    }

    /// What `rule` allows of this, for people.
    fn within(&self, rule: &PolicyRule) -> Option<String> {
        let holds = |list: Option<&Vec<String>>, wanted: &str| {
            list.is_some_and(|list| list.iter().any(|entry| entry == "*" || entry == wanted))
        };
        let verb = self.verbs.iter().any(|verb| holds(Some(&rule.verbs), verb));
        let group = holds(rule.api_groups.as_ref(), self.group);
        let resources = rule.resources.as_deref().unwrap_or_default();
        let resource = self.resources.iter().any(|wanted| {
            resources
                .iter()
                .any(|resource| is_matched(resource, wanted))
        });
        if !(verb && group && resource) {
            return None;
        }
        match rule.resource_names.as_deref().unwrap_or_default() {
            [] => Some(self.what.to_owned()),
            names if self.may_name => Some(format!("{} ({})", self.what, names.join(" "))),
            _ => None,
        }
    }
}

/// As RBAC compares: `*` is all, and `*/sub` the subresource of everything.
fn is_matched(resource: &str, wanted: &str) -> bool {
    let of_any = |(_, subresource)| resource == format!("*/{subresource}");
    resource == "*" || resource == wanted || wanted.split_once('/').is_some_and(of_any)
}

/// What the rules allow of what leads to other people's data, each told once; `in_cluster` if they hold
/// everywhere, and for what is in no namespace, too.
pub fn dangers(rules: &[PolicyRule], in_cluster: bool) -> Vec<String> {
    let counting = DANGERS
        .iter()
        .filter(|danger| in_cluster || !danger.is_of_cluster);
    let all =
        |list: Option<&Vec<String>>| list.is_some_and(|list| list.iter().any(|entry| entry == "*"));
    let is_everything = |rule: &PolicyRule| {
        let is_named = rule
            .resource_names
            .as_ref()
            .is_some_and(|names| !names.is_empty());
        all(rule.api_groups.as_ref())
            && all(rule.resources.as_ref())
            && all(Some(&rule.verbs))
            && !is_named
    };
    if rules.iter().any(is_everything) {
        return vec![EVERYTHING.to_owned()];
    }
    let told = counting.flat_map(|danger| rules.iter().filter_map(|rule| danger.within(rule)));
    let mut found: Vec<String> = Vec::new();
    for right in told {
        // `create workloads` stands for several groups, and what holds for all objects for named ones, too.
        let is_known = |known: &String| right == *known || right.starts_with(&format!("{known} ("));
        if !found.iter().any(is_known) {
            found.push(right);
        }
    }
    found
}

/// Whether these are no more than an account needs that makes users' pods.
pub fn are_of_creators(rights: &[String]) -> bool {
    let is_of = |right: &String| {
        let (what, _) = right.split_once(" (").unwrap_or((right, ""));
        OF_CREATORS.contains(&what)
    };
    rights.iter().all(is_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], verbs: &[&str], names: &[&str]) -> PolicyRule {
        let owned = |list: &[&str]| {
            list.iter()
                .map(|entry| (*entry).to_owned())
                .collect::<Vec<_>>()
        };
        PolicyRule {
            api_groups: Some(owned(groups)),
            resources: Some(owned(resources)),
            verbs: owned(verbs),
            resource_names: Some(owned(names)).filter(|names| !names.is_empty()),
            non_resource_urls: None,
        }
    }

    /// What a right is called, its group, resources and verbs; written down apart from the table that is tested.
    const HERE: &[(&str, &str, &str, &str)] = &[
        ("create pods", "", "pods", "create"),
        (
            "create workloads",
            "",
            "replicationcontrollers",
            "create update patch",
        ),
        (
            "create workloads",
            "apps",
            "deployments daemonsets replicasets statefulsets",
            "create update patch",
        ),
        (
            "create workloads",
            "batch",
            "jobs cronjobs",
            "create update patch",
        ),
        (
            "create workloads",
            "kubernetes.dask.org",
            "daskclusters daskjobs daskworkergroups",
            "create update patch",
        ),
        (
            "declare Dask clusters",
            "gateway.dask.org",
            "daskclusters",
            "create update patch",
        ),
        ("change pods", "", "pods", "update patch"),
        ("exec", "", "pods/exec pods/attach", "create get"),
        ("debug pods", "", "pods/ephemeralcontainers", "update patch"),
        ("mint tokens", "", "serviceaccounts/token", "create"),
        ("read secrets", "", "secrets", "get list watch"),
        ("write secrets", "", "secrets", "create update patch"),
        ("write configmaps", "", "configmaps", "create update patch"),
        ("impersonate accounts", "", "serviceaccounts", "impersonate"),
        (
            "declare storage",
            "hubstorage.io",
            "hubstorages",
            "create update patch",
        ),
        (
            "forge verdicts",
            "hubstorage.io",
            "hubstorages/status",
            "update patch",
        ),
        (
            "grant rights",
            "rbac.authorization.k8s.io",
            "roles clusterroles",
            "bind escalate",
        ),
    ];

    /// The same for what counts in the whole cluster alone.
    const EVERYWHERE: &[(&str, &str, &str, &str)] = &[
        ("impersonate", "", "users groups", "impersonate"),
        ("exec through nodes", "", "nodes/proxy", "create get"),
        (
            "declare storage",
            "hubstorage.io",
            "storageproviders",
            "create update patch",
        ),
        (
            "approve certificates",
            "certificates.k8s.io",
            "signers",
            "approve",
        ),
        (
            "change APIs",
            "apiregistration.k8s.io",
            "apiservices",
            "create update patch",
        ),
        (
            "change APIs",
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            "create update patch",
        ),
        (
            "change admission",
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations mutatingwebhookconfigurations mutatingadmissionpolicies mutatingadmissionpolicybindings",
            "create update patch",
        ),
    ];

    /// One rule for each of the rights, with what it is called.
    fn rules(of: &[(&'static str, &str, &str, &str)]) -> Vec<(&'static str, PolicyRule)> {
        let mut rules = Vec::new();
        for (what, group, resources, verbs) in of {
            for resource in resources.split(' ') {
                let verbs = verbs.split(' ');
                rules.extend(verbs.map(|verb| (*what, rule(&[group], &[resource], &[verb], &[]))));
            }
        }
        rules
    }

    #[test]
    fn each_of_these_by_itself_leads_to_other_peoples_data() {
        for (what, right) in rules(HERE) {
            assert_eq!(
                dangers(std::slice::from_ref(&right), false),
                [what],
                "{right:?}"
            );
            assert_eq!(dangers(&[right], true), [what]);
        }
        for (what, right) in rules(EVERYWHERE) {
            assert_eq!(
                dangers(std::slice::from_ref(&right), true),
                [what],
                "{right:?}"
            );
            assert!(dangers(&[right], false).is_empty());
        }
    }

    #[test]
    fn the_same_words_in_another_group_and_deleting_are_none() {
        for (_, right) in rules(HERE).into_iter().chain(rules(EVERYWHERE)) {
            let elsewhere = PolicyRule {
                api_groups: Some(vec!["example.org".to_owned()]),
                ..right.clone()
            };
            let deleting = PolicyRule {
                verbs: vec!["delete".to_owned()],
                ..right
            };
            assert!(dangers(&[elsewhere, deleting], true).is_empty());
        }
    }

    #[test]
    fn nothing_else_is_in_the_table() {
        let written: usize = [HERE, EVERYWHERE].iter().map(|of| rules(of).len()).sum();
        let dangers = DANGERS.iter();
        let known: usize = dangers.map(|it| it.resources.len() * it.verbs.len()).sum();
        assert_eq!(known, written);
    }

    #[test]
    fn wildcards_grant_all_and_in_a_namespace_nothing_of_the_clusters() {
        let all = [rule(&["*"], &["*"], &["*"], &[])];
        assert_eq!(dangers(&all, false), ["everything"]);
        let nearly = [rule(&["*"], &["*"], WRITE, &[])];
        let (everywhere, here) = (dangers(&nearly, true), dangers(&nearly, false));
        let written = |of| {
            let named = rules(of).into_iter();
            named
                .filter(|(_, rule)| WRITE.contains(&rule.verbs[0].as_str()))
                .map(|(what, _)| what)
        };
        for what in written(HERE).chain(written(EVERYWHERE)) {
            assert!(everywhere.contains(&what.to_owned()), "{what}");
        }
        assert!(
            !here.contains(&"change admission".to_owned()) && here.contains(&"exec".to_owned())
        );
        let subresource = [rule(&[""], &["*/exec"], &["create"], &[])];
        assert_eq!(dangers(&subresource, false), ["exec"]);
        // `pods` is not its subresources, and `pods/*` is no wildcard of RBAC's.
        assert!(dangers(&[rule(&[""], &["pods", "pods/*"], &["get"], &[])], false).is_empty());
    }

    #[test]
    fn a_rule_for_named_objects_tells_the_names_and_creates_nothing() {
        let named = |resource: &str, verb: &str| {
            dangers(&[rule(&[""], &[resource], &[verb], &["a", "b"])], false)
        };
        assert_eq!(named("secrets", "get"), ["read secrets (a b)"]);
        let both = [
            rule(&[""], &["secrets"], &["get"], &[]),
            rule(&[""], &["secrets"], &["get"], &["a"]),
        ];
        assert_eq!(dangers(&both, false), ["read secrets"]);
        assert_eq!(
            named("serviceaccounts/token", "create"),
            ["mint tokens (a b)"]
        );
        assert!(named("pods", "create").is_empty());
        assert_eq!(named("pods", "patch"), ["change pods (a b)"]);
        let deployment = rule(&["apps"], &["deployments"], &["patch"], &["hub"]);
        assert_eq!(dangers(&[deployment], false), ["create workloads (hub)"]);
    }

    #[test]
    fn what_reads_and_deletes_pods_is_no_danger() {
        let view = rule(
            &[""],
            &["pods", "pods/log", "configmaps", "events"],
            &["get", "list", "watch", "delete"],
            &[],
        );
        assert!(dangers(&[view], true).is_empty());
    }
}
