//! What the API server itself refuses, with a message that names the field and the way out.

use serde_json::{Value, json};

use crate::hub::Hub;

/// The API server takes no such object, names the field, and says this.
pub async fn refused(hub: &Hub, object: Value, field: &str, message: &str) {
    let error = hub.try_apply(&object).await.expect_err(&object.to_string());
    assert!(
        error.contains(field),
        "the field {field} is not named: {error}"
    );
    assert!(error.contains(message), "{message:?} is not said: {error}");
}

#[tokio::test]
async fn a_provider_with_two_blocks_or_none_is_refused() {
    let hub = Hub::namespace("blocks").await;
    let mut two = hub.provider();
    two["spec"]["gcs"] = json!({"project": "p"});
    let mut none = hub.provider();
    none["spec"].as_object_mut().unwrap().remove("s3");

    refused(
        &hub,
        two,
        "spec",
        "exactly one of s3, gcs and azure must be set",
    )
    .await;
    refused(
        &hub,
        none,
        "spec",
        "exactly one of s3, gcs and azure must be set",
    )
    .await;
    hub.apply(&hub.provider()).await;
    hub.remove().await;
}

#[tokio::test]
async fn a_providers_fields_are_checked_one_by_one() {
    let hub = Hub::namespace("provider").await;
    let cases = [
        (
            "/spec/driftCheckInterval",
            json!("1s"),
            "spec.driftCheckInterval",
            "at least 5s",
        ),
        (
            "/spec/s3/endpoint",
            json!("minio:9000"),
            "spec.s3.endpoint",
            "must be an http or https URL",
        ),
        (
            "/spec/s3/endpoint",
            json!("http://minio:9000/path"),
            "spec.s3.endpoint",
            "without path or query",
        ),
        (
            "/spec/s3/endpoint",
            json!("http://169.254.169.254"),
            "spec.s3.endpoint",
            "must not be a link-local address",
        ),
        (
            "/spec/s3/endpoint",
            json!("http://[fd00:ec2::254]"),
            "spec.s3.endpoint",
            "must not be a link-local address",
        ),
        (
            "/spec/s3/endpoint",
            json!("http://[FE80::1]:9000"),
            "spec.s3.endpoint",
            "must not be a link-local address",
        ),
        (
            "/spec/s3/endpoint",
            json!("http://user:secret@minio:9000"),
            "spec.s3.endpoint",
            "must not hold a user name or password",
        ),
        (
            "/spec/s3/credentials",
            json!({"type": "Secret"}),
            "spec.s3.credentials",
            "secretRef must be set with type Secret",
        ),
        (
            "/spec/bucketNames",
            json!([]),
            "spec.bucketNames",
            "at least 1",
        ),
        (
            "/spec/s3/addressing",
            json!("Sideways"),
            "spec.s3.addressing",
            "Path",
        ),
    ];
    for (pointer, value, field, message) in cases {
        let mut provider = hub.provider();
        *provider.pointer_mut(pointer).unwrap() = value;
        refused(&hub, provider, field, message).await;
    }
    hub.remove().await;
}

#[tokio::test]
async fn amazon_without_a_role_for_vending_is_refused_and_with_one_it_is_taken() {
    let hub = Hub::namespace("amazon").await;
    let mut amazon = hub.provider();
    amazon["spec"]["s3"]
        .as_object_mut()
        .unwrap()
        .remove("endpoint");
    let mut with_role = amazon.clone();
    with_role["spec"]["s3"]["vending"]["role"] =
        json!({"management": "Given", "arn": "arn:aws:iam::123456789012:role/hub-users"});
    let mut without_vending = amazon.clone();
    without_vending["spec"]["s3"]
        .as_object_mut()
        .unwrap()
        .remove("vending");

    let mut managed = amazon.clone();
    managed["spec"]["s3"]["vending"]["role"] = json!({
        "management": "Managed",
        "trustedPrincipal": "arn:aws:iam::123456789012:role/hubstorage-serve",
        "permissionsBoundary": "arn:aws:iam::123456789012:policy/hubstorage-users",
    });
    let without = |field: &str| {
        let mut managed = managed.clone();
        let role = managed["spec"]["s3"]["vending"]["role"].as_object_mut();
        role.unwrap().remove(field);
        managed
    };
    let mut everybody = managed.clone();
    everybody["spec"]["s3"]["vending"]["role"]["trustedPrincipal"] =
        json!("arn:aws:iam::123456789012:role/*");
    let given_with_boundary = {
        let mut given = with_role.clone();
        given["spec"]["s3"]["vending"]["role"]["permissionsBoundary"] =
            managed["spec"]["s3"]["vending"]["role"]["permissionsBoundary"].clone();
        given
    };
    let cases = [
        (
            amazon,
            "spec.s3",
            "vending.role.management must be Managed or Given without endpoint",
        ),
        (
            without("permissionsBoundary"),
            "spec.s3",
            "vending.role.permissionsBoundary must be set",
        ),
        (
            without("trustedPrincipal"),
            "spec.s3.vending.role",
            "trustedPrincipal must be set with management Managed",
        ),
        (
            everybody,
            "spec.s3.vending.role.trustedPrincipal",
            "should match",
        ),
        (
            given_with_boundary,
            "spec.s3.vending.role",
            "permissionsBoundary goes with management Managed",
        ),
    ];
    for (provider, field, message) in cases {
        refused(&hub, provider, field, message).await;
    }
    let example = hub
        .platform
        .checkout
        .path("docs/examples/aws-provider.yaml");
    let example = std::fs::read_to_string(example).unwrap();
    let taken = [with_role, managed, without_vending].map(|taken| taken.to_string());
    for taken in taken.into_iter().chain([example]) {
        let dry_run = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
        let output = hub
            .platform
            .kubectl_with_input(dry_run, &taken)
            .await
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{taken}: {told}");
    }
    hub.remove().await;
}

