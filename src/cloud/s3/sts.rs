//! [`CredentialSource`] over STS.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sts::Client;
use aws_sdk_sts::types::Tag;
use hubstorage_core::policies::PolicyDocument;
use hubstorage_core::roles::PREFIX_TAG;
use jiff::Timestamp;

use super::errors::{Call, Parties};
use super::{S3Config, S3Store, transport};
use crate::{AssumedRole, CloudError, Credential, CredentialSource, ObjectStore, Secret};

/// What MinIO is given as role: it has none and ignores the parameter, but the API demands at
/// least 20 characters.
pub(super) const NO_ROLE: &str = "arn:aws:iam:::role/hubstorage";

/// The shortest session of AWS and MinIO; both refuse a shorter one.
const SHORTEST: Duration = Duration::from_secs(900);

/// The vending side of S3 or a compatible: `AssumeRole` with an inline session policy.
#[derive(Debug)]
pub struct StsSource {
    client: Client,
    parties: Parties,
    /// The store of a compatible, which knows the same keys.
    store: Option<S3Store>,
}

impl StsSource {
    /// Prepares the client with the vending identity's own keys; nothing is called yet.
    ///
    /// Compatibles answer STS at the store's own endpoint, AWS at the region's.
    ///
    /// # Errors
    /// [`CloudError::InvalidCaBundle`] and [`CloudError::NoCredentials`].
    pub async fn connect(config: &S3Config) -> Result<Self, CloudError> {
        let sdk = transport::connect(config).await?;
        let store = match config.endpoint {
            Some(_) => Some(S3Store::connect(config).await?),
            None => None,
        };
        Ok(Self {
            client: Client::new(&sdk),
            parties: config.parties(),
            store,
        })
    }

    /// MinIO's STS answers `AccessDenied` also to keys that it does not know; its store tells
    /// the two apart. On AWS it is about the role.
    async fn refused(&self, error: CloudError, role: &str) -> CloudError {
        match (&error, &self.store) {
            (CloudError::AccessDenied { .. }, Some(store)) => match store.check_access().await {
                Err(rejected @ CloudError::CredentialsRejected { .. }) => rejected,
                _ if role == NO_ROLE => error,
                _ => error.on(role),
            },
            (CloudError::AccessDenied { .. }, None) => error.on(role),
            _ => error,
        }
    }
}

#[async_trait]
impl CredentialSource for StsSource {
    async fn assume(
        &self,
        role: Option<AssumedRole<'_>>,
        session: &str,
        policy: &PolicyDocument,
        lifetime: Duration,
    ) -> Result<Credential, CloudError> {
        let call = Call {
            parties: &self.parties,
            permission: "sts:AssumeRole",
            bucket: None,
        };
        let tag = role.and_then(|role| role.tag).map(|prefix| {
            let tag = Tag::builder().key(PREFIX_TAG).value(prefix.as_str());
            tag.build()
        });
        let tag = tag.transpose().map_err(|error| CloudError::Failed {
            permission: call.permission,
            resource: PREFIX_TAG.into(),
            code: "InvalidTag".into(),
            message: error.to_string(),
        })?;
        let role = match (role, &self.store) {
            (Some(role), _) => role.arn,
            (None, Some(_)) => NO_ROLE,
            // The CRD's own rule does not let this in; an object from before the rule might.
            (None, None) => {
                return Err(CloudError::NoCredentials {
                    cause: "Amazon issues sessions for a role only; set spec.s3.vending.role to management Managed or Given".into(),
                });
            }
        };
        let seconds = i32::try_from(lifetime.max(SHORTEST).as_secs()).unwrap_or(i32::MAX);
        let asked = self
            .client
            .assume_role()
            .role_arn(role)
            .role_session_name(session)
            .policy(policy.as_str())
            .set_tags(tag.map(|tag| vec![tag]))
            .duration_seconds(seconds)
            .send()
            .await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) => {
                let error = about_policy(call.failed(&error), policy);
                return Err(self.refused(error, role).await);
            }
        };
        let issued = answer.credentials.and_then(|issued| {
            Some(Credential {
                expires: Timestamp::new(issued.expiration.secs(), 0).ok()?,
                access_key_id: issued.access_key_id,
                secret_access_key: Secret::new(issued.secret_access_key),
                session_token: Secret::new(issued.session_token),
            })
        });
        issued.ok_or_else(|| CloudError::Failed {
            permission: call.permission,
            resource: "*".into(),
            code: "InvalidAnswer".into(),
            message: "the answer holds no credentials".into(),
        })
    }
}

/// [`CloudError::PolicyRefused`], if that is what the store means: `PackedPolicyTooLarge` and
/// `MalformedPolicyDocument` of the STS reference; MinIO has one code for all parameters, and says which one in
/// the message.
fn about_policy(error: CloudError, policy: &PolicyDocument) -> CloudError {
    let CloudError::Failed { code, message, .. } = &error else {
        return error;
    };
    let is_about_it = match code.as_str() {
        "PackedPolicyTooLarge" | "MalformedPolicyDocument" => true,
        "InvalidParameterValue" | "ValidationError" => message.to_lowercase().contains("policy"),
        _ => false,
    };
    match is_about_it {
        true => CloudError::PolicyRefused {
            length: policy.as_str().len(),
            cause: format!("{code}: {message}"),
        },
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use hubstorage_core::names::{BucketName, Prefix};
    use hubstorage_core::policies::{Access, Place, Reach};

    use super::*;
    use crate::s3::{Addressing, Keys};

    /// The second is MinIO's answer to 2049 characters.
    #[test]
    fn a_policy_that_the_store_does_not_take_is_told_from_other_failures() {
        let about = |code: &str, message: &str| {
            let failed = CloudError::Failed {
                permission: "sts:AssumeRole",
                resource: "*".into(),
                code: code.into(),
                message: message.into(),
            };
            about_policy(failed, &policy())
        };
        for (code, message) in [
            (
                "PackedPolicyTooLarge",
                "Packed size of session policy consumes 112% of allotted space.",
            ),
            (
                "InvalidParameterValue",
                "Session policy should not exceed 2048 characters",
            ),
            ("MalformedPolicyDocument", "Syntax errors in policy."),
        ] {
            let told = about(code, message).to_string();
            assert!(
                told.contains(message) && told.contains("grant fewer"),
                "{told}"
            );
        }
        for (code, message) in [
            ("InvalidParameterValue", "DurationSeconds is out of range"),
            ("InternalError", "the policy service is away"),
        ] {
            assert!(matches!(about(code, message), CloudError::Failed { .. }));
        }
    }

    fn policy() -> PolicyDocument {
        let reach = Reach {
            bucket: BucketName::parse("earth").unwrap(),
            place: Place::Own(Prefix::escaped(b"bob")),
            access: Access::ReadOnly,
        };
        PolicyDocument::allowing(&[reach]).unwrap()
    }

    #[tokio::test]
    async fn amazon_without_a_role_is_refused_with_the_field_to_set() {
        let config = S3Config {
            region: "us-west-2".into(),
            endpoint: None,
            addressing: Addressing::VirtualHost,
            ca_bundle: None,
            keys: Keys::Static {
                from: "a Secret".into(),
                access_key_id: "key".into(),
                secret_access_key: Secret::new("secret"),
            },
        };
        let source = StsSource::connect(&config).await.unwrap();
        let assumed = source.assume(None, "bob", &policy(), SHORTEST).await;
        let error = assumed.unwrap_err();

        assert!(
            error.to_string().contains("spec.s3.vending.role"),
            "{error}"
        );
    }
}
