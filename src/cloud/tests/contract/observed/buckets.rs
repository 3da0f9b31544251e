//! What a bucket can be given, and what it tells.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketCannedAcl, BucketLocationConstraint, CreateBucketConfiguration, ObjectOwnership,
    OwnershipControls, OwnershipControlsRule, PublicAccessBlockConfiguration, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
    Tag,
};
use hubstorage_cloud::{CloudError, Tags};
use hubstorage_core::bucket_policy::Statement;
use hubstorage_core::settings::Setting;
use serde_json::{Value, json};

use super::{Finding, code};
use crate::s3::S3World;
use crate::sdk;
use crate::world::{World, new_bucket};

pub async fn tags_at_creation(world: &S3World) -> Finding {
    let bucket = world.new_name();
    let tag = Tag::builder().key("a").value("b").build().unwrap();
    let mut configuration = CreateBucketConfiguration::builder().tags(tag);
    if let Some(place) = world.location().and_then(|it| it.location_constraint) {
        configuration = configuration.location_constraint(place);
    }
    let created = world
        .by_hand()
        .create_bucket()
        .bucket(bucket.as_str())
        .create_bucket_configuration(configuration.build())
        .send()
        .await;
    if let Err(error) = created {
        return Finding::refused(&error);
    }
    let tags = world.store().await.bucket_tags(&bucket).await.unwrap();
    Finding::kept(tags == Some([("a", "b")].into_iter().collect()))
}

pub async fn tags(world: &S3World) -> Finding {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    let tags: Tags = [("hubstorage.io/owner", "physics and maths")]
        .into_iter()
        .collect();
    match store.set_bucket_tags(&bucket, &tags).await {
        Ok(()) => Finding::kept(store.bucket_tags(&bucket).await == Ok(Some(tags))),
        Err(error) => Finding::No(error.to_string()),
    }
}

pub async fn owners(world: &S3World) -> Finding {
    let bucket = world.bucket_of_others().await;
    let store = world.store().await;
    match store.create_bucket(&bucket, &Tags::default()).await {
        Err(CloudError::OwnedByOthers { .. }) => Finding::Yes,
        Ok(_) => Finding::no("every account has every bucket"),
        Err(error) => Finding::No(error.to_string()),
    }
}

pub async fn expected_owner(world: &S3World) -> Finding {
    let bucket = new_bucket(world).await;
    let asked = world
        .by_hand()
        .list_objects_v2()
        .bucket(bucket.as_str())
        .expected_bucket_owner("999999999999")
        .send()
        .await;
    match asked {
        Err(error) if code(&error) == "AccessDenied" => Finding::Yes,
        Err(error) => Finding::refused(&error),
        Ok(_) => Finding::no("ignored"),
    }
}

pub async fn location(world: &S3World) -> Finding {
    let bucket = new_bucket(world).await;
    let found = world
        .by_hand()
        .get_bucket_location()
        .bucket(bucket.as_str())
        .send()
        .await;
    let place = match &found {
        Ok(found) => found.location_constraint().map_or("", |it| it.as_str()),
        Err(error) => return Finding::refused(error),
    };
    let place = if place.is_empty() {
        "none".to_owned()
    } else {
        format!("`{place}`")
    };
    let elsewhere = CreateBucketConfiguration::builder()
        .location_constraint(BucketLocationConstraint::ApSoutheast2)
        .build();
    let created = world
        .by_hand()
        .create_bucket()
        .bucket(world.new_name().as_str())
        .create_bucket_configuration(elsewhere)
        .send()
        .await;
    let answer = match created {
        Ok(_) => "taken".to_owned(),
        Err(error) => format!("`{}`", code(&error)),
    };
    Finding::Other(format!("{place}; {answer}"))
}

