//! What a bucket holds, and its deletion: versions, delete markers, unfinished uploads.
//!
//! Keys are asked for in their encoded form: a listing in XML cannot hold every character that a
//! key may have, and readers of XML turn some into others.

use aws_sdk_s3::operation::abort_multipart_upload::builders::AbortMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::abort_multipart_upload::{
    AbortMultipartUploadError, AbortMultipartUploadOutput,
};
use aws_sdk_s3::types::{Delete, EncodingType, ObjectIdentifier};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use hubstorage_core::names::BucketName;
use percent_encoding::percent_decode_str;
use tokio::task::JoinSet;

use super::S3Store;
use super::errors::{one_line, status};
use super::store::{is_not_implemented, unbuildable};
use crate::{Batch, CloudError, Contents, MOST_UPLOADS, MOST_VERSIONS, RefusedDeletion, Removal};

/// Aborts of uploads that are under way at once: all of a batch end within one call's time-out.
const ABORTS_AT_ONCE: usize = 10;

/// What a version is to those who read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Current,
    Noncurrent,
    DeleteMarker,
}

/// A version of an object, or a mark that it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    key: String,
    /// `null` where the bucket kept no versions when it was written; none where the store knows of
    /// no versions at all.
    id: Option<String>,
    kind: Kind,
}

/// An upload that nobody has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Upload {
    key: String,
    /// The key, if the store has encoded it without saying so, as Ceph RGW does in this listing.
    or: Option<String>,
    id: String,
}

/// The first page of a listing.
struct Page<T> {
    items: Vec<T>,
    has_more: bool,
}

impl S3Store {
    pub(super) async fn look_into(&self, bucket: &BucketName) -> Result<Contents, CloudError> {
        let versions = self.versions(bucket).await?;
        let uploads = self.uploads(bucket).await?;
        let count = |kind| versions.items.iter().filter(|it| it.kind == kind).count();
        let mut keys = versions.items.iter().map(|version| &version.key);
        Ok(Contents {
            objects: count(Kind::Current),
            noncurrent_versions: count(Kind::Noncurrent),
            delete_markers: count(Kind::DeleteMarker),
            unfinished_uploads: uploads.items.len(),
            has_more: versions.has_more || uploads.has_more,
            example: keys
                .next()
                .or(uploads.items.first().map(|upload| &upload.key))
                .cloned(),
        })
    }

    pub(super) async fn delete_some(&self, bucket: &BucketName) -> Result<Batch, CloudError> {
        let uploads = self.uploads(bucket).await?;
        let versions = self.versions(bucket).await?;
        let mut batch = Batch {
            is_left: versions.has_more || uploads.has_more,
            ..Batch::default()
        };
        batch.aborted_uploads = self.abort(bucket, uploads.items).await?;
        // What XML cannot say goes by its URL.
        let (in_bulk, one_by_one): (Vec<_>, Vec<_>) = versions
            .items
            .into_iter()
            .partition(|version| version.key.chars().all(is_xml));
        self.delete_in_bulk(bucket, in_bulk, &mut batch).await?;
        for version in one_by_one {
            self.delete_one(bucket, version, &mut batch).await?;
        }
        batch.is_left |= batch.refused.is_some();
        Ok(batch)
    }

    pub(super) async fn remove(&self, bucket: &BucketName) -> Result<Removal, CloudError> {
        let deleted = self
            .client
            .delete_bucket()
            .bucket(bucket.as_str())
            .send()
            .await;
        let Err(error) = deleted else {
            return Ok(Removal::Deleted);
        };
        if error.code() == Some("BucketNotEmpty") {
            return Ok(Removal::NotEmpty);
        }
        match self.call("s3:DeleteBucket", bucket).failed(&error) {
            CloudError::NoSuchBucket { .. } => Ok(Removal::AlreadyGone),
            failed => Err(failed),
        }
    }

