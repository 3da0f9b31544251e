use super::*;

fn reach(bucket: &str, user: &str, access: Access) -> Reach {
    Reach {
        bucket: BucketName::parse(bucket).unwrap(),
        place: Place::Own(Prefix::escaped(user.as_bytes())),
        access,
    }
}

fn shared(bucket: &str, prefix: &str, access: Access) -> Reach {
    Reach {
        place: Place::Shared(SharedPrefix::parse(prefix).unwrap()),
        ..reach(bucket, "nobody", access)
    }
}

fn whole(bucket: &str, access: Access) -> Reach {
    Reach {
        place: Place::Whole,
        ..reach(bucket, "nobody", access)
    }
}

#[test]
fn one_user_in_one_bucket_gets_exactly_this_policy() {
    let policy = PolicyDocument::allowing(&[reach("hub", "bob", Access::ReadWrite)]).unwrap();
    assert_eq!(
        policy.as_str(),
        concat!(
            r#"{"Version":"2012-10-17","Statement":["#,
            r#"{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject","s3:DeleteObject","#,
            r#""s3:AbortMultipartUpload","s3:ListMultipartUploadParts"],"#,
            r#""Resource":["arn:aws:s3:::hub/bob/*"]},"#,
            r#"{"Effect":"Allow","Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::hub"],"#,
            r#""Condition":{"StringLike":{"s3:prefix":["bob/*"]}}},"#,
            r#"{"Effect":"Allow","Action":["s3:GetBucketLocation"],"Resource":["arn:aws:s3:::hub"]}]}"#,
        )
    );
}

#[test]
fn a_prefix_granted_in_one_bucket_lists_nothing_in_another() {
    let policy = PolicyDocument::allowing(&[
        reach("scratch", "bob", Access::ReadWrite),
        reach("shared", "ocean", Access::ReadOnly),
    ])
    .unwrap();
    let json: serde_json::Value = serde_json::from_str(policy.as_str()).unwrap();
    for statement in json["Statement"].as_array().unwrap() {
        if statement["Action"][0] == "s3:ListBucket" {
            assert_eq!(statement["Resource"].as_array().unwrap().len(), 1);
            let prefix = &statement["Condition"]["StringLike"]["s3:prefix"];
            let expected = if statement["Resource"][0] == "arn:aws:s3:::shared" {
                "ocean/*"
            } else {
                "bob/*"
            };
            assert_eq!(prefix, &serde_json::json!([expected]));
        }
    }
}

#[test]
fn buckets_with_the_same_prefixes_share_a_statement_and_others_do_not() {
    let policy = PolicyDocument::allowing(&[
        reach("scratch", "bob", Access::ReadWrite),
        reach("persistent", "bob", Access::ReadOnly),
        reach("shared", "bob", Access::ReadOnly),
        reach("shared", "ocean", Access::ReadOnly),
    ])
    .unwrap();
    let json: serde_json::Value = serde_json::from_str(policy.as_str()).unwrap();
    let lists: Vec<(&serde_json::Value, &serde_json::Value)> = json["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|statement| statement["Action"][0] == "s3:ListBucket")
        .map(|statement| {
            let condition = &statement["Condition"]["StringLike"]["s3:prefix"];
            (&statement["Resource"], condition)
        })
        .collect();
    assert_eq!(
        lists,
        [
            (
                &serde_json::json!(["arn:aws:s3:::persistent", "arn:aws:s3:::scratch"]),
                &serde_json::json!(["bob/*"])
            ),
            (
                &serde_json::json!(["arn:aws:s3:::shared"]),
                &serde_json::json!(["bob/*", "ocean/*"])
            ),
        ]
    );
}

/// The most buckets that a HubStorage may declare, with default names.
fn eight_buckets(namespace: &str, prefix: &Prefix) -> Vec<Reach> {
    let bucket = |number| {
        let purpose = format!("scratch-{number}");
        BucketName::derive("installation", namespace, "hub", &purpose)
    };
    let reach = |number| Reach {
        bucket: bucket(number),
        place: Place::Own(prefix.clone()),
        access: Access::ReadWrite,
    };
    (0..8).map(reach).collect()
}

/// The same, granted to everybody.
fn granted(namespace: &str, prefix: &Prefix) -> Vec<Granted<&'static str>> {
    let buckets = eight_buckets(namespace, prefix).into_iter();
    let granted = |reach| Granted {
        alike: "everybody",
        reaches: vec![reach],
        is_listed_by_all: false,
    };
    buckets.map(granted).collect()
}

#[test]
fn eight_buckets_with_default_names_fit_for_everybody() {
    let policy = PolicyDocument::of_longest_user(|prefix| granted("earth", prefix));
    let longest = eight_buckets("earth", &Prefix::escaped(&[b'x'; 63]));
    let of_somebody = PolicyDocument::allowing(&longest).unwrap();
    assert_eq!(
        policy.unwrap().map(|policy| policy.as_str().len()),
        Some(of_somebody.as_str().len()),
        "where all have the same grants, somebody has this policy"
    );
}