pub async fn versioning(world: &S3World) -> Finding {
    let bucket = new_bucket(world).await;
    world.enable_versions(&bucket).await;
    let found = world
        .by_hand()
        .get_bucket_versioning()
        .bucket(bucket.as_str())
        .send()
        .await;
    match found {
        Ok(found) => Finding::kept(found.status().is_some_and(|it| it.as_str() == "Enabled")),
        Err(error) => Finding::refused(&error),
    }
}

pub async fn listings(world: &S3World) -> Finding {
    let (s3, bucket) = (world.by_hand(), new_bucket(world).await);
    world.leave_a_version_behind(&bucket).await;
    let bucket = bucket.as_str();
    let versions = match s3.list_object_versions().bucket(bucket).send().await {
        Ok(found) => found.versions().len() == 1 && found.delete_markers().len() == 1,
        Err(error) => return Finding::refused(&error),
    };
    let begin = s3.create_multipart_upload().bucket(bucket).key("a/upload");
    begin.send().await.unwrap();
    let found = |prefix: &'static str| async move {
        let list = s3.list_multipart_uploads().bucket(bucket).prefix(prefix);
        list.send().await.is_ok_and(|it| it.uploads().len() == 1)
    };
    if !versions {
        return Finding::no("not the versions");
    }
    match (found("").await, found("a/").await, found("a/upload").await) {
        (true, true, true) => Finding::Yes,
        (true, false, true) => Finding::YesAnd("but no uploads below a prefix".into()),
        (false, false, true) => Finding::no("uploads only by the exact key"),
        found => Finding::No(format!("{found:?}")),
    }
}

pub async fn public_access_block(world: &S3World) -> Finding {
    let (s3, bucket) = (world.by_hand(), new_bucket(world).await);
    let bucket = bucket.as_str();
    let put = s3
        .put_public_access_block()
        .bucket(bucket)
        .public_access_block_configuration(
            PublicAccessBlockConfiguration::builder()
                .block_public_policy(true)
                .restrict_public_buckets(true)
                .block_public_acls(false)
                .ignore_public_acls(false)
                .build(),
        );
    if let Err(error) = put.send().await {
        return Finding::refused(&error);
    }
    let found = s3.get_public_access_block().bucket(bucket).send().await;
    let found = found
        .ok()
        .and_then(|it| it.public_access_block_configuration);
    match found.and_then(|it| it.block_public_policy) {
        Some(true) => {}
        Some(false) => return Finding::kept(false),
        // RGW's has another name than S3's, and the SDK finds nothing in it.
        None => return Finding::no("the SDK cannot read its answer"),
    }
    let public = statement("Allow", bucket);
    let put = s3.put_bucket_policy().bucket(bucket).policy(public);
    match put.send().await {
        Err(error) if code(&error) == "AccessDenied" => Finding::Yes,
        Err(error) => Finding::refused(&error),
        Ok(_) => Finding::no("kept, but a public policy is taken"),
    }
}

pub async fn policy(world: &S3World) -> Finding {
    let (s3, bucket) = (world.by_hand(), new_bucket(world).await);
    world.put_by_hand(&bucket, "key").await;
    let bucket = bucket.as_str();
    let wanted = statement("Deny", bucket);
    let put = s3.put_bucket_policy().bucket(bucket).policy(&wanted);
    if let Err(error) = put.send().await {
        return Finding::refused(&error);
    }
    let found = s3.get_bucket_policy().bucket(bucket).send().await;
    let found = found.ok().and_then(|it| it.policy).unwrap_or_default();
    let found: Value = serde_json::from_str(&found).unwrap_or_default();
    if found["Statement"][0]["Effect"] != "Deny" {
        return Finding::kept(false);
    }
    let got = s3.get_object().bucket(bucket).key("key").send().await;
    let is_denied = got.is_err_and(|error| code(&error) == "AccessDenied");
    let removed = s3.delete_bucket_policy().bucket(bucket).send().await;
    removed.unwrap();
    if is_denied {
        Finding::Yes
    } else {
        Finding::no("kept, but denies nothing to users with keys")
    }
}

