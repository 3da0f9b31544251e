//! [`CredentialSource`] in memory, and what its credentials reach.

use std::time::Duration;

use async_trait::async_trait;
use hubstorage_core::names::BucketName;
use hubstorage_core::policies::PolicyDocument;
use hubstorage_core::roles::PREFIX_TAG;
use jiff::SignedDuration;

use super::policy::{Policy, Request};
use super::roles::principal;
use super::state::{Session, State};
use super::{MemoryCloud, Operation};
use crate::{AssumedRole, CloudError, Credential, CredentialSource, Secret};

/// The shortest session, as on AWS and MinIO.
const SHORTEST: Duration = Duration::from_secs(900);

/// What the vending identity itself may do: the ceiling of every session.
const CEILING: &[&str] = &[
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
    "s3:ListBucket",
    "s3:GetBucketLocation",
];

/// The vending side, as one account.
#[derive(Debug, Clone)]
pub struct MemorySource {
    pub(super) cloud: MemoryCloud,
    pub(super) account: String,
}

/// A user with a vended credential.
#[derive(Debug, Clone)]
pub struct MemorySession {
    pub(super) cloud: MemoryCloud,
    pub(super) token: String,
}

/// Why a user did not get what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 403.
    AccessDenied,
    /// 404.
    NotFound,
    /// The session has ended, or there never was one.
    ExpiredToken,
}

#[async_trait]
impl CredentialSource for MemorySource {
    async fn assume(
        &self,
        role: Option<AssumedRole<'_>>,
        session: &str,
        policy: &PolicyDocument,
        lifetime: Duration,
    ) -> Result<Credential, CloudError> {
        let mut state = self.cloud.state();
        state.enter(&self.account, Operation::Assume, None)?;
        let invalid = |message: &str| CloudError::Failed {
            permission: Operation::Assume.permission(),
            resource: "*".into(),
            code: "ValidationError".into(),
            message: message.into(),
        };
        if !(2..=64).contains(&session.len())
            || !session
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
        {
            return Err(invalid(
                "roleSessionName must have 2 to 64 characters of [\\w+=,.@-]",
            ));
        }
        let refused = |cause: &str| CloudError::PolicyRefused {
            length: policy.as_str().len(),
            cause: cause.into(),
        };
        if policy.as_str().len() > state.behaviour.longest_session_policy {
            return Err(refused("PackedPolicyTooLarge: it is too long"));
        }
        let policy = Policy::parse(policy.as_str()).ok_or_else(|| refused("it is malformed"))?;
        let ceiling = role
            .map(|role| state.assumed(&self.account, role))
            .transpose()?;
        let lifetime =
            SignedDuration::try_from(lifetime.max(SHORTEST)).unwrap_or(SignedDuration::MAX);
        let expires = state
            .now
            .saturating_add(lifetime)
            .unwrap_or(jiff::Timestamp::MAX);
        let number = state.sessions.len() + 1;
        let token = format!("token-{number}-of-{session}");
        state.sessions.insert(
            token.clone(),
            Session {
                policy,
                ceiling,
                expires,
            },
        );
        Ok(Credential {
            access_key_id: format!("MEMORY{number:08}"),
            secret_access_key: Secret::new(format!("secret-{number}")),
            session_token: Secret::new(token),
            expires,
        })
    }
}

