//! `StorageProvider`: one cloud account or S3-compatible endpoint.

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::EnumIter;

use super::NameReference;

/// One cloud account or S3-compatible endpoint: who may use it, which buckets may be claimed
/// there, and with which two identities it is managed and vended from.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hubstorage.io",
    version = "v1alpha1",
    kind = "StorageProvider",
    shortname = "hsp",
    category = "hubstorage",
    status = "StorageProviderStatus",
    derive = "PartialEq",
    doc = "StorageProvider is one cloud account or S3-compatible endpoint, with the namespaces that may use it.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(
        name = "Vending",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='VendingReady')].status"
    ),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".spec.s3.endpoint"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.s3.region"),
    printcolumn(
        name = "Account",
        type_ = "string",
        json_path = ".status.account",
        priority = 1
    ),
    printcolumn(
        name = "Lacks",
        type_ = "string",
        json_path = ".status.capabilities[?(@.supported==false)].name",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.s3), has(self.gcs), has(self.azure)].filter(set, set).size() == 1")
    .message("exactly one of s3, gcs and azure must be set: one StorageProvider is one account; make a second StorageProvider for the other"))]
pub struct StorageProviderSpec {
    /// Namespaces whose HubStorage may refer to this provider, by their labels. `{}` is every
    /// namespace.
    pub namespaces: LabelSelector,

    /// Bucket names that hubs may claim, existing buckets included; `*` stands for any
    /// characters. Also the ceiling of what can be vended.
    #[schemars(
        length(min = 1, max = 64),
        inner(length(max = 63), pattern(r"^[a-z0-9*][a-z0-9*-]*$"))
    )]
    pub bucket_names: Vec<String>,

    /// How often everything declared is compared with the store, ± 10 %. At least 5s.
    #[serde(default = "default_drift_check_interval")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('5s')").message("driftCheckInterval is a duration of at least 5s, such as 10m or 1h30m"))]
    pub drift_check_interval: String,

    /// Amazon S3, or anything that speaks its protocol: MinIO, Ceph RGW, Wasabi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Provider>,

    /// Google Cloud Storage. Not built yet: such a provider is Stalled with reason Unsupported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<GcsProvider>,

    /// Azure Blob Storage. Not built yet: such a provider is Stalled with reason Unsupported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureProvider>,
}

fn default_drift_check_interval() -> String {
    "10m".to_owned()
}

/// Amazon S3 or a compatible store.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.caBundle) || has(self.endpoint)")
    .message("caBundle goes with endpoint: Amazon's own endpoints have public certificates"))]
#[x_kube(validation = Rule::new("has(self.endpoint) || !has(self.vending) || (has(self.vending.role) && has(self.vending.role.management) && self.vending.role.management in ['Given', 'Managed'])")
    .message("vending.role.management must be Managed or Given without endpoint, which is Amazon S3: it issues sessions for a role only; set vending.role to management Managed, with trustedPrincipal and permissionsBoundary, or to Given, with the role's arn"))]
#[x_kube(validation = Rule::new("has(self.endpoint) || !has(self.vending) || !has(self.vending.role) || !has(self.vending.role.management) || self.vending.role.management != 'Managed' || has(self.vending.role.permissionsBoundary)")
    .message("vending.role.permissionsBoundary must be set with management Managed on Amazon S3: without it whoever may make roles may make one that reaches everything"))]
pub struct S3Provider {
    /// Region of the buckets, for example us-west-2. Stores without regions take us-east-1.
    #[schemars(length(min = 1, max = 64), pattern(r"^[a-z0-9-]+$"))]
    pub region: String,

    /// URL of the store, for everybody but Amazon, for example https://minio.example.org. No
    /// path; pods get it as AWS_ENDPOINT_URL_S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getEscapedPath() in ['', '/'] && url(self).getQuery().size() == 0")
        .message("endpoint must be an http or https URL without path or query, for example https://minio.example.org:9000"))]
    #[x_kube(validation = Rule::new("!self.contains('@')")
        .message("endpoint must not hold a user name or password: pods get it as it is; keys belong into the Secrets of credentials and vending"))]
    #[x_kube(validation = Rule::new("!isURL(self) || !['169.254.', 'fe80:', 'FE80:', 'fd00:ec2:', 'FD00:EC2:', '::ffff:', '::FFFF:'].exists(start, url(self).getHostname().startsWith(start))")
        .message("endpoint must not be a link-local address: those belong to metadata services"))]
    pub endpoint: Option<String>,

    /// Whether the bucket's name goes into the path or the host name of a URL.
    #[serde(default)]
    pub addressing: Addressing,

    /// Certificates (PEM, base64) that the endpoint's certificate is verified with, instead of
    /// the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "byte"))]
    pub ca_bundle: Option<ByteString>,

    /// The identity that manages buckets. It never leaves the controller.
    pub credentials: IdentityCredentials,

    /// The identity that issues users' credentials. Without it nothing is vended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vending: Option<Vending>,
}

