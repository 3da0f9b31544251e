//! From the SDK's errors to [`CloudError`].

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use hubstorage_core::names::BucketName;

use crate::CloudError;

/// Messages are cut here: they end up in conditions, whose readers want one line.
const MAX_MESSAGE: usize = 300;

/// What was asked, as errors name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// The endpoint.
    pub endpoint: &'a str,
    /// The IAM action.
    pub permission: &'static str,
    /// The bucket; `None` where the call is about none.
    pub bucket: Option<&'a BucketName>,
}

impl Call<'_> {
    fn resource(&self) -> String {
        self.bucket.map_or_else(|| "*".into(), ToString::to_string)
    }

    /// The error of this call.
    pub fn failed<E>(&self, error: &SdkError<E, HttpResponse>) -> CloudError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = status(error);
        match error {
            SdkError::ServiceError(_) => match error.code() {
                Some(code) => self.refused(code, error.message().unwrap_or_default(), status),
                None => self.refused(&format!("HTTP {}", status.unwrap_or_default()), "", status),
            },
            SdkError::ResponseError(_) => CloudError::Failed {
                permission: self.permission,
                resource: self.resource(),
                code: format!("HTTP {}", status.unwrap_or_default()),
                message: "the answer is not S3's; check spec.s3.endpoint".into(),
            },
            _ => match no_credentials(error) {
                Some(cause) => CloudError::NoCredentials {
                    cause: one_line(&innermost(cause)),
                },
                None => CloudError::Unreachable {
                    endpoint: self.endpoint.into(),
                    cause: one_line(&innermost(error)),
                },
            },
        }
    }

    /// The meaning of an error code. Codes are those of the S3 and STS references, and those that
    /// MinIO and Ceph RGW were seen to send in their place.
    fn refused(&self, code: &str, message: &str, status: Option<u16>) -> CloudError {
        match (code, self.bucket) {
            (
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "InvalidClientTokenId"
                | "UnrecognizedClientException"
                | "InvalidToken"
                | "ExpiredToken"
                | "ExpiredTokenException"
                | "AuthFailure",
                _,
            ) => CloudError::CredentialsRejected {
                endpoint: self.endpoint.into(),
                code: code.into(),
            },
            ("NoSuchBucket", Some(bucket)) => CloudError::NoSuchBucket {
                bucket: bucket.clone(),
            },
            ("InvalidBucketName", Some(bucket)) => CloudError::InvalidBucketName {
                bucket: bucket.clone(),
                cause: one_line(message),
            },
            (
                "SlowDown"
                | "SlowDownRead"
                | "SlowDownWrite"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequests"
                | "RequestLimitExceeded",
                _,
            ) => CloudError::Throttled {
                permission: self.permission,
            },
            (
                "AccessDenied"
                | "AccessDeniedException"
                | "AllAccessDisabled"
                | "Forbidden"
                | "HTTP 403",
                _,
            ) => CloudError::AccessDenied {
                permission: self.permission,
                resource: self.resource(),
            },
            _ if status == Some(429) => CloudError::Throttled {
                permission: self.permission,
            },
            _ => CloudError::Failed {
                permission: self.permission,
                resource: self.resource(),
                code: code.into(),
                message: one_line(message),
            },
        }
    }
}

/// The HTTP status of the answer, if there was one.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

fn no_credentials<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return Some(error);
        }
        next = error.source();
    }
    None
}

/// What the lowest layer said: the layers above it only repeat that something failed.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn one_line(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str, status: u16) -> CloudError {
        let bucket = BucketName::parse("earth").unwrap();
        let call = Call {
            endpoint: "http://store",
            permission: "s3:CreateBucket",
            bucket: Some(&bucket),
        };
        call.refused(code, "some\n  words", Some(status))
    }

    #[test]
    fn keys_that_do_not_fit_are_told_from_permissions_that_are_missing() {
        assert!(matches!(
            refused("SignatureDoesNotMatch", 403),
            CloudError::CredentialsRejected { .. }
        ));
        assert!(matches!(
            refused("AccessDenied", 403),
            CloudError::AccessDenied {
                permission: "s3:CreateBucket",
                ..
            }
        ));
    }

    #[test]
    fn what_is_not_known_keeps_the_code_and_the_message_in_one_line() {
        let CloudError::Failed { code, message, .. } = refused("Odd", 400) else {
            panic!("not Failed")
        };
        assert_eq!((code.as_str(), message.as_str()), ("Odd", "some words"));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = one_line(&"é".repeat(1000));
        assert_eq!(cut.chars().count(), MAX_MESSAGE + 1);
    }

    #[test]
    fn throttling_is_known_by_code_and_by_status() {
        for error in [refused("SlowDown", 503), refused("HTTP 429", 429)] {
            assert!(matches!(error, CloudError::Throttled { .. }), "{error:?}");
        }
    }
}