#[tokio::test]
async fn a_hubs_fields_are_checked_one_by_one() {
    let hub = Hub::namespace("fields").await;
    let bucket = |extra: Value| {
        let mut bucket = json!({"name": "scratch"});
        bucket
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!([bucket])
    };
    let grant = |scope: &str, prefix: Option<&str>| {
        let mut grant = json!({"name": "own", "subjects": [{"kind": "Everyone"}], "scope": scope, "permission": "ReadOnly"});
        if let Some(prefix) = prefix {
            grant["prefix"] = json!(prefix);
        }
        bucket(json!({"grants": [grant]}))
    };
    let cases = [
        (
            bucket(json!({"lifecycle": {"expireAfterDays": 0}})),
            "expireAfterDays",
            "greater than or equal to 1",
        ),
        (
            bucket(json!({"env": [{"name": "A"}, {"name": "A"}]})),
            "env",
            "duplicate entries for key",
        ),
        (
            json!([{"name": "a", "env": [{"name": "X"}]}, {"name": "b", "env": [{"name": "X"}]}]),
            "spec",
            "the same env name stands in two buckets",
        ),
        (
            json!([{"name": "a", "bucketName": "one"}, {"name": "b", "bucketName": "one"}]),
            "spec",
            "the same bucketName stands in two of spec.buckets",
        ),
        (
            bucket(json!({"env": [{"name": "AWS_PROFILE"}]})),
            "env[0].name",
            "AWS_ configure the SDKs",
        ),
        (
            bucket(
                json!({"grants": [{"name": "own", "subjects": [{"kind": "Group"}], "scope": "UserPrefix", "permission": "ReadOnly"}]}),
            ),
            "subjects[0]",
            "kind Group needs name",
        ),
        (
            bucket(
                json!({"grants": [{"name": "own", "subjects": [{"kind": "Everyone", "name": "ocean"}], "scope": "UserPrefix", "permission": "ReadOnly"}]}),
            ),
            "subjects[0]",
            "Everyone takes none",
        ),
        (
            grant("Prefix", Some("_groups/_")),
            "grants[0].prefix",
            "is no part of a prefix",
        ),
        (
            grant("Prefix", Some(&format!("_{}", "a".repeat(63)))),
            "grants[0].prefix",
            "63",
        ),
        (
            grant("Prefix", None),
            "grants[0]",
            "scope Prefix needs prefix",
        ),
        (
            grant("Bucket", Some("_ocean")),
            "grants[0]",
            "nothing else takes it",
        ),
        (
            grant("Prefix", Some("ocean")),
            "grants[0].prefix",
            "such as _groups/ocean",
        ),
        (
            grant("Prefix", Some("_hubstorage-canary-a")),
            "grants[0].prefix",
            "the operator's own",
        ),
        (
            grant("Prefix", Some("_groups/../bob")),
            "grants[0].prefix",
            "no part of a prefix",
        ),
        (
            bucket(json!({"bucketName": "No_Such_Name"})),
            "bucketName",
            "should match",
        ),
        (json!([]), "spec.buckets", "at least 1"),
    ];
    for (buckets, field, message) in cases {
        let mut storage = hub.storage();
        storage["spec"]["buckets"] = buckets;
        refused(&hub, storage, field, message).await;
    }
    hub.remove().await;
}