/// Others let everybody read, and our statement is beside theirs.
pub async fn deny_anonymous(world: &S3World) -> Finding {
    let bucket = new_bucket(world).await;
    world.put_by_hand(&bucket, "key").await;
    let open = statement("Allow", bucket.as_str());
    let put = world.by_hand().put_bucket_policy();
    let put = put.bucket(bucket.as_str()).policy(&open);
    if let Err(error) = put.send().await {
        return Finding::refused(&error);
    }
    let before = sdk::anonymous_get(world.endpoint(), &bucket, "key").await;
    let ours = Setting::Statements([Statement::DenyAnonymous].into());
    if let Err(error) = world.store().await.apply_setting(&bucket, &ours).await {
        return Finding::No(error.to_string());
    }
    let after = sdk::anonymous_get(world.endpoint(), &bucket, "key").await;
    match (before, after) {
        (200, 403) => Finding::Yes,
        (200, _) => Finding::no("kept, but refuses nobody"),
        (status, _) => Finding::No(format!(
            "HTTP {status} also where a policy lets everybody read"
        )),
    }
}

/// Somebody lets everybody list.
pub async fn access_lists(world: &S3World) -> Finding {
    let (s3, bucket) = (world.by_hand(), new_bucket(world).await);
    let put = s3.put_bucket_acl().bucket(bucket.as_str());
    if let Err(error) = put.acl(BucketCannedAcl::PublicRead).send().await {
        return Finding::refused(&error);
    }
    let found = world.store().await.access_list(&bucket).await;
    Finding::kept(found.is_ok_and(|grants| !grants.is_empty()))
}

/// A policy for everybody about one object.
fn statement(effect: &str, bucket: &str) -> String {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": effect,
        "Principal": "*",
        "Action": ["s3:GetObject"],
        "Resource": [format!("arn:aws:s3:::{bucket}/key")],
    }]})
    .to_string()
}

pub async fn ownership(world: &S3World) -> Finding {
    let (s3, bucket) = (world.by_hand(), new_bucket(world).await);
    let enforced = OwnershipControlsRule::builder()
        .object_ownership(ObjectOwnership::BucketOwnerEnforced)
        .build()
        .unwrap();
    let put = s3
        .put_bucket_ownership_controls()
        .bucket(bucket.as_str())
        .ownership_controls(
            OwnershipControls::builder()
                .rules(enforced)
                .build()
                .unwrap(),
        );
    if let Err(error) = put.send().await {
        return Finding::refused(&error);
    }
    let found = s3.get_bucket_ownership_controls().bucket(bucket.as_str());
    let found = found.send().await.ok().and_then(|it| it.ownership_controls);
    let rule = found.and_then(|it| it.rules.into_iter().next());
    Finding::kept(
        rule.is_some_and(|it| it.object_ownership == ObjectOwnership::BucketOwnerEnforced),
    )
}

pub async fn encryption(world: &S3World) -> Finding {
    let (s3, bucket) = (world.by_hand(), new_bucket(world).await);
    let bucket = bucket.as_str();
    let by_default = ServerSideEncryptionByDefault::builder()
        .sse_algorithm(ServerSideEncryption::Aes256)
        .build()
        .unwrap();
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(by_default)
        .build();
    let wanted = ServerSideEncryptionConfiguration::builder().rules(rule);
    let put = s3
        .put_bucket_encryption()
        .bucket(bucket)
        .server_side_encryption_configuration(wanted.build().unwrap());
    if let Err(error) = put.send().await {
        return Finding::refused(&error);
    }
    let put = s3.put_object().bucket(bucket).key("key");
    match put.body(ByteStream::from_static(b"x")).send().await {
        Ok(put) => Finding::kept(put.server_side_encryption == Some(ServerSideEncryption::Aes256)),
        Err(error) => Finding::No(format!("taken, but then uploads fail: `{}`", code(&error))),
    }
}
