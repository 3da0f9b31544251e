//! What grants give to whom.

use super::*;

#[test]
fn a_grant_for_a_group_is_for_those_whom_the_hub_put_into_it() {
    let with = |groups: Option<&str>| {
        let groups = groups.map(str::to_owned);
        move |seen: &mut Seen| {
            seen.hubs[0]["spec"]["buckets"] = json!([{"name": "scratch", "grants": [{
                "name": "ocean", "subjects": [{"kind": "Group", "name": "ocean"}],
                "scope": "Prefix", "prefix": "_groups/ocean", "permission": "ReadWrite",
            }]}]);
            if let Some(groups) = groups {
                seen.pod["annotations"]["hubstorage.io/groups"] = json!(groups);
            }
        }
    };
    let member = Seen::with(with(Some(r#"["ice", "ocean"]"#))).unwrap();
    let ocean = SharedPrefix::parse("_groups/ocean").unwrap();
    assert_eq!(member.reaches[0].place, Place::Shared(ocean));
    assert_eq!(member.reaches.len(), 1, "and no prefix of their own");
    for stranger in [None, Some("[]"), Some(r#"["oceans", "Ocean", "*"]"#)] {
        let (reason, status, message) = denied(with(stranger));
        assert_eq!(
            (reason, status),
            ("NothingGrantedToUser", 403),
            "{stranger:?}: {message}"
        );
    }
    for odd in ["ocean", "", r#"{"ocean": 1}"#] {
        let (reason, _, message) = denied(with(Some(odd)));
        assert_eq!(reason, "GroupsInvalid", "{odd}");
        assert!(message.contains("hubstorage.io/groups"), "{message}");
    }
}

#[test]
fn the_widest_of_what_is_granted_to_a_user_counts_and_a_group_may_have_own_prefixes() {
    let everyone = json!({"kind": "Everyone"});
    let ocean = json!({"kind": "Group", "name": "ocean"});
    let ice = json!({"kind": "Group", "name": "ice"});
    let of = |groups: &'static str| {
        let grants = json!([
            {"name": "read", "subjects": [everyone], "scope": "Prefix", "prefix": "_ocean", "permission": "ReadOnly"},
            {"name": "write", "subjects": [ocean, ice], "scope": "Prefix", "prefix": "_ocean", "permission": "ReadWrite"},
            {"name": "own", "subjects": [ice], "scope": "UserPrefix", "permission": "ReadWrite"},
        ]);
        let grantee = Seen::with(|seen| {
            seen.hubs[0]["spec"]["buckets"] = json!([{"name": "scratch", "grants": grants}]);
            seen.pod["annotations"]["hubstorage.io/groups"] = json!(groups);
        });
        let policy = PolicyDocument::allowing(&grantee.unwrap().reaches).unwrap();
        let json: serde_json::Value = serde_json::from_str(policy.as_str()).unwrap();
        let may = |action: &str| {
            let statements = json["Statement"].as_array().unwrap().iter();
            let allowing = statements
                .filter(|it| it["Action"].as_array().unwrap().contains(&json!(action)))
                .flat_map(|it| it["Resource"].as_array().unwrap());
            allowing
                .map(|it| it.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        (may("s3:GetObject"), may("s3:PutObject"))
    };
    let shared = "arn:aws:s3:::earth-scratch/_ocean/*".to_owned();
    let own = "arn:aws:s3:::earth-scratch/bob/*".to_owned();
    assert_eq!(of("[]"), (vec![shared.clone()], vec![]));
    assert_eq!(
        of(r#"["ocean"]"#),
        (vec![shared.clone()], vec![shared.clone()])
    );
    let all = vec![own, shared];
    assert_eq!(of(r#"["ice", "ocean"]"#), (all.clone(), all));
}

#[test]
fn a_hub_whose_buckets_grant_nothing_gives_nothing() {
    let edit = |seen: &mut Seen| {
        seen.hubs[0]["spec"]["buckets"] = json!([{"name": "scratch", "grants": []}])
    };
    assert_eq!(denied(edit).0, "NothingGranted");
}
