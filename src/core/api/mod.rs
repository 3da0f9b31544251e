//! The API: three kinds of the group `hubstorage.io`, version `v1alpha1`, and the names by
//! which they and the pods of a hub refer to each other.
//!
//! The doc comments of this module are what `kubectl explain` prints.
#![allow(
    clippy::duplicated_attributes,
    reason = "two printcolumn(…) of one type are no duplicates, but clippy looks inside them"
)]

/// What installs everything again, in either way to install, also over what somebody edited:
/// without `--force-conflicts`, server-side apply ends with a conflict where another field manager
/// wrote.
macro_rules! reinstall {
    () => {
        "`helm upgrade hubstorage charts/hubstorage -n hubstorage-system --force-conflicts`, or without the chart `hubstorage manifests | kubectl apply --server-side --force-conflicts -f -`, with the values or options of your installation"
    };
}

mod bucket;
mod conditions;
mod env;
mod github;
mod home;
mod hub_status;
mod hub_storage;
mod hub_user;
mod reason;
mod shared;
mod storage_provider;
mod subject;

pub use crate::lifecycle::StorageClass;
pub use bucket::{
    Adoption, Bucket, DeletionPolicy, Encryption, EncryptionType, Grant, InsecureTransport,
    Lifecycle, Management, ObjectOwnership, Permission, PublicAccess, Scope, Transition,
    Versioning,
};
pub use conditions::{ConditionStatus, ConditionType, Verdict, condition, update_conditions};
pub use env::{
    DeclaredVariable, EnvFormat, KeyReference, LocationVariable, OnConflict, UserField,
    VariableSource,
};
pub use github::GitHub;
pub use home::{
    Home, HomeCount, HomeFinding, HomeGrowth, HomeOverride, HomeType, HomeUsage, HomesStatus,
    OnOversize, UserHome,
};
pub use hub_status::{
    BucketStatus, BucketVending, CreationIntent, Emptying, HubStorageStatus, HubVendingStatus,
    IsolationVerdict, Origin, PolicyTrial, PolicyVerdict, RoleStatus,
};
pub use hub_storage::{Creator, HubStorage, HubStorageSpec, Mode, Source, UserContainer, Users};
pub use hub_user::{AccessMode, HubUser, HubUserSpec, HubUserStatus};
pub use reason::{Reason, troubleshooting};
pub use shared::{Enforcement, PodPolicy, SharedFolder, SharedFolderStatus, SharedWriters};
pub use storage_provider::{
    Addressing, AzureProvider, Capability, CapabilityStatus, CredentialsType, GcsProvider,
    IdentityCredentials, RoleManagement, S3Provider, StorageProvider, StorageProviderSpec,
    StorageProviderStatus, Vending, VendingRole,
};
pub use subject::{Subject, SubjectKind};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The audience of the projected token that a user pod presents: worth nothing to the API
/// server or to anybody but the broker.
pub const AUDIENCE: &str = "hubstorage.io";

/// The annotation that says which account created a pod: written by the webhook at admission,
/// held by the guard against everybody else.
pub const STAMP_ANNOTATION: &str = "hubstorage.io/created-by";

/// The annotation that says what the webhook did to a pod, for people and for status.
pub const INJECTED_ANNOTATION: &str = "hubstorage.io/injected";

/// The annotation with the name of the container that runs the user's code, on pods whose source
/// does not know it. Whoever creates the pod writes it; read once, at admission.
pub const CONTAINER_ANNOTATION: &str = "hubstorage.io/container";

/// The annotation in which KubeSpawner writes the username as it is.
pub const USERNAME_ANNOTATION: &str = "hub.jupyter.org/username";

/// The annotation in which the hub writes the names of the user's groups, as a JSON list.
pub const GROUPS_ANNOTATION: &str = "hubstorage.io/groups";

/// The label in which KubeSpawner writes a slug of the username: it selects the pods of users,
/// but its 32 bits of hash are no authorization key.
pub const USERNAME_LABEL: &str = "hub.jupyter.org/username";

/// The annotation on a HubStorage or StorageProvider by which a person asks for a look at the store
/// now: any new value does; `status.lastHandledCheckRequest` answers with it.
pub const CHECK_ANNOTATION: &str = "hubstorage.io/check-requested-at";

/// Longest check request that is looked at, in bytes: status holds what was answered.
const LONGEST_CHECK_REQUEST: usize = 253;

/// The value by which somebody asks for a look at the store now; none where nobody does.
pub fn check_request(metadata: &ObjectMeta) -> Option<&str> {
    let asked = metadata.annotations.as_ref()?.get(CHECK_ANNOTATION)?;
    Some(&asked[..asked.floor_char_boundary(LONGEST_CHECK_REQUEST)])
}

/// The finalizer of a HubStorage, set before the first call to a store.
pub const FINALIZER: &str = "hubstorage.io/finalizer";

/// The tag that alone decides whose bucket it is: `<installation>/<namespace>/<name>`.
pub const OWNER_TAG: &str = "hubstorage.io/owner";

/// The tag with the nonce of the creation intent.
pub const CREATION_TAG: &str = "hubstorage.io/creation";

/// Where the controller and `hubstorage serve` run, and where Secrets with managing keys, the
/// CA's key and the leases live.
pub const SYSTEM_NAMESPACE: &str = "hubstorage-system";

/// Where Secrets with vending keys live: the only ones that `hubstorage serve` may read.
pub const VENDING_NAMESPACE: &str = "hubstorage-vending";

/// Where the agents run, and the certificates by which they know the broker.
pub const AGENTS_NAMESPACE: &str = "hubstorage-agents";

/// The way out where an object of the installation is missing or was changed.
pub const REINSTALL: &str = reinstall!();

/// A reference to a cluster-scoped object, or to one in a fixed namespace, by name.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The CustomResourceDefinitions of the three kinds, in the order in which they are applied.
///
/// `status` defaults to `observedGeneration: -1`: kstatus takes an object without status for
/// ready, and a fresh one is not.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [StorageProvider::crd(), HubStorage::crd(), HubUser::crd()]
        .into_iter()
        .map(|mut crd| {
            let versions = crd.spec.versions.iter_mut();
            let schemas =
                versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
            for schema in schemas {
                null_is_absent(schema);
                let status = schema
                    .properties
                    .as_mut()
                    .and_then(|fields| fields.get_mut("status"));
                if let Some(status) = status {
                    status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
                }
            }
            crd
        })
        .collect()
}

/// Takes `nullable` from every field, which schemars gives to each `Option`: without it the API
/// server drops a null, such as a template leaves behind; with it, the null would stay and count
/// as set in CEL (`has(self.field)`).
fn null_is_absent(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema
        .properties
        .iter_mut()
        .flat_map(|fields| fields.values_mut())
        .for_each(null_is_absent);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        null_is_absent(items);
    }
}

/// `observedGeneration` of an object that no reconcile has seen yet.
fn never_observed() -> i64 {
    -1
}
