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
use crate::{CloudError, RoleCreation, RolePart, RoleStore};

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
                Err(failed.on(&format!("role {name}")))
            }
        }
    }
}

/// The same error; of a store that has no roles, that it has none.
fn or_lacking(error: CloudError) -> CloudError {
    match error {
        CloudError::Failed { code, .. } if is_unknown_call(&code) => CloudError::Unsupported {
            capability: Capability::Roles,
        },
        other => other,
    }
}

/// The same error; of a trust policy that is not taken, which field makes it.
fn or_trust(error: CloudError, role: &RoleName) -> CloudError {
    match error {
        CloudError::Failed { code, message, .. } if code == "MalformedPolicyDocument" => {
            CloudError::InvalidTrust {
                role: role.clone(),
                cause: message,
            }
        }
        other => other,
    }
}

/// The same error; of a store that has no boundaries, what to do about that.
fn or_boundless(error: CloudError) -> CloudError {
    match error {
        CloudError::Failed {
            permission,
            resource,
            code,
            ..
        } if is_unknown_call(&code) => CloudError::Failed {
            permission,
            resource,
            code,
            message: "the store has no permissions boundaries; take permissionsBoundary out of spec.s3.vending.role of \
                      the StorageProvider"
                .into(),
        },
        other => other,
    }
}

/// What stores answer to calls that they do not have. MinIO takes every such call for one of STS, whose version it
/// misses.
fn is_unknown_call(code: &str) -> bool {
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
        let answer = self.unless(MISSING, "iam:GetRole", name, answer);
        let answer = answer.map_err(or_lacking)?;
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

    async fn create_role(&self, role: &DeclaredRole) -> Result<RoleCreation, CloudError> {
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
        let created = created.map_err(|error| or_trust(or_lacking(error), &role.name))?;
        Ok(match created {
            Some(_) => RoleCreation::Created,
            None => RoleCreation::AlreadyThere,
        })
    }

    async fn change_role(&self, role: &DeclaredRole, part: RolePart) -> Result<(), CloudError> {
        let name = role.name.as_str();
        let on = |error: CloudError| error.on(&format!("role {name}"));
        match part {
            RolePart::Tag => {
                let call = self.client.tag_role().role_name(name);
                let set = call.tags(tag(role)?).send().await;
                set.map_err(|error| on(self.call("iam:TagRole").failed(&error)))?;
            }
            RolePart::Trust => {
                let call = self.client.update_assume_role_policy();
                let call = call.role_name(name).policy_document(role.trust());
                let set = call.send().await;
                let call = self.call("iam:UpdateAssumeRolePolicy");
                set.map_err(|error| or_trust(on(call.failed(&error)), &role.name))?;
            }
            RolePart::Policy => {
                let call = self.client.put_role_policy().role_name(name);
                let call = call.policy_name(ROLE_POLICY).policy_document(role.policy());
                let set = call.send().await;
                set.map_err(|error| on(self.call("iam:PutRolePolicy").failed(&error)))?;
            }
            RolePart::Boundary => {
                let call = self.client.put_role_permissions_boundary().role_name(name);
                let set = call.set_permissions_boundary(role.boundary.clone());
                let set = set.send().await;
                let call = self.call("iam:PutRolePermissionsBoundary");
                set.map_err(|error| or_boundless(on(call.failed(&error))))?;
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = include_str!("../../../docs/examples/aws-manage-policy.json");
    const OURS: &str = include_str!("roles.rs");

    #[test]
    fn the_policy_in_the_documentation_has_every_permission_that_is_asked_for() {
        let policy: Value = serde_json::from_str(POLICY).unwrap();
        let statements = policy["Statement"].as_array().unwrap();
        let allows = |permission: &str| {
            let mut actions = statements.iter().map(|statement| &statement["Action"]);
            actions.any(|actions| actions.as_array().unwrap().contains(&permission.into()))
        };
        let asked = OURS
            .split('"')
            .filter(|text| text.starts_with("iam:") && text.len() > 4);
        let asked: std::collections::BTreeSet<&str> = asked.collect();
        assert!(asked.len() >= 8, "{asked:?}");
        for permission in asked {
            assert!(allows(permission), "{permission}");
        }
    }

    #[test]
    fn a_role_that_is_not_there_is_asked_for_without_its_path() {
        let policy: Value = serde_json::from_str(POLICY).unwrap();
        let statements = policy["Statement"].as_array().unwrap().iter();
        let mut of_reading = statements.filter(|statement| {
            let actions = statement["Action"].as_array().unwrap();
            actions.contains(&"iam:GetRole".into())
        });
        let resources = &of_reading.next().unwrap()["Resource"];
        assert_eq!(resources[0], "arn:aws:iam::123456789012:role/*");
    }

    #[test]
    fn a_principal_that_iam_does_not_take_is_told_by_its_field() {
        let error = CloudError::Failed {
            permission: "iam:UpdateAssumeRolePolicy",
            resource: "role earth".into(),
            code: "MalformedPolicyDocument".into(),
            message: "Invalid principal in policy".into(),
        };
        let told = or_trust(error, &RoleName::derive("here", "earth", "earth")).to_string();
        assert!(
            told.contains("spec.s3.vending.role.trustedPrincipal"),
            "{told}"
        );
    }
}
