//! What the API server lets in and the operator cannot make true: a condition that names the
//! field and the way out, nothing lost, and recovery once the cause is mended.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::hub::Hub;

fn named(mut storage: Value, bucket: &str) -> Value {
    storage["spec"]["buckets"][0]["bucketName"] = json!(bucket);
    storage
}

#[tokio::test]
async fn an_unknown_provider_is_named_and_waited_for() {
    let hub = Hub::namespace("unknown").await;
    hub.apply(&hub.storage()).await;

    let message = hub
        .until_condition("hs/hub", "Stalled", "True", "ProviderNotFound")
        .await;
    assert!(
        message.contains("spec.providerRef.name") && message.contains(&hub.namespace),
        "{message}"
    );

    hub.apply(&hub.provider()).await;
    hub.until_ready().await;
    hub.remove().await;
}

#[tokio::test]
async fn a_provider_for_other_namespaces_says_which() {
    let hub = Hub::namespace("tenancy").await;
    let mut provider = hub.provider();
    provider["spec"]["namespaces"] = json!({"matchLabels": {"tier": "production"}});
    hub.apply(&provider).await;
    hub.apply(&hub.storage()).await;

    let message = hub
        .until_condition("hs/hub", "Stalled", "True", "NamespaceNotAllowed")
        .await;
    assert!(
        message.contains("spec.namespaces") && message.contains("tier=production"),
        "{message}"
    );

    hub.kubectl(&["label", "namespace", &hub.namespace, "tier=production"])
        .await;
    hub.until_ready().await;
    hub.remove().await;
}

#[tokio::test]
async fn a_bucket_name_outside_the_providers_patterns_is_refused() {
    let hub = Hub::namespace("patterns").await;
    hub.apply(&hub.provider()).await;
    hub.apply(&named(hub.storage(), "somebody-elses")).await;

    let message = hub
        .until_condition("hs/hub", "Stalled", "True", "BucketNameNotAllowed")
        .await;
    assert!(
        message.contains("spec.buckets[scratch].bucketName") && message.contains("bucketNames"),
        "{message}"
    );
    hub.remove().await;
}

#[tokio::test]
async fn a_bucket_name_that_the_store_rejects_is_said_in_its_words() {
    let hub = Hub::namespace("reserved").await;
    let mut provider = hub.provider();
    // MinIO keeps this one to itself.
    provider["spec"]["bucketNames"] = json!(["minio"]);
    hub.apply(&provider).await;
    hub.apply(&named(hub.storage(), "minio")).await;

    let message = hub
        .until_condition("hs/hub", "BucketsReady", "False", "BucketNameInvalid")
        .await;
    assert!(
        message.contains("minio") && message.contains("choose another bucketName"),
        "{message}"
    );
    hub.remove().await;
}

