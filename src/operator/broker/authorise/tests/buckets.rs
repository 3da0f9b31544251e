//! From which buckets anything is vended: those that are there, are the hub's, and were seen to hold users apart.

use super::*;

#[test]
fn a_bucket_that_does_not_exist_yet_is_left_out() {
    let grantee = Seen::with(|seen| {
        seen.hubs[0]["status"]["buckets"]
            .as_array_mut()
            .unwrap()
            .truncate(1)
    })
    .unwrap();
    assert_eq!(buckets(&grantee), ["earth-scratch"]);
    let (code, status, message) = denied(|seen| seen.hubs[0]["status"]["buckets"] = json!([]));
    assert_eq!((code, status), ("NothingVendable", 503));
    assert!(
        message.contains("bucket scratch: it does not exist yet"),
        "{message}"
    );
}

#[test]
fn a_bucket_that_is_only_about_to_be_created_may_be_somebody_elses() {
    let grantee = Seen::with(|seen| {
        seen.hubs[0]["status"]["buckets"][1]["creation"] =
            json!({"nonce": "n", "time": "2026-05-01T10:00:00Z"});
    });
    assert_eq!(buckets(&grantee.unwrap()), ["earth-scratch"]);
}

#[test]
fn a_bucket_that_nobody_has_seen_at_the_store_that_the_provider_points_to_now_is_left_out() {
    let (code, status, message) = denied(|seen| {
        seen.providers[0]["spec"]["s3"]["endpoint"] = json!("https://other.example.org");
    });
    assert_eq!((code, status), ("NothingVendable", 503));
    assert!(
        message.contains("not been seen yet at https://other.example.org"),
        "{message}"
    );
    let moved = Seen::with(|seen| {
        seen.providers[0]["spec"]["s3"]["endpoint"] = json!("https://other.example.org/");
        seen.hubs[0]["status"]["buckets"][0]["store"] = json!("https://other.example.org");
    });
    assert_eq!(buckets(&moved.unwrap()), ["earth-scratch"]);
}

#[test]
fn a_bucket_name_that_the_provider_does_not_allow_is_left_out() {
    let (code, _, message) =
        denied(|seen| seen.providers[0]["spec"]["bucketNames"] = json!(["mars-*"]));
    assert_eq!(code, "NothingVendable");
    assert!(message.contains("spec.bucketNames"), "{message}");
}

#[test]
fn a_bucket_whose_store_does_not_hold_users_apart_is_left_out() {
    for (verdict, why) in [
        ("Leaks", "does not hold users apart (get got through)"),
        ("Unknown", "could not be tried"),
    ] {
        let set = |seen: &mut Seen, index: usize, bucket: &str| {
            seen.hubs[0]["status"]["vending"]["buckets"][index] = verdict_on(bucket, verdict);
        };
        assert_eq!(
            buckets(&Seen::with(|seen| set(seen, 0, "scratch")).unwrap()),
            ["earth-persistent"]
        );
        let (code, status, message) = denied(|seen| {
            set(seen, 0, "scratch");
            set(seen, 1, "persistent");
        });
        assert_eq!((code, status), ("NothingVendable", 503));
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn a_verdict_on_another_provider_generation_secret_or_bucket_does_not_count() {
    for (field, value) in [
        ("providerUid", json!("provider-2")),
        ("providerGeneration", json!(2)),
        ("secretVersion", json!("6")),
        ("secretVersion", Value::Null),
        ("bucketName", json!("earth-other")),
    ] {
        let (code, _, message) = denied(|seen| {
            for entry in seen.hubs[0]["status"]["vending"]["buckets"]
                .as_array_mut()
                .unwrap()
            {
                entry[field] = value.clone();
            }
        });
        assert_eq!(code, "NothingVendable", "{field}");
        assert!(message.contains("still being tried"), "{message}");
    }
    assert_eq!(
        denied(|seen| seen.hubs[0]["status"]["vending"] = Value::Null).0,
        "NothingVendable"
    );
}
