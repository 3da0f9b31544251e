//! The SDK as tests use it: clients of their own, so that they do not see a store through the code
//! under test, and users.

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use hubstorage_cloud::Credential;
use hubstorage_core::names::BucketName;
use url::Url;

use crate::world::{Denial, User};

/// A client with these keys.
pub fn client(endpoint: &Url, region: &'static str, keys: Credentials) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(region))
        .endpoint_url(endpoint.as_str().trim_end_matches('/'))
        .credentials_provider(keys)
        .http_client(http)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .build();
    Client::from_conf(config)
}

/// The keys of a session.
pub fn session(credential: &Credential) -> Credentials {
    Credentials::from_keys(
        &credential.access_key_id,
        credential.secret_access_key.expose(),
        Some(credential.session_token.expose().to_owned()),
    )
}

/// The HTTP status of a GET without credentials.
pub async fn anonymous_get(endpoint: &Url, bucket: &BucketName, key: &str) -> u16 {
    let endpoint = endpoint.as_str().trim_end_matches('/');
    let request = http::Request::get(format!("{endpoint}/{bucket}/{key}"));
    let request = request.body(SdkBody::empty()).unwrap();
    let connector = Connector::builder().build_http();
    let answer = connector.call(HttpRequest::try_from(request).unwrap());
    answer.await.unwrap().status().as_u16()
}

/// Somebody with the keys of this client.
pub struct SdkUser(pub Client);

fn denial<E: ProvideErrorMetadata + std::fmt::Debug>(error: SdkError<E, HttpResponse>) -> Denial {
    match (
        error.raw_response().map(|answer| answer.status().as_u16()),
        error.code(),
    ) {
        (Some(403), Some("AccessDenied")) => Denial::AccessDenied,
        (Some(404), _) => Denial::NotFound,
        _ => Denial::Other(format!("{error:?}")),
    }
}

/// Whether the store did what was asked, and only its answer cannot be read: moto and RGW give some
/// answers names that are not S3's.
pub fn is_answered<E>(error: &SdkError<E, HttpResponse>) -> bool {
    error
        .raw_response()
        .is_some_and(|answer| answer.status().is_success())
}

#[async_trait]
impl User for SdkUser {
    async fn put(&self, bucket: &BucketName, key: &str, body: &str) -> Result<(), Denial> {
        let put = self.0.put_object().bucket(bucket.as_str()).key(key);
        put.body(ByteStream::from(body.as_bytes().to_vec()))
            .send()
            .await
            .map(drop)
            .map_err(denial)
    }

    async fn get(&self, bucket: &BucketName, key: &str) -> Result<String, Denial> {
        let got = self
            .0
            .get_object()
            .bucket(bucket.as_str())
            .key(key)
            .send()
            .await
            .map_err(denial)?;
        Ok(String::from_utf8(got.body.collect().await.unwrap().to_vec()).unwrap())
    }

    async fn list(&self, bucket: &BucketName, prefix: &str) -> Result<Vec<String>, Denial> {
        let listed = self
            .0
            .list_objects_v2()
            .bucket(bucket.as_str())
            .prefix(prefix)
            .send()
            .await
            .map_err(denial)?;
        Ok(listed
            .contents()
            .iter()
            .map(|object| object.key().unwrap().to_owned())
            .collect())
    }

    async fn copy(&self, bucket: &BucketName, from: &str, to: &str) -> Result<(), Denial> {
        let copy = self.0.copy_object().bucket(bucket.as_str()).key(to);
        copy.copy_source(format!("{bucket}/{from}"))
            .send()
            .await
            .map(drop)
            .map_err(denial)
    }

    async fn delete(&self, bucket: &BucketName, key: &str) -> Result<(), Denial> {
        self.0
            .delete_object()
            .bucket(bucket.as_str())
            .key(key)
            .send()
            .await
            .map(drop)
            .map_err(denial)
    }

    async fn delete_all(&self, bucket: &BucketName, keys: &[&str]) -> Result<(), Denial> {
        let objects = keys
            .iter()
            .map(|key| ObjectIdentifier::builder().key(*key).build().unwrap())
            .collect();
        let delete = Delete::builder()
            .set_objects(Some(objects))
            .build()
            .unwrap();
        let deleted = self
            .0
            .delete_objects()
            .bucket(bucket.as_str())
            .delete(delete)
            .send()
            .await
            .map_err(denial)?;
        match deleted.errors().first().and_then(|error| error.code()) {
            None => Ok(()),
            Some("AccessDenied") => Err(Denial::AccessDenied),
            Some(code) => Err(Denial::Other(code.to_owned())),
        }
    }

    async fn upload_in_parts(
        &self,
        bucket: &BucketName,
        key: &str,
        body: &str,
    ) -> Result<(), Denial> {
        let bucket = bucket.as_str();
        let upload = self
            .0
            .create_multipart_upload()
            .bucket(bucket)
            .key(key)
            .send()
            .await
            .map_err(denial)?;
        let id = upload.upload_id().unwrap();
        let part = self
            .0
            .upload_part()
            .bucket(bucket)
            .key(key)
            .upload_id(id)
            .part_number(1);
        let part = part.body(ByteStream::from(body.as_bytes().to_vec()));
        let part = part.send().await.map_err(denial)?;
        // That it is allowed is what counts here.
        let listed = self.0.list_parts().bucket(bucket).key(key).upload_id(id);
        match listed.send().await {
            Err(error) if !is_answered(&error) => return Err(denial(error)),
            _ => {}
        }
        let part = CompletedPart::builder()
            .part_number(1)
            .set_e_tag(part.e_tag)
            .build();
        let parts = CompletedMultipartUpload::builder().parts(part).build();
        let complete = self
            .0
            .complete_multipart_upload()
            .bucket(bucket)
            .key(key)
            .upload_id(id);
        complete
            .multipart_upload(parts)
            .send()
            .await
            .map(drop)
            .map_err(denial)
    }
}