#[tokio::test]
async fn a_hubs_github_app_is_told_from_its_number_and_from_a_hand_written_variable() {
    let hub = Hub::namespace("github").await;
    let app =
        json!({"clientID": "Iv23liABCDEFGHIJKLMN", "appURL": "https://github.com/apps/earth-hub"});
    let with = |field: &str, value: &str| {
        let mut app = app.clone();
        app[field] = json!(value);
        json!({"github": app})
    };
    let by_hand = json!([{"name": "GH_SCOPED_CREDS_APP_URL", "value": "https://example.org"}]);
    let cases = [
        (
            with("clientID", "123456"),
            "spec.github.clientID",
            "beside the App ID",
        ),
        (
            with("appURL", "github.com/apps/earth-hub"),
            "spec.github.appURL",
            "is the https address",
        ),
        (
            with("appURL", "https://github.com/$(HOME)"),
            "spec.github.appURL",
            "is the https address",
        ),
        (
            json!({"github": {"clientID": "Iv1.0"}}),
            "spec.github.appURL",
            "Required",
        ),
        (
            json!({"github": app, "env": by_hand}),
            "spec",
            "take them out of env",
        ),
    ];
    for (fields, field, message) in cases {
        let mut storage = hub.storage();
        json_patch::merge(&mut storage["spec"], &fields);
        refused(&hub, storage, field, message).await;
    }
    hub.remove().await;
}

#[tokio::test]
async fn a_hubs_variables_are_checked_one_by_one() {
    let hub = Hub::namespace("variables").await;
    let from = |source: Value| json!([{"name": "A", "valueFrom": source}]);
    let key = json!({"name": "values", "key": "a"});
    let cases = [
        (
            json!([{"name": "A"}]),
            "spec.env[0]",
            "exactly one of value and valueFrom",
        ),
        (
            json!([{"name": "A", "value": "x", "valueFrom": {"user": "Name"}}]),
            "spec.env[0]",
            "exactly one of value and valueFrom",
        ),
        (
            from(json!({})),
            "spec.env[0].valueFrom",
            "exactly one of configMapKeyRef, secretKeyRef and user",
        ),
        (
            from(json!({"configMapKeyRef": key, "secretKeyRef": key})),
            "spec.env[0].valueFrom",
            "exactly one of configMapKeyRef, secretKeyRef and user",
        ),
        (
            from(json!({"user": "Email"})),
            "spec.env[0].valueFrom.user",
            "\"Prefix\"",
        ),
        (
            from(json!({"secretKeyRef": {"name": "Values", "key": "a"}})),
            "spec.env[0].valueFrom.secretKeyRef.name",
            "should match",
        ),
        (
            json!([{"name": "1A", "value": "x"}]),
            "spec.env[0].name",
            "should match",
        ),
        (
            json!([{"name": "A", "value": "x"}, {"name": "A", "value": "y"}]),
            "spec.env",
            "duplicate entries for key",
        ),
        (
            json!([{"name": "SCRATCH_BUCKET", "value": "s3://elsewhere"}]),
            "spec",
            "the same name stands in spec.env and in the env of a bucket",
        ),
        (
            json!([{"name": "A", "value": "a\0b"}]),
            "spec.env[0].value",
            "should match",
        ),
    ];
    for (env, field, message) in cases {
        let mut storage = hub.storage();
        storage["spec"]["buckets"] =
            json!([{"name": "scratch", "env": [{"name": "SCRATCH_BUCKET"}]}]);
        storage["spec"]["env"] = env;
        refused(&hub, storage, field, message).await;
    }
    for name in [
        "AWS_ACCESS_KEY_ID",
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_DEFAULT_PROFILE",
        "AWS_ENDPOINT_URL",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_REGION",
        "AWS_S3_ENDPOINT",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "BOTO_CONFIG",
    ] {
        let mut storage = hub.storage();
        storage["spec"]["env"] = json!([{"name": name, "value": "x"}]);
        let message = "by this name SDKs find the store or credentials";
        refused(&hub, storage, "spec.env[0].name", message).await;
    }
    let mut storage = hub.storage();
    storage["spec"]["env"] = json!([{"name": "AWS_RETRY_MODE", "value": "adaptive"}, {"name": "LINES", "value": "a\nb"}]);
    hub.apply(&storage).await;
    hub.remove().await;
}

