//! [`RoleStore`] in memory.

use async_trait::async_trait;
use hubstorage_core::api::Capability;
use hubstorage_core::names::{ROLE_PATH, RoleName};
use hubstorage_core::roles::{DeclaredRole, FoundRole};
use serde_json::Value;

use super::state::State;
use super::{MemoryCloud, Operation};
use crate::{CloudError, RoleCreation, RolePart, RoleStore};

/// The account of all roles.
const ACCOUNT: &str = "123456789012";

/// The roles of the cloud, as one account sees them.
#[derive(Debug, Clone)]
pub struct MemoryRoles {
    pub(super) cloud: MemoryCloud,
    pub(super) account: String,
}

/// The ARN by which a role trusts `account`.
pub(super) fn principal(account: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/{account}")
}

fn parsed(document: &str) -> Value {
    serde_json::from_str(document).unwrap_or_default()
}

impl MemoryRoles {
    fn enter<T>(
        &self,
        operation: Operation,
        effect: impl FnOnce(&mut State) -> T,
    ) -> Result<T, CloudError> {
        let mut state = self.cloud.state();
        state.enter(&self.account, operation, None)?;
        let capability = Capability::Roles;
        match state.behaviour.supports.has(capability) {
            true => Ok(effect(&mut state)),
            false => Err(CloudError::Unsupported { capability }),
        }
    }
}

#[async_trait]
impl RoleStore for MemoryRoles {
    async fn role(&self, name: &RoleName) -> Result<Option<FoundRole>, CloudError> {
        self.enter(Operation::Role, |state| state.told_role(name).cloned())
    }

    async fn create_role(&self, role: &DeclaredRole) -> Result<RoleCreation, CloudError> {
        self.enter(Operation::CreateRole, |state| {
            if state.roles.contains_key(&role.name) {
                return RoleCreation::AlreadyThere;
            }
            state.keep_telling_role(&role.name);
            state.roles_made += 1;
            let made = FoundRole {
                arn: format!("arn:aws:iam::{ACCOUNT}:role{ROLE_PATH}{}", role.name),
                id: format!("AROA{:016}", state.roles_made),
                owner: Some(role.tag().1),
                trust: parsed(&role.trust()),
                policy: Value::Null,
                boundary: role.boundary.clone(),
            };
            state.roles.insert(role.name.clone(), made);
            RoleCreation::Created
        })
    }

    async fn change_role(&self, role: &DeclaredRole, part: RolePart) -> Result<(), CloudError> {
        self.enter(Operation::ChangeRole, |state| {
            state.keep_telling_role(&role.name);
            let denied = CloudError::AccessDenied {
                permission: Operation::ChangeRole.permission(),
                resource: format!("role {}", role.name),
            };
            if part == RolePart::Boundary && state.behaviour.refuses_boundaries {
                return Err(denied);
            }
            let Some(found) = state.roles.get_mut(&role.name) else {
                return Err(denied);
            };
            // As the policy of docs/examples has it: nothing is granted in a role without the boundary.
            if part == RolePart::Policy
                && role.boundary.is_some()
                && found.boundary != role.boundary
            {
                return Err(denied);
            }
            match part {
                RolePart::Tag => found.owner = Some(role.tag().1),
                RolePart::Trust => found.trust = parsed(&role.trust()),
                RolePart::Policy => found.policy = parsed(&role.policy()),
                RolePart::Boundary => found.boundary.clone_from(&role.boundary),
            }
            Ok(())
        })?
    }

    async fn delete_role(&self, name: &RoleName) -> Result<(), CloudError> {
        self.enter(Operation::DeleteRole, |state| {
            state.keep_telling_role(name);
            state.roles.remove(name);
        })
    }
}