impl State {
    /// The policy of a role that trusts this account.
    fn assumed(&self, account: &str, role: AssumedRole<'_>) -> Result<Policy, CloudError> {
        let AssumedRole { arn, tag } = role;
        let denied = || CloudError::AccessDenied {
            permission: Operation::Assume.permission(),
            resource: arn.to_owned(),
        };
        let role = self.roles.values().find(|role| role.arn == arn);
        let role = role.ok_or_else(denied)?;
        let trusted = role.trust["Statement"][0]["Principal"]["AWS"].as_array();
        let is_trusted =
            trusted.is_some_and(|trusted| trusted.contains(&principal(account).into()));
        // A tag has to be there where the trust policy asks for it, and may not where it does not allow one.
        let trust = role.trust.to_string();
        let is_tagged_as_trusted = trust.contains(PREFIX_TAG) == tag.is_some();
        if !is_trusted || !is_tagged_as_trusted {
            return Err(denied());
        }
        let variable = format!("${{aws:PrincipalTag/{PREFIX_TAG}}}");
        let policy = role.policy.to_string();
        let policy = match tag {
            Some(prefix) => policy.replace(&variable, prefix.as_str()),
            None => policy,
        };
        Policy::parse(&policy).ok_or_else(denied)
    }

    /// What a session may do: both its policy and the vending identity have to allow it.
    pub(super) fn permits(&self, token: &str, request: Request<'_>) -> Result<(), Refusal> {
        let session = self.sessions.get(token).ok_or(Refusal::ExpiredToken)?;
        if session.expires <= self.now {
            return Err(Refusal::ExpiredToken);
        }
        let role = session.ceiling.as_ref();
        let within =
            CEILING.contains(&request.action) && role.is_none_or(|role| role.allows(request));
        let narrowed = !self.behaviour.enforces_session_policies || session.policy.allows(request);
        if within && narrowed {
            Ok(())
        } else {
            Err(Refusal::AccessDenied)
        }
    }
}

impl MemorySession {
    /// One call on an object: first permission, then existence, as the real ones do it.
    fn on<T>(
        &self,
        action: &str,
        bucket: &BucketName,
        key: &str,
        effect: impl FnOnce(&mut super::Bucket) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut state = self.cloud.state();
        let resource = format!("{bucket}/{key}");
        state.permits(
            &self.token,
            Request {
                action,
                resource: &resource,
                prefix: None,
            },
        )?;
        effect(state.buckets.get_mut(bucket).ok_or(Refusal::NotFound)?)
    }

    /// Writes an object.
    ///
    /// # Errors
    /// [`Refusal`], as for every call of a session.
    pub fn put(&self, bucket: &BucketName, key: &str, body: &[u8]) -> Result<(), Refusal> {
        self.on("s3:PutObject", bucket, key, |bucket| {
            bucket.objects.insert(key.to_owned(), body.to_vec());
            Ok(())
        })
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn get(&self, bucket: &BucketName, key: &str) -> Result<Vec<u8>, Refusal> {
        self.on("s3:GetObject", bucket, key, |bucket| {
            bucket.objects.get(key).cloned().ok_or(Refusal::NotFound)
        })
    }

    /// Deletes an object; one that is not there is deleted already.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn delete(&self, bucket: &BucketName, key: &str) -> Result<(), Refusal> {
        self.on("s3:DeleteObject", bucket, key, |bucket| {
            bucket.objects.remove(key);
            Ok(())
        })
    }

    /// Copies an object, which takes reading the one and writing the other.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn copy(&self, bucket: &BucketName, from: &str, to: &str) -> Result<(), Refusal> {
        let resource = format!("{bucket}/{to}");
        let write = Request {
            action: "s3:PutObject",
            resource: &resource,
            prefix: None,
        };
        self.cloud.state().permits(&self.token, write)?;
        let body = self.get(bucket, from)?;
        self.put(bucket, to, &body)
    }

    /// The keys that start with `prefix`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn list(&self, bucket: &BucketName, prefix: &str) -> Result<Vec<String>, Refusal> {
        let state = self.cloud.state();
        let request = Request {
            action: "s3:ListBucket",
            resource: bucket.as_str(),
            prefix: Some(prefix),
        };
        state.permits(&self.token, request)?;
        let found = state.buckets.get(bucket).ok_or(Refusal::NotFound)?;
        Ok(found
            .objects
            .keys()
            .filter(|key| key.starts_with(prefix))
            .cloned()
            .collect())
    }
}
