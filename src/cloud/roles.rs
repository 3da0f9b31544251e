//! Roles of hubs: the managing side of who may vend what.

use async_trait::async_trait;
use hubstorage_core::names::RoleName;
use hubstorage_core::roles::{DeclaredRole, FoundRole};

use crate::CloudError;

/// A part of a role that is set by a call of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RolePart {
    /// The owner tag.
    Tag,
    /// Who may assume it.
    Trust,
    /// What its sessions reach at most.
    Policy,
    /// The permissions boundary.
    Boundary,
}

/// What happened when a role was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleCreation {
    /// The role is new.
    Created,
    /// There is one of this name, whoever made it; it is as it was.
    AlreadyThere,
}

/// Makes and keeps roles. Every call is safe to repeat.
#[async_trait]
pub trait RoleStore: Send + Sync + std::fmt::Debug {
    /// The role as it is; `None` if there is none of this name.
    ///
    /// # Errors
    /// [`CloudError::Unsupported`] if the store has no roles.
    async fn role(&self, name: &RoleName) -> Result<Option<FoundRole>, CloudError>;

    /// Creates the role with its tag, trust policy and boundary.
    ///
    /// # Errors
    /// As [`RoleStore::role`], and [`CloudError::InvalidTrust`].
    async fn create_role(&self, role: &DeclaredRole) -> Result<RoleCreation, CloudError>;

    /// Makes one part of the role what is declared. Policies and tags of others stay.
    ///
    /// # Errors
    /// Those of the store, and [`CloudError::InvalidTrust`].
    async fn change_role(&self, role: &DeclaredRole, part: RolePart) -> Result<(), CloudError>;

    /// Deletes the role and our policy in it; one that is not there is deleted already.
    ///
    /// # Errors
    /// Those of the store, which keeps a role that has policies of others.
    async fn delete_role(&self, name: &RoleName) -> Result<(), CloudError>;
}