#[tokio::test]
async fn a_bucket_of_somebody_else_is_left_as_it_is() {
    let hub = Hub::namespace("foreign").await;
    let bucket = format!("{}-theirs", hub.namespace);
    let code = format!(
        "s3.create_bucket(Bucket='{bucket}'); s3.put_object(Bucket='{bucket}', Key='precious', Body=b'x')"
    );
    hub.as_owner(&code).await;
    hub.apply(&hub.provider()).await;
    hub.apply(&named(hub.storage(), &bucket)).await;

    let message = hub
        .until_condition("hs/hub", "Stalled", "True", "BucketOwnedByOthers")
        .await;
    for told in [
        bucket.as_str(),
        "spec.buckets[scratch]",
        "hubstorage.io/owner",
        "Choose another bucketName",
    ] {
        assert!(message.contains(told), "{told}: {message}");
    }
    let untouched = format!(
        "import botocore\n\
         def absent(call):\n    \
             try: call(Bucket='{bucket}'); return False\n    \
             except botocore.exceptions.ClientError: return True\n\
         print(s3.list_objects_v2(Bucket='{bucket}')['KeyCount'], absent(s3.get_bucket_tagging), \
               absent(s3.get_bucket_lifecycle_configuration))"
    );
    assert_eq!(hub.as_owner(&untouched).await, "1 True True");
    hub.remove().await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_named() {
    let hub = Hub::namespace("endpoint").await;
    // Bound and given back: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut provider = hub.provider();
    provider["spec"]["s3"]["endpoint"] = json!(format!("http://127.0.0.1:{port}"));
    hub.apply(&provider).await;
    hub.apply(&hub.storage()).await;

    let of_provider = format!("hsp/{}", hub.namespace);
    let message = hub
        .until_condition(&of_provider, "Ready", "False", "EndpointUnreachable")
        .await;
    assert!(
        message.contains(&port.to_string()) && message.contains("spec.s3.endpoint"),
        "{message}"
    );
    hub.until_condition("hs/hub", "Ready", "False", "ProviderNotReady")
        .await;

    hub.apply(&hub.provider()).await;
    hub.until_ready().await;
    hub.remove().await;
}

#[tokio::test]
async fn keys_that_the_store_does_not_take_and_secrets_that_are_not_there_are_told_apart() {
    let hub = Hub::namespace("keys").await;
    let wrong = format!("wrong-{}", hub.namespace);
    hub.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": wrong, "namespace": "hubstorage-system"},
        "stringData": {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "not-a-secret"},
    }))
    .await;
    let mut provider = hub.provider();
    let of_provider = format!("hsp/{}", hub.namespace);

    provider["spec"]["s3"]["credentials"]["secretRef"]["name"] = json!(wrong);
    hub.apply(&provider).await;
    let message = hub
        .until_condition(&of_provider, "Stalled", "True", "CredentialsRejected")
        .await;
    assert!(!message.contains("not-a-secret"), "{message}");

    provider["spec"]["s3"]["credentials"]["secretRef"]["name"] = json!("no-such-secret");
    hub.apply(&provider).await;
    let message = hub
        .until_condition(&of_provider, "Stalled", "True", "CredentialsMissing")
        .await;
    assert!(
        message.contains("no-such-secret") && message.contains("hubstorage-system"),
        "{message}"
    );

    hub.kubectl(&["delete", "secret", "-n", "hubstorage-system", &wrong])
        .await;
    hub.remove().await;
}

#[tokio::test]
async fn a_provider_that_is_not_built_yet_says_so() {
    let hub = Hub::namespace("gcs").await;
    let mut provider = hub.provider();
    provider["spec"].as_object_mut().unwrap().remove("s3");
    provider["spec"]["gcs"] = json!({"project": "earth"});
    hub.apply(&provider).await;

    let of_provider = format!("hsp/{}", hub.namespace);
    let message = hub
        .until_condition(&of_provider, "Stalled", "True", "Unsupported")
        .await;
    assert!(message.contains("spec.s3"), "{message}");
    hub.remove().await;
}

#[tokio::test]
async fn at_a_store_without_roles_none_is_made_and_the_buckets_are_kept_all_the_same() {
    let hub = Hub::namespace("roles").await;
    let mut provider = hub.provider();
    provider["spec"]["s3"]["vending"]["role"] = json!({
        "management": "Managed",
        "trustedPrincipal": "arn:aws:iam:::user/hubstorage-vend",
    });
    hub.apply(&provider).await;
    hub.apply(&hub.storage()).await;

    let message = hub
        .until_condition("hs/hub", "RoleReady", "False", "Unsupported")
        .await;
    assert!(
        message.starts_with("the store cannot make roles; set spec.s3.vending"),
        "{message}"
    );
    hub.until_condition("hs/hub", "BucketsReady", "True", "Applied")
        .await;
    let of_provider = format!("hsp/{}", hub.namespace);
    hub.until("the provider to say so", async || {
        let lacks = "-o=jsonpath={.status.capabilities[?(@.supported==false)].name}";
        hub.kubectl(&["get", &of_provider, lacks])
            .await
            .contains("Roles")
    })
    .await;

    let role = &mut provider["spec"]["s3"]["vending"];
    role.as_object_mut().unwrap().remove("role");
    hub.apply(&provider).await;
    hub.until_ready().await;
    hub.remove().await;
}

