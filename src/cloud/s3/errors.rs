//! From the SDK's errors to [`CloudError`].

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use hubstorage_core::names::BucketName;
use rustls::CertificateError;
use url::Url;

use crate::CloudError;

/// Messages are cut here: they end up in conditions, whose readers want one line.
const MAX_MESSAGE: usize = 300;

/// Who asks whom, as errors name both.
#[derive(Debug)]
pub(super) struct Parties {
    /// The endpoint.
    pub endpoint: String,
    /// Where the keys stand.
    pub keys: String,
}

/// What was asked, as errors name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// Who asks whom.
    pub parties: &'a Parties,
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
            SdkError::ServiceError(_) if error.code().is_some() => self.refused(
                error.code().unwrap_or_default(),
                error.message().unwrap_or_default(),
                status,
            ),
            SdkError::ServiceError(_) | SdkError::ResponseError(_)
                if let Some(target) = redirect(error) =>
            {
                CloudError::Failed {
                    permission: self.permission,
                    resource: self.resource(),
                    code: format!("HTTP {}", status.unwrap_or_default()),
                    message: format!(
                        "the store redirects to {target}, and no redirect is followed; put the store's own \
                         address into spec.s3.endpoint"
                    ),
                }
            }
            SdkError::ServiceError(_) => {
                self.refused(&format!("HTTP {}", status.unwrap_or_default()), "", status)
            }
            SdkError::ResponseError(_) => CloudError::Failed {
                permission: self.permission,
                resource: self.resource(),
                code: format!("HTTP {}", status.unwrap_or_default()),
                message: "the answer is not S3's; check spec.s3.endpoint".into(),
            },
            _ => match no_credentials(error) {
                Some(cause) => CloudError::NoCredentials { cause },
                None => CloudError::Unreachable {
                    endpoint: self.parties.endpoint.clone(),
                    cause: no_answer(error),
                },
            },
        }
    }

    /// The meaning of an error code. Codes are those of the S3 and STS references, and those that
    /// MinIO and Ceph RGW were seen to send in their place.
    pub fn refused(&self, code: &str, message: &str, status: Option<u16>) -> CloudError {
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
                endpoint: self.parties.endpoint.clone(),
                keys: self.parties.keys.clone(),
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
            // Such messages tell of the store's inside: MinIO's hold local ports and node names,
            // which differ at every try.
            _ if status.is_some_and(|status| status >= 500) => CloudError::Failed {
                permission: self.permission,
                resource: self.resource(),
                code: code.into(),
                message: "the store has a problem of its own; its log tells more".into(),
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

/// Where an answer sends the caller, if it does: scheme, host and port, since the rest may differ
/// at every try.
fn redirect<E>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    let response = error.raw_response()?;
    let is_redirect = (300..400).contains(&response.status().as_u16());
    let target = response.headers().get("location")?;
    is_redirect.then(|| match Url::parse(target) {
        Ok(target) => target.origin().ascii_serialization(),
        Err(_) => "another path".to_owned(),
    })
}

/// Why there are no credentials to sign with, if that is the error. The source's own message is
/// left out: `Token expired: current date/time …` differs at every try.
fn no_credentials(error: &(dyn Error + 'static)) -> Option<String> {
    let problem = chain(error).find_map(|error| error.downcast_ref::<CredentialsError>())?;
    tracing::warn!(cause = innermost(problem), "no credentials");
    let cause = match problem {
        CredentialsError::CredentialsNotLoaded(_) => {
            "the process has no ambient identity; give it one, or a Secret"
        }
        CredentialsError::ProviderTimedOut(_) => {
            "the source of the ambient identity does not answer"
        }
        CredentialsError::InvalidConfiguration(_) => {
            "the environment's configuration of the ambient identity cannot be used"
        }
        _ => {
            let code = chain(problem).find_map(|error| {
                let refused = error.downcast_ref::<AssumeRoleWithWebIdentityError>()?;
                refused.code()
            });
            return Some(match code {
                Some(code) => format!(
                    "STS refuses the process's own token ({code}); check its role's trust policy"
                ),
                None => "the source of the ambient identity failed; the log says how".into(),
            });
        }
    };
    Some(cause.into())
}

/// Why there is no answer, in one line that is the same at every try while nothing changes:
/// rustls puts the time of the check into what it says about a certificate.
pub(super) fn no_answer(error: &(dyn Error + 'static)) -> String {
    match chain(error).find_map(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(problem)) => certificate(problem).into(),
        _ => one_line(&innermost(error)),
    }
}

/// What is wrong with the store's certificate, and what to do.
fn certificate(problem: &CertificateError) -> &'static str {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; renew it"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; set the clocks of both sides right"
        }
        // A bad signature is what an authority that was made anew under its old name looks like.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is signed by an authority that is not trusted; put that authority into spec.s3.caBundle"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name; use one of the certificate's names in spec.s3.endpoint"
        }
        CertificateError::Revoked => "its certificate is revoked; renew it",
        _ => "its certificate cannot be used; `openssl s_client -connect HOST:PORT` shows it",
    }
}

/// The error and what it came from. An `io::Error` hides the one that it carries: its `source` is
/// that one's source.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(carried) => Some(carried),
            None => error.source(),
        }
    })
}

/// What the lowest layer said: the layers above it only repeat that something failed.
fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

/// The message without line breaks, cut where it gets long.
pub(super) fn one_line(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    fn parties() -> Parties {
        Parties {
            endpoint: "http://store".into(),
            keys: "Secret manage".into(),
        }
    }

    fn refused(code: &str, status: u16) -> CloudError {
        let bucket = BucketName::parse("earth").unwrap();
        let call = Call {
            parties: &parties(),
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
    fn what_a_store_says_of_its_own_trouble_is_left_out() {
        let bucket = BucketName::parse("earth").unwrap();
        let call = Call {
            parties: &parties(),
            permission: "s3:CreateBucket",
            bucket: Some(&bucket),
        };
        let said = |port: u16| format!("cause(read tcp 10.0.0.1:{port}->10.0.0.2:9000: reset)");
        assert_eq!(
            call.refused("InternalError", &said(40001), Some(500)),
            call.refused("InternalError", &said(40002), Some(500)),
        );
    }

    #[test]
    fn why_there_are_no_credentials_does_not_change_from_try_to_try() {
        let said = |now: u64| {
            let source = format!("Token expired: current date/time {now} must be before 1");
            no_credentials(&CredentialsError::provider_error(source)).unwrap()
        };
        assert_eq!(said(1_700_000_001), said(1_700_000_002));
        let refused = AssumeRoleWithWebIdentityError::generic(
            ErrorMetadata::builder()
                .code("ExpiredTokenException")
                .message("Token expired: current date/time 1700000001 must be before 1")
                .build(),
        );
        let told = no_credentials(&CredentialsError::provider_error(refused)).unwrap();
        assert!(
            told.contains("ExpiredTokenException") && !told.contains("1700000001"),
            "{told}"
        );
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