    /// Every version and delete marker of the first page.
    async fn versions(&self, bucket: &BucketName) -> Result<Page<Version>, CloudError> {
        let listed = self
            .client
            .list_object_versions()
            .bucket(bucket.as_str())
            .encoding_type(EncodingType::Url)
            .max_keys(MOST_VERSIONS as i32)
            .send()
            .await;
        let call = self.call("s3:ListBucketVersions", bucket);
        let page = match listed {
            Ok(page) => page,
            Err(error) if is_not_implemented(&error) => return self.objects(bucket).await,
            Err(error) => return Err(call.failed(&error)),
        };
        let encoding = page.encoding_type();
        let versions = page.versions().iter().map(|version| {
            let kind = match version.is_latest() {
                Some(false) => Kind::Noncurrent,
                _ => Kind::Current,
            };
            (version.key(), version.version_id(), kind)
        });
        let markers = page
            .delete_markers()
            .iter()
            .map(|marker| (marker.key(), marker.version_id(), Kind::DeleteMarker));
        let items = versions.chain(markers).map(|(key, id, kind)| {
            Ok(Version {
                key: self.key(bucket, key, encoding)?,
                id: id.map(str::to_owned),
                kind,
            })
        });
        Ok(Page {
            items: items.collect::<Result<_, CloudError>>()?,
            has_more: page.is_truncated() == Some(true),
        })
    }

    /// Every object of the first page, where the store knows of no versions.
    async fn objects(&self, bucket: &BucketName) -> Result<Page<Version>, CloudError> {
        let listed = self
            .client
            .list_objects_v2()
            .bucket(bucket.as_str())
            .encoding_type(EncodingType::Url)
            .max_keys(MOST_VERSIONS as i32)
            .send()
            .await;
        let page = listed.map_err(|error| self.call("s3:ListBucket", bucket).failed(&error))?;
        let items = page.contents().iter().map(|object| {
            Ok(Version {
                key: self.key(bucket, object.key(), page.encoding_type())?,
                id: None,
                kind: Kind::Current,
            })
        });
        Ok(Page {
            items: items.collect::<Result<_, CloudError>>()?,
            has_more: page.is_truncated() == Some(true),
        })
    }

    /// Every unfinished upload of the first page. MinIO lists those that began since its start.
    async fn uploads(&self, bucket: &BucketName) -> Result<Page<Upload>, CloudError> {
        let listed = self
            .client
            .list_multipart_uploads()
            .bucket(bucket.as_str())
            .encoding_type(EncodingType::Url)
            .max_uploads(MOST_UPLOADS as i32)
            .send()
            .await;
        let page = match listed {
            Ok(page) => page,
            Err(error) if is_not_implemented(&error) => {
                return Ok(Page {
                    items: Vec::new(),
                    has_more: false,
                });
            }
            Err(error) => {
                return Err(self
                    .call("s3:ListBucketMultipartUploads", bucket)
                    .failed(&error));
            }
        };
        let items = page.uploads().iter().map(|upload| {
            let is_said = page.encoding_type().is_some();
            Ok(Upload {
                key: self.key(bucket, upload.key(), page.encoding_type())?,
                or: upload.key().filter(|_| !is_said).and_then(decoded),
                id: upload.upload_id().unwrap_or_default().to_owned(),
            })
        });
        Ok(Page {
            items: items.collect::<Result<_, CloudError>>()?,
            has_more: page.is_truncated() == Some(true),
        })
    }

    /// A key of a listing, as it was given at the upload.
    fn key(
        &self,
        bucket: &BucketName,
        key: Option<&str>,
        encoding: Option<&EncodingType>,
    ) -> Result<String, CloudError> {
        let key = key.unwrap_or_default();
        if encoding != Some(&EncodingType::Url) {
            return Ok(key.to_owned());
        }
        // Another key than the one that was meant must never be deleted.
        decoded(key).ok_or_else(|| CloudError::Failed {
            permission: "s3:ListBucketVersions",
            resource: bucket.to_string(),
            code: "InvalidKey".into(),
            message: format!("the listed key {key:?} is not UTF-8; delete it in the store"),
        })
    }