#[tokio::test]
async fn a_second_hub_in_a_namespace_changes_nothing_until_the_first_is_gone() {
    let hub = Hub::ready("second").await;
    let mut second = hub.storage();
    second["metadata"]["name"] = json!("second");
    // Of one age in whole seconds, the name decides; this one is younger in any case.
    hub.until("a second to pass", async || {
        let now = hub.kubectl(&["get", "--raw", "/version"]).await;
        let created = hub.current().await["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap()
            .to_owned();
        !now.is_empty()
            && created.parse::<k8s_openapi::jiff::Timestamp>().unwrap() < whole_second_ago()
    })
    .await;
    hub.apply(&second).await;

    let message = hub
        .until_condition("hs/second", "Stalled", "True", "SecondHubStorage")
        .await;
    assert!(
        message.contains("HubStorage hub was in namespace")
            && message.contains("Delete one of the two"),
        "{message}"
    );
    assert_eq!(
        hub.get(&["hs", "second", "-o=jsonpath={.status.buckets}"])
            .await,
        ""
    );

    hub.kubectl(&["delete", "-n", &hub.namespace, "hs/hub", "--timeout=60s"])
        .await;
    hub.until_condition("hs/second", "Ready", "True", "Ready")
        .await;
    hub.remove().await;
}

fn whole_second_ago() -> k8s_openapi::jiff::Timestamp {
    k8s_openapi::jiff::Timestamp::now() - std::time::Duration::from_secs(1)
}

#[tokio::test]
async fn a_provider_that_is_pointed_at_another_store_is_refused_with_the_first_one_named() {
    let hub = Hub::ready("moved").await;
    let first = hub.platform.minio_endpoint().unwrap();
    let mut provider = hub.provider();
    // The same store by another name: nothing is lost, and still nobody can know.
    provider["spec"]["s3"]["endpoint"] = json!(first.replace("127.0.0.1", "localhost"));
    hub.apply(&provider).await;

    let message = hub
        .until_condition("hs/hub", "Stalled", "True", "ProviderMoved")
        .await;
    assert!(message.contains(&first), "{message}");

    hub.apply(&hub.provider()).await;
    hub.until_ready().await;
    hub.remove().await;
}

#[tokio::test]
async fn vending_keys_that_the_store_does_not_take_are_said_in_one_line_of_kubectl_get() {
    let hub = Hub::namespace("vending").await;
    let wrong = format!("wrong-{}", hub.namespace);
    hub.apply(&json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": wrong, "namespace": "hubstorage-vending"},
        "stringData": {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "not-a-secret"},
    }))
    .await;
    let mut provider = hub.provider();
    provider["spec"]["s3"]["vending"]["credentials"]["secretRef"]["name"] = json!(wrong);
    hub.apply(&provider).await;
    hub.apply(&hub.storage()).await;

    hub.until_condition("hs/hub", "IsolationReady", "Unknown", "ProbeInconclusive")
        .await;
    let provider = format!("hsp/{}", provider["metadata"]["name"].as_str().unwrap());
    for (object, type_) in [
        ("hs/hub", "VendingReady"),
        ("hs/hub", "Ready"),
        (&provider, "VendingReady"),
    ] {
        let message = hub
            .until_condition(object, type_, "False", "CredentialsRejected")
            .await;
        let words = "does not accept the keys of Secret hubstorage-vending/";
        assert!(message.contains(words), "{object}: {message}");
        assert!(!message.contains("not-a-secret"), "{message}");
    }
    let line = hub.get(&["hs", "hub"]).await;
    assert!(line.contains("CredentialsRejected"), "{line}");

    hub.kubectl(&["delete", "secret", "-n", "hubstorage-vending", &wrong])
        .await;
    hub.remove().await;
}