#[test]
fn what_fits_every_user_fits_each_one() {
    let names: Vec<String> = (1..=255).map(|length| "ü".repeat(length)).collect();
    let ordinary = (1..=255).map(|length| "a".repeat(length));
    for user in ordinary.chain(names) {
        let reaches = eight_buckets("earth", &Prefix::escaped(user.as_bytes()));
        assert!(PolicyDocument::allowing(&reaches).is_ok(), "{user}");
    }
}

#[test]
fn buckets_that_are_too_many_for_some_user_are_told_before_that_user_comes() {
    let long = "a-namespace-with-a-name-as-long-as-they-get";
    assert!(matches!(
        PolicyDocument::of_longest_user(|prefix| granted(long, prefix)),
        Err(PolicyError::MayBeTooLong(length)) if length > MAX_SESSION_POLICY
    ));
    assert_eq!(
        PolicyDocument::of_longest_user::<()>(|_| Vec::new()),
        Ok(None)
    );
}

/// The statements about listing: buckets, and the prefixes there.
fn listings(policy: &PolicyDocument) -> Vec<(serde_json::Value, serde_json::Value)> {
    let json: serde_json::Value = serde_json::from_str(policy.as_str()).unwrap();
    let statements = json["Statement"].as_array().unwrap().iter();
    let lists = statements.filter(|it| it["Action"][0] == "s3:ListBucket");
    let told = |it: &serde_json::Value| {
        let prefixes = &it["Condition"]["StringLike"]["s3:prefix"];
        (it["Resource"].clone(), prefixes.clone())
    };
    lists.map(told).collect()
}

#[test]
fn what_is_shared_and_what_is_whole_stay_in_their_buckets() {
    let policy = PolicyDocument::allowing(&[
        reach("scratch", "bob", Access::ReadWrite),
        shared("scratch", "_groups/ocean", Access::ReadOnly),
        whole("data", Access::ReadOnly),
        reach("data", "bob", Access::ReadWrite),
    ])
    .unwrap();
    let json: serde_json::Value = serde_json::from_str(policy.as_str()).unwrap();
    assert_eq!(
        json["Statement"][0]["Resource"],
        serde_json::json!(["arn:aws:s3:::data/bob/*", "arn:aws:s3:::scratch/bob/*"])
    );
    assert_eq!(
        json["Statement"][1]["Resource"],
        serde_json::json!([
            "arn:aws:s3:::data/*",
            "arn:aws:s3:::scratch/_groups/ocean/*"
        ])
    );
    assert_eq!(
        json["Statement"][1]["Action"],
        serde_json::json!(["s3:GetObject"])
    );
    let everything = serde_json::Value::Null;
    let some = serde_json::json!(["_groups/ocean/*", "bob/*"]);
    assert_eq!(
        listings(&policy),
        [
            (serde_json::json!(["arn:aws:s3:::data"]), everything),
            (serde_json::json!(["arn:aws:s3:::scratch"]), some),
        ]
    );
}

#[test]
fn a_read_only_reach_cannot_write_or_delete() {
    let policy = PolicyDocument::allowing(&[reach("shared", "ocean", Access::ReadOnly)]).unwrap();
    assert!(!policy.as_str().contains("Put") && !policy.as_str().contains("Delete"));
}

#[test]
fn the_order_of_grants_does_not_change_the_policy() {
    let (a, b) = (
        reach("a-bucket", "bob", Access::ReadWrite),
        reach("b-bucket", "bob", Access::ReadOnly),
    );
    let less = reach("a-bucket", "bob", Access::ReadOnly);
    let one = PolicyDocument::allowing(&[a.clone(), b.clone()]).unwrap();
    let other = PolicyDocument::allowing(&[b, less.clone(), a.clone(), a, less]).unwrap();
    assert_eq!(one, other);
    assert_eq!(one.fingerprint(), other.fingerprint());
}

#[test]
fn a_policy_holds_no_space() {
    let policy =
        PolicyDocument::allowing(&[reach("hub", "a name with spaces", Access::ReadWrite)]).unwrap();
    assert!(!policy.as_str().contains(' '));
}

#[test]
fn what_does_not_fit_is_refused_and_never_widened() {
    let many: Vec<Reach> = (0..30)
        .map(|i| reach("hub", &format!("group-{i:040}"), Access::ReadOnly))
        .collect();
    assert!(
        matches!(PolicyDocument::allowing(&many), Err(PolicyError::TooLong(len)) if len > 2048)
    );
    assert_eq!(PolicyDocument::allowing(&[]), Err(PolicyError::Empty));
}