    /// Removes unfinished uploads; how many of them.
    async fn abort(&self, bucket: &BucketName, uploads: Vec<Upload>) -> Result<usize, CloudError> {
        let mut aborted = 0;
        let mut uploads = uploads.into_iter();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < ABORTS_AT_ONCE
                && let Some(upload) = uploads.next()
            {
                let abort = self.client.abort_multipart_upload().bucket(bucket.as_str());
                under_way.spawn(abort_one(abort.upload_id(upload.id), upload.key, upload.or));
            }
            match under_way.join_next().await {
                None => return Ok(aborted),
                Some(Ok(Err(error))) if !is_no_upload(&error) => {
                    let call = self.call("s3:AbortMultipartUpload", bucket);
                    return Err(call.failed(&error));
                }
                Some(Ok(Ok(_))) => aborted += 1,
                // Finished or aborted by somebody else.
                Some(_) => {}
            }
        }
    }

    async fn delete_in_bulk(
        &self,
        bucket: &BucketName,
        versions: Vec<Version>,
        batch: &mut Batch,
    ) -> Result<(), CloudError> {
        if versions.is_empty() {
            return Ok(());
        }
        let asked = versions.len();
        let call = self.call("s3:DeleteObjectVersion", bucket);
        let identifier = |version: Version| {
            ObjectIdentifier::builder()
                .key(version.key)
                .set_version_id(version.id)
                .build()
        };
        let delete = versions
            .into_iter()
            .map(identifier)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|objects| {
                Delete::builder()
                    .set_objects(Some(objects))
                    .quiet(true)
                    .build()
            })
            .map_err(|error| unbuildable(call, &error))?;
        let answer = self
            .client
            .delete_objects()
            .bucket(bucket.as_str())
            .delete(delete)
            .send()
            .await
            .map_err(|error| call.failed(&error))?;
        let refused: Vec<_> = answer
            .errors()
            .iter()
            .filter(|error| !is_gone(error.code()))
            .collect();
        batch.deleted_versions += asked - refused.len();
        let Some(first) = refused.first() else {
            return Ok(());
        };
        let (code, message) = (
            first.code().unwrap_or_default(),
            first.message().unwrap_or_default(),
        );
        if may_pass(code) && !batch.has_moved() {
            return Err(call.refused(code, message, Some(503)));
        }
        batch.is_left = true;
        if !may_pass(code) {
            batch.refused.get_or_insert_with(|| RefusedDeletion {
                key: first.key().unwrap_or_default().to_owned(),
                code: code.to_owned(),
                message: one_line(message),
            });
        }
        Ok(())
    }

    async fn delete_one(
        &self,
        bucket: &BucketName,
        version: Version,
        batch: &mut Batch,
    ) -> Result<(), CloudError> {
        let deleted = self
            .client
            .delete_object()
            .bucket(bucket.as_str())
            .key(&version.key)
            .set_version_id(version.id)
            .send()
            .await;
        match deleted {
            Err(error) if status(&error) == Some(403) => {
                batch.refused.get_or_insert_with(|| RefusedDeletion {
                    key: version.key,
                    code: error.code().unwrap_or_default().to_owned(),
                    message: one_line(error.message().unwrap_or_default()),
                });
            }
            Err(error) if !is_gone(error.code()) => {
                return Err(self.call("s3:DeleteObjectVersion", bucket).failed(&error));
            }
            _ => batch.deleted_versions += 1,
        }
        Ok(())
    }
}

/// Removes an upload, whose id no other one has, under either form of its key.
async fn abort_one(
    abort: AbortMultipartUploadFluentBuilder,
    key: String,
    or: Option<String>,
) -> Result<AbortMultipartUploadOutput, SdkError<AbortMultipartUploadError, HttpResponse>> {
    match (abort.clone().key(key).send().await, or) {
        (Err(error), Some(key)) if is_no_upload(&error) => abort.key(key).send().await,
        (aborted, _) => aborted,
    }
}

fn is_no_upload(error: &SdkError<AbortMultipartUploadError, HttpResponse>) -> bool {
    error.code() == Some("NoSuchUpload")
}

/// Whether the version was deleted by somebody else meanwhile.
fn is_gone(code: Option<&str>) -> bool {
    matches!(code, Some("NoSuchKey" | "NoSuchVersion"))
}

/// Whether the store would have deleted this version at another time.
fn may_pass(code: &str) -> bool {
    matches!(
        code,
        "InternalError" | "ServiceUnavailable" | "SlowDown" | "SlowDownWrite" | "RequestTimeout"
    )
}

/// Whether XML 1.0 has a way to write this character (section 2.2).
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// A key as listings encode it: like a query, with `+` for a space. None, if it is not UTF-8.
fn decoded(key: &str) -> Option<String> {
    let key = key.replace('+', " ");
    let decoded = percent_decode_str(&key).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_as_stores_encode_them() {
        for (encoded, key) in [
            ("bob/a", "bob/a"),
            ("a+b%2Bc", "a b+c"),
            ("line%0Abreak", "line\nbreak"),
            ("%F0%9F%90%A7/", "🐧/"),
            ("100%25", "100%"),
        ] {
            assert_eq!(decoded(encoded).as_deref(), Some(key));
        }
        assert_eq!(decoded("%FF"), None);
    }

    #[test]
    fn control_characters_cannot_stand_in_xml_and_emoji_can() {
        assert!("a\n\t🐧é".chars().all(is_xml));
        assert!(!is_xml('\u{1}') && !is_xml('\u{FFFF}'));
    }
}
