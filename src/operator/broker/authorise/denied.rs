//! Why a pod may have nothing.

use axum::http::StatusCode;
use hubstorage_core::api::{
    GROUPS_ANNOTATION, STAMP_ANNOTATION, USERNAME_ANNOTATION, USERNAME_LABEL,
};
use hubstorage_core::injection::WrittenByUser;
use jiff::Timestamp;

/// Why a pod may have nothing.
#[derive(
    Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr, strum::VariantNames,
)]
pub enum Denied {
    /// Nothing is declared for the namespace.
    #[error(
        "namespace {namespace} has no HubStorage, so its pods get no storage; if it is a hub's, tell the administrators of the hub"
    )]
    NoHubStorage {
        /// The namespace of the pod.
        namespace: String,
    },
    /// This build cannot read it.
    #[error(
        "{object} cannot be read ({cause}), so nothing is vended; tell the administrators of the hub: is a newer CustomResourceDefinition installed than this version of hubstorage knows?"
    )]
    ObjectUnreadable {
        /// Kind and name.
        object: String,
        /// What is wrong.
        cause: String,
    },
    /// On its way out.
    #[error(
        "HubStorage {hub} is being deleted, and its users get no new credentials; if that is a mistake, tell the \
         administrators of the hub"
    )]
    HubStorageDeleting {
        /// Name of the HubStorage.
        hub: String,
    },
    /// Its provider does not allow it.
    #[error(
        "HubStorage {hub} may not use its StorageProvider; tell the administrators of the hub: {why}"
    )]
    HubStorageNotAllowed {
        /// Name of the HubStorage.
        hub: String,
        /// The condition's message.
        why: String,
    },
    /// A selector with an unknown operator.
    #[error("HubStorage {hub}: {cause}; tell the administrators of the hub")]
    SelectorInvalid {
        /// Name of the HubStorage.
        hub: String,
        /// Which selector, and what is wrong.
        cause: String,
    },
    /// Not a pod of a user.
    #[error(
        "the labels of this pod match no source of HubStorage {hub} (spec.users.sources), or {USERNAME_LABEL} is not \
         among them, so it is not a user's pod"
    )]
    NotAUserPod {
        /// Name of the HubStorage.
        hub: String,
    },
    /// The webhook has not seen it.
    #[error(
        "this pod has no annotation {STAMP_ANNOTATION}: it was created while HubStorage was not running; restart the server"
    )]
    StampMissing,
    /// Made by somebody whose word is not taken.
    #[error(
        "this pod was created by {stamp}, which is not among spec.users.sources[{source_name}].creators of HubStorage \
         {hub}; start the server through the hub"
    )]
    StampUntrusted {
        /// Who made it.
        stamp: String,
        /// The source that it matches.
        source_name: String,
        /// Name of the HubStorage.
        hub: String,
    },
    /// Nobody's pod.
    #[error(
        "this pod has no annotation {USERNAME_ANNOTATION}, so nobody knows whose it is; KubeSpawner sets it on every server"
    )]
    UsernameMissing,
    /// Somebody's word, nobody knows whose.
    #[error(transparent)]
    WrittenByUser(#[from] WrittenByUser),
    /// It depends on a server, and there is none.
    #[error(
        "pods of spec.users.sources[{source_name}] get credentials only while {user:?} has a running pod of \
         spec.users.sources[{needed}], and there is none: start the server, and keep it while others compute for it"
    )]
    ServerNotRunning {
        /// The user.
        user: String,
        /// The source of this pod.
        source_name: String,
        /// The source of which one has to run.
        needed: String,
    },
    /// A name that nobody can have.
    #[error("annotation {USERNAME_ANNOTATION} of this pod: {cause}")]
    UsernameInvalid {
        /// What is wrong with it.
        cause: String,
    },
    /// The hub wrote something else than names of groups.
    #[error(
        "annotation {GROUPS_ANNOTATION} of pod {pod}, which the hub writes: {cause}; tell the administrators of the hub"
    )]
    GroupsInvalid {
        /// Name of the pod.
        pod: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Only under prefixScheme Raw.
    #[error("{cause}")]
    PrefixUnsafe {
        /// What is wrong with it, and the way out.
        cause: String,
    },
    /// Stamps and usernames cannot be trusted.
    #[error(
        "the admission policies that protect usernames and groups are not in force ({why}), so nothing is vended; \
         tell the administrators of the hub"
    )]
    GuardMissing {
        /// What is missing.
        why: String,
    },
    /// Made when stamps and usernames could not be trusted.
    #[error(
        "this pod was created at {created}, before the admission policies that protect usernames and groups were in force as they are ({since}); \
         restart the server"
    )]
    PodOlderThanGuard {
        /// When the pod was created.
        created: Timestamp,
        /// Since when the guard is in force.
        since: Timestamp,
    },
    /// An admin said so.
    #[error(
        "access of user {user:?} is suspended (spec.access of HubUser {hub_user}); ask the administrators of the hub"
    )]
    UserSuspended {
        /// The user.
        user: String,
        /// Name of the HubUser.
        hub_user: String,
    },
    /// providerRef points nowhere.
    #[error(
        "StorageProvider {provider}, which HubStorage {hub} refers to, does not exist; tell the administrators of the hub"
    )]
    ProviderNotFound {
        /// Name of the StorageProvider.
        provider: String,
        /// Name of the HubStorage.
        hub: String,
    },
    /// The provider vends nothing.
    #[error(
        "StorageProvider {provider} has no spec.s3.vending, so users get no credentials; tell the administrators of the hub"
    )]
    VendingNotConfigured {
        /// Name of the StorageProvider.
        provider: String,
    },
    /// There are no keys to vend with.
    #[error(
        "there is no Secret {secret} in namespace hubstorage-vending, which spec.s3.vending.credentials of \
         StorageProvider {provider} refers to; tell the administrators of the hub"
    )]
    VendingSecretMissing {
        /// Name of the Secret.
        secret: String,
        /// Name of the StorageProvider.
        provider: String,
    },
    /// Its sessions are to be of a role that is not there yet.
    #[error(
        "the role of HubStorage {hub} is not there yet; its condition RoleReady says why. Retry in a minute"
    )]
    RoleMissing {
        /// Name of the HubStorage.
        hub: String,
    },
    /// No bucket grants anything.
    #[error(
        "no bucket of HubStorage {hub} grants anything to its users (spec.buckets[].grants); ask the administrators of the hub"
    )]
    NothingGranted {
        /// Name of the HubStorage.
        hub: String,
    },
    /// Grants are for others.
    #[error(
        "no bucket of HubStorage {hub} grants anything to a user in {groups} (spec.buckets[].grants, annotation {GROUPS_ANNOTATION} of this pod); ask the administrators of the hub for a group or a grant, and restart the server once you are in it"
    )]
    NothingGrantedToUser {
        /// Name of the HubStorage.
        hub: String,
        /// The groups that the user is in.
        groups: String,
    },
    /// What is granted cannot be vended now.
    #[error("no bucket of HubStorage {hub} can be vended for now: {}; retry in a minute", why.join("; "))]
    NothingVendable {
        /// Name of the HubStorage.
        hub: String,
        /// For each bucket, why not.
        why: Vec<String>,
    },
}

impl Denied {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoHubStorage { .. } => StatusCode::NOT_FOUND,
            Self::ObjectUnreadable { .. }
            | Self::SelectorInvalid { .. }
            | Self::GuardMissing { .. }
            | Self::ProviderNotFound { .. }
            | Self::VendingSecretMissing { .. }
            | Self::RoleMissing { .. }
            | Self::NothingVendable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::FORBIDDEN,
        }
    }
}