#[tokio::test]
async fn a_source_depends_on_another_that_stands_for_itself() {
    let hub = Hub::namespace("sources").await;
    let source = |name: &str, needed: Option<&str>| {
        let mut source = json!({
            "name": name, "podSelector": {}, "creators": [{"serviceAccount": {"name": "hub"}}],
        });
        if let Some(needed) = needed {
            source["dependsOn"] = json!({"name": needed});
        }
        source
    };
    let with = |sources: &[Value]| {
        let mut object = hub.storage();
        object["spec"]["users"] = json!({"sources": sources});
        object
    };
    let notebook = source("notebook", None);
    for wrong in [
        vec![source("dask", Some("notebok")), notebook.clone()],
        vec![source("dask", Some("dask"))],
        vec![
            source("a", Some("notebook")),
            source("b", Some("a")),
            notebook.clone(),
        ],
    ] {
        refused(
            &hub,
            with(&wrong),
            "spec.users.sources",
            "dependsOn names another",
        )
        .await;
    }
    hub.apply(&with(&[source("dask", Some("notebook")), notebook]))
        .await;
    hub.remove().await;
}

#[tokio::test]
async fn before_there_is_a_bucket_a_wrong_reference_or_name_is_put_right_by_an_edit() {
    let hub = Hub::namespace("corrected").await;
    hub.apply(&hub.provider()).await;
    let mut storage = hub.storage();
    storage["spec"]["providerRef"]["name"] = json!("of-nobody");
    storage["spec"]["buckets"][0]["bucketName"] = json!("of-somebody-else");
    hub.apply(&storage).await;
    hub.until_condition("hs/hub", "Stalled", "True", "ProviderNotFound")
        .await;
    storage["spec"]["providerRef"]["name"] = json!(hub.namespace);
    hub.apply(&storage).await;
    hub.until_condition("hs/hub", "Stalled", "True", "BucketNameNotAllowed")
        .await;
    let name = format!("{}-scratch", hub.namespace);
    storage["spec"]["buckets"][0]["bucketName"] = json!(name);
    hub.apply(&storage).await;
    hub.until_ready().await;
    assert_eq!(hub.bucket().await, name);
    hub.remove().await;
}

#[tokio::test]
async fn what_would_strand_data_cannot_be_edited() {
    let hub = Hub::ready("immutable").await;
    let edits = [
        (
            "/spec/providerRef/name",
            json!("other"),
            "spec.providerRef",
            "immutable once a bucket",
        ),
        (
            "/spec/users",
            json!({"prefixScheme": "Raw"}),
            "spec.users.prefixScheme",
            "prefixScheme is immutable",
        ),
        (
            "/spec/buckets/0/bucketName",
            json!("other-name"),
            "spec.buckets[].bucketName",
            "immutable once there is a bucket",
        ),
    ];
    for (pointer, value, field, message) in edits {
        let mut storage = hub.storage();
        let (parent, field_name) = pointer.rsplit_once('/').unwrap();
        storage.pointer_mut(parent).unwrap()[field_name] = value;
        refused(&hub, storage, field, message).await;
    }
    hub.remove().await;
}

#[tokio::test]
async fn a_creation_that_was_only_begun_fixes_no_name_and_a_bucket_that_is_there_does() {
    let hub = Hub::namespace("begun").await;
    let mut storage = hub.storage();
    storage["spec"]["buckets"][0]["bucketName"] = json!("begun");
    hub.apply(&storage).await;
    // Without a provider, the controller leaves this as it is.
    hub.until_condition("hs/hub", "Stalled", "True", "ProviderNotFound")
        .await;
    let known = json!({"name": "scratch", "bucketName": "begun", "store": "http://store"});
    let mut begun = known.clone();
    begun["creation"] = json!({"nonce": "n", "time": "2026-01-01T00:00:00Z"});
    let corrected = |name: &str| {
        let mut storage = storage.clone();
        storage["spec"]["buckets"][0]["bucketName"] = json!(name);
        storage
    };

    set_known(&hub, &begun).await;
    hub.apply(&corrected("corrected")).await;
    set_known(&hub, &known).await;
    refused(
        &hub,
        corrected("again"),
        "spec.buckets[].bucketName",
        "immutable once there is a bucket",
    )
    .await;
    hub.remove().await;
}

/// Makes status tell of one bucket.
async fn set_known(hub: &Hub, bucket: &Value) {
    let patch = json!({"status": {"buckets": [bucket]}}).to_string();
    let to_status = [
        "patch",
        "-n",
        &hub.namespace,
        "hs/hub",
        "--subresource=status",
    ];
    hub.kubectl(&[&to_status[..], &["--type=merge", "-p", &patch]].concat())
        .await;
}