impl S3Provider {
    /// Which store this is: the endpoint, or Amazon's region. Data does not move with it.
    pub fn store(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("Amazon S3 {}", self.region),
        }
    }

    /// Whether requests go over TLS; Amazon's always do.
    pub fn has_tls(&self) -> bool {
        self.endpoint
            .as_ref()
            .is_none_or(|endpoint| endpoint.to_lowercase().starts_with("https:"))
    }
}

/// Where a bucket's name goes in a request.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// `https://endpoint/bucket/key`: what most compatible stores take.
    Path,
    /// `https://bucket.endpoint/key`: what Amazon prefers.
    #[default]
    VirtualHost,
}

/// How an identity proves itself to the store.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'Secret') == has(self.secretRef)")
    .message("secretRef must be set with type Secret, and only then"))]
pub struct IdentityCredentials {
    /// Ambient: what the process finds in its environment (IRSA, Pod Identity, an instance
    /// role). Secret: static keys.
    #[serde(rename = "type")]
    pub type_: CredentialsType,

    /// Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: managing keys in the namespace
    /// hubstorage-system, vending keys in hubstorage-vending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameReference>,
}

impl IdentityCredentials {
    /// Name of the Secret with the keys; none where there is nothing to read.
    pub fn secret_name(&self) -> Option<&str> {
        match self.type_ {
            CredentialsType::Ambient => None,
            CredentialsType::Secret => self.secret_ref.as_ref().map(|secret| secret.name.as_str()),
        }
    }
}

/// Kind of credentials.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialsType {
    /// What the process finds in its environment.
    Ambient,
    /// Static keys in a Secret.
    Secret,
}

/// The identity that issues users' credentials, and the role they are issued for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Vending {
    /// The identity that calls AssumeRole; its own policy is the ceiling of every session.
    pub credentials: IdentityCredentials,

    /// The role that users' sessions assume.
    #[serde(default)]
    pub role: VendingRole,
}

/// The role that users' sessions assume.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.management == 'Given') == has(self.arn)")
    .message("arn must be set with management Given, and only then"))]
#[x_kube(validation = Rule::new("(self.management == 'Managed') == has(self.trustedPrincipal)")
    .message("trustedPrincipal must be set with management Managed, and only then: it is the ARN of the identity in vending.credentials, which assumes the roles"))]
#[x_kube(validation = Rule::new("self.management == 'Managed' || !has(self.permissionsBoundary)")
    .message("permissionsBoundary goes with management Managed: a given role has its own"))]
pub struct VendingRole {
    /// None: the store has no roles (MinIO), sessions narrow the vending identity itself.
    /// Managed: the managing identity makes and keeps a role for each hub, under the path
    /// /hubstorage/, which reaches that hub's buckets and nothing else. Given: the role in arn, for
    /// all hubs. Amazon S3 has to have one of the two.
    #[serde(default)]
    pub management: RoleManagement,

    /// ARN of the role, with management Given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 20, max = 2048),
        pattern(r"^arn:[a-z-]+:iam::[0-9a-zA-Z_-]*:role/.+$")
    )]
    pub arn: Option<String>,

    /// ARN of the one identity that may assume the roles, with management Managed: that of
    /// vending.credentials, for example arn:aws:iam::123456789012:role/hubstorage-serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 20, max = 2048),
        pattern(r"^arn:aws:iam::[0-9a-zA-Z_-]*:(role|user)/[^*]+$")
    )]
    pub trusted_principal: Option<String>,

    /// ARN of the policy that every role gets as its permissions boundary: what no session may ever
    /// exceed, whatever the roles' own policies say. Needed on Amazon S3; not every other store has
    /// boundaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 20, max = 2048),
        pattern(r"^arn:aws:iam::[0-9a-zA-Z_-]*:policy/.+$")
    )]
    pub permissions_boundary: Option<String>,
}

