//! [`RoleStore`] over IAM, which compatibles speak at the store's own endpoint.

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_iam::Client;
use aws_sdk_iam::config::Builder;
use aws_sdk_iam::error::{BuildError, SdkError};
use aws_sdk_iam::types::Tag;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use hubstorage_core::api::{Capability, OWNER_TAG};
use hubstorage_core::names::{ROLE_PATH, RoleName};
use hubstorage_core::roles::{DeclaredRole, FoundRole, ROLE_POLICY};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::S3Config;
use super::answers::InIamsForm;
use super::errors::{Call, Parties};
use crate::{CloudError, RolePart, RoleStore};

/// There is nothing of the name.
const MISSING: &str = "NoSuchEntity";

/// There is a role of the name.
const EXISTS: &str = "EntityAlreadyExists";

/// The roles of an account.
#[derive(Debug)]
pub struct IamRoles {
    client: Client,
    parties: Parties,
}

impl IamRoles {
    pub(super) fn over(sdk: &SdkConfig, config: &S3Config) -> Self {
        let mut iam = Builder::from(sdk);
        if config.endpoint.is_some()
            && let Some(client) = sdk.http_client()
        {
            iam = iam.http_client(InIamsForm(client));
        }
        Self {
            client: Client::from_conf(iam.build()),
            parties: config.parties(),
        }
    }

    fn call(&self, permission: &'static str) -> Call<'_> {
        Call {
            parties: &self.parties,
            permission,
            bucket: None,
        }
    }

    /// What a call came to; `None` where the error is `code`, which says that it had nothing to do.
    fn unless<T, E>(
        &self,
        code: &str,
        permission: &'static str,
        name: &RoleName,
        answer: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<Option<T>, CloudError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.code() == Some(code) => Ok(None),
            Err(error) => {
                let failed = self.call(permission).failed(&error);
                Err(told(failed, name))
            }
        }
    }
}

/// The same error, about the role; of a store that has none, that it has none.
fn told(error: CloudError, name: &RoleName) -> CloudError {
    match error {
        CloudError::Failed { code, .. } if lacks_roles(&code) => CloudError::Unsupported {
            capability: Capability::Roles,
        },
        other => other.on(&format!("role {name}")),
    }
}

/// What stores without roles answer. MinIO takes every such call for one of STS, whose version it
/// misses.
fn lacks_roles(code: &str) -> bool {
    [
        "NotImplemented",
        "MethodNotAllowed",
        "InvalidAction",
        "MissingParameter",
    ]
    .contains(&code)
}

/// A document in an answer: AWS encodes it as in a URL, others do not.
fn document(text: Option<&str>) -> Value {
    let text = text.unwrap_or_default();
    let decoded = match text.starts_with('%') {
        true => percent_decode_str(text).decode_utf8_lossy(),
        false => text.into(),
    };
    serde_json::from_str(&decoded).unwrap_or_default()
}

fn tag(role: &DeclaredRole) -> Result<Tag, CloudError> {
    let (key, value) = role.tag();
    let invalid = |error: BuildError| CloudError::Failed {
        permission: "iam:TagRole",
        resource: role.name.to_string(),
        code: "InvalidTag".into(),
        message: error.to_string(),
    };
    Tag::builder()
        .key(key)
        .value(value)
        .build()
        .map_err(invalid)
}

#[async_trait]
impl RoleStore for IamRoles {
    async fn role(&self, name: &RoleName) -> Result<Option<FoundRole>, CloudError> {
        let answer = self.client.get_role().role_name(name.as_str()).send().await;
        let answer = self.unless(MISSING, "iam:GetRole", name, answer)?;
        let Some(role) = answer.and_then(|answer| answer.role) else {
            return Ok(None);
        };
        let policy = self.client.get_role_policy().role_name(name.as_str());
        let policy = policy.policy_name(ROLE_POLICY).send().await;
        let policy = self.unless(MISSING, "iam:GetRolePolicy", name, policy)?;
        let owner = role.tags().iter().find(|tag| tag.key() == OWNER_TAG);
        let boundary = role.permissions_boundary();
        Ok(Some(FoundRole {
            owner: owner.map(|tag| tag.value().to_owned()),
            trust: document(role.assume_role_policy_document()),
            policy: document(policy.as_ref().map(|policy| policy.policy_document())),
            boundary: boundary
                .and_then(|boundary| boundary.permissions_boundary_arn())
                .map(str::to_owned),
            arn: role.arn,
            id: role.role_id,
        }))
    }

    async fn create_role(&self, role: &DeclaredRole) -> Result<(), CloudError> {
        let created = self
            .client
            .create_role()
            .role_name(role.name.as_str())
            .path(ROLE_PATH)
            .assume_role_policy_document(role.trust())
            .set_permissions_boundary(role.boundary.clone())
            .tags(tag(role)?)
            .send()
            .await;
        let created = self.unless(EXISTS, "iam:CreateRole", &role.name, created);
        created.map(drop)
    }

    async fn change_role(&self, role: &DeclaredRole, part: RolePart) -> Result<(), CloudError> {
        let name = &role.name;
        // A role that went meanwhile is made anew at the next look.
        match part {
            RolePart::Tag => {
                let call = self.client.tag_role().role_name(name.as_str());
                let set = call.tags(tag(role)?).send().await;
                self.unless(MISSING, "iam:TagRole", name, set).map(drop)
            }
            RolePart::Trust => {
                let call = self.client.update_assume_role_policy();
                let call = call.role_name(name.as_str()).policy_document(role.trust());
                let set = call.send().await;
                self.unless(MISSING, "iam:UpdateAssumeRolePolicy", name, set)
                    .map(drop)
            }
            RolePart::Policy => {
                let call = self.client.put_role_policy().role_name(name.as_str());
                let call = call.policy_name(ROLE_POLICY).policy_document(role.policy());
                let set = call.send().await;
                self.unless(MISSING, "iam:PutRolePolicy", name, set)
                    .map(drop)
            }
            RolePart::Boundary => {
                let call = self.client.put_role_permissions_boundary();
                let call = call.role_name(name.as_str());
                let set = call
                    .set_permissions_boundary(role.boundary.clone())
                    .send()
                    .await;
                self.unless(MISSING, "iam:PutRolePermissionsBoundary", name, set)
                    .map(drop)
            }
        }
    }

    async fn delete_role(&self, name: &RoleName) -> Result<(), CloudError> {
        let policy = self.client.delete_role_policy().role_name(name.as_str());
        let deleted = policy.policy_name(ROLE_POLICY).send().await;
        self.unless(MISSING, "iam:DeleteRolePolicy", name, deleted)?;
        let deleted = self
            .client
            .delete_role()
            .role_name(name.as_str())
            .send()
            .await;
        self.unless(MISSING, "iam:DeleteRole", name, deleted)
            .map(drop)
    }
}