/// Who makes the role.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoleManagement {
    /// There is none.
    #[default]
    None,
    /// Somebody else.
    Given,
    /// The operator, one for each hub.
    Managed,
}

/// Google Cloud Storage.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GcsProvider {
    /// Project id.
    pub project: String,
}

/// Azure Blob Storage.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AzureProvider {
    /// Name of the storage account.
    pub storage_account: String,
}

/// What is known of a provider.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StorageProviderStatus {
    /// Generation of the spec that this status describes; -1 before the first look.
    #[serde(default = "super::never_observed")]
    pub observed_generation: i64,

    /// Ready, Reconciling, Stalled, and VendingReady where it vends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The store that was first seen to answer: the endpoint, or Amazon's region. While hubs have
    /// buckets there, nothing is done at any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,

    /// The account of that store that the managing keys were first seen to belong to, as the
    /// store names it: the canonical user id on AWS, the user on Ceph RGW; MinIO tells none
    /// apart. While hubs have buckets there, nothing is done in any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,

    /// Value of the annotation hubstorage.io/check-requested-at that was last answered: the store
    /// was asked since, and the conditions say how that ended. Its HubStorages are compared with
    /// the store too, and answer for themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_check_request: Option<String>,

    /// What the store was found to be able to do, and not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub capabilities: Vec<CapabilityStatus>,
}

/// One thing that stores differ in.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CapabilityStatus {
    /// The capability.
    pub name: Capability,
    /// Whether the store has it.
    pub supported: bool,
    /// Generation of the spec under which this was found out; a newer one is tried again.
    pub observed_generation: i64,
}

/// Something that not every store can do.
#[derive(
    Serialize,
    Deserialize,
    JsonSchema,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    EnumIter,
)]
pub enum Capability {
    /// A lifecycle rule that aborts multipart uploads nobody finished.
    AbortIncompleteUploads,
    /// Lifecycle rules that move objects to other storage classes.
    Transitions,
    /// A switch on the bucket that overrides every public grant.
    PublicAccessBlock,
    /// Access control lists that can be switched off.
    ObjectOwnership,
    /// Old versions of objects.
    Versioning,
    /// Encryption by default, with the keys that the spec names.
    Encryption,
    /// A policy on the bucket.
    BucketPolicy,
    /// Roles that are made through the IAM API.
    Roles,
}

impl Capability {
    /// What a store with this capability can do, as the rest of a sentence that begins with
    /// "the store cannot".
    pub fn words(self) -> &'static str {
        match self {
            Self::AbortIncompleteUploads => "abort incomplete uploads by a lifecycle rule",
            Self::Transitions => "move objects to this storage class by a lifecycle rule",
            Self::PublicAccessBlock => "block public access to a bucket",
            Self::ObjectOwnership => "switch access control lists off",
            Self::Versioning => "keep versions",
            Self::Encryption => "encrypt a bucket by default in this way",
            Self::BucketPolicy => "take a policy on a bucket",
            Self::Roles => "make roles",
        }
    }
}

impl StorageProvider {
    /// The role that sessions are of, as the spec says it; none where nothing is vended.
    pub fn vending_role(&self) -> Option<&VendingRole> {
        let vending = self.spec.s3.as_ref()?.vending.as_ref()?;
        Some(&vending.role)
    }

    /// Whether users get credentials of it at all.
    pub fn vends(&self) -> bool {
        self.vending_role().is_some()
    }

    /// Whether this is the provider of that UID, in that generation: what was found out of another one, or under
    /// another spec, says nothing about it.
    pub fn is_still(&self, uid: &str, generation: i64) -> bool {
        self.metadata.uid.as_deref() == Some(uid) && self.metadata.generation == Some(generation)
    }

    /// What the store was found unable to do under the present spec; another one is tried again.
    pub fn lacks(&self) -> impl Iterator<Item = Capability> {
        let known = self.status.iter().flat_map(|status| &status.capabilities);
        let is_lacking = |known: &&CapabilityStatus| {
            !known.supported && Some(known.observed_generation) == self.metadata.generation
        };
        known.filter(is_lacking).map(|known| known.name)
    }
}
