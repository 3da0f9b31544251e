//! Environment variables of user pods.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An environment variable that holds the location of what a user reaches in a bucket.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LocationVariable {
    /// Name of the variable, for example SCRATCH_BUCKET.
    #[schemars(length(min = 1, max = 128), pattern(r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    #[x_kube(validation = Rule::new("!self.startsWith('AWS_')").message("names that start with AWS_ configure the SDKs and are set by the operator"))]
    pub name: String,
    /// URL: s3://bucket/prefix. URLWithSlash: the same with a closing slash, for code that
    /// joins by hand.
    #[serde(default)]
    pub format: EnvFormat,
    /// Keep: a value that the hub itself gives the pod stands. Replace: ours does.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

/// Form of a location.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EnvFormat {
    /// `s3://bucket/prefix`
    #[default]
    URL,
    /// `s3://bucket/prefix/`
    URLWithSlash,
}

/// What happens when the pod already has the variable.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnConflict {
    /// The pod's value stands.
    #[default]
    Keep,
    /// Ours replaces it.
    Replace,
}

/// An environment variable of every user pod.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.valueFrom)")
    .message("exactly one of value and valueFrom says what the variable holds"))]
pub struct DeclaredVariable {
    /// Name of the variable, for example STAC_URL.
    #[schemars(length(min = 1, max = 128), pattern(r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    #[x_kube(validation = Rule::new("self != 'BOTO_CONFIG' && (!self.startsWith('AWS_') || self in ['AWS_CA_BUNDLE', 'AWS_MAX_ATTEMPTS', 'AWS_REQUEST_PAYER', 'AWS_RETRY_MODE'])")
        .message("by this name SDKs find the store or credentials, which the operator gives them; of the names that start with AWS_ only AWS_CA_BUNDLE, AWS_MAX_ATTEMPTS, AWS_REQUEST_PAYER and AWS_RETRY_MODE are taken"))]
    pub name: String,
    /// The value itself. As in a pod, $(NAME) is replaced by the variable NAME that stands before it, and $$ is $.
    /// Whoever may read a pod reads it: it is no place for secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096), pattern(r"^[^\x00]*$"))]
    pub value: Option<String>,
    /// Where the value stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<VariableSource>,
    /// Keep: an entry that stands in the pod's env already stays. Replace: ours takes its place. What a pod has
    /// from envFrom or from its image stands behind either.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

/// Where the value of a variable stands: one of these.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.configMapKeyRef) ? 1 : 0) + (has(self.secretKeyRef) ? 1 : 0) + (has(self.user) ? 1 : 0) == 1")
    .message("exactly one of configMapKeyRef, secretKeyRef and user says where the value stands"))]
pub struct VariableSource {
    /// A key of a ConfigMap of the hub's namespace. The pod refers to it, and starts without the variable where
    /// it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
    /// A key of a Secret of the hub's namespace, for what every user may know. The pod refers to it, and starts
    /// without the variable where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,
    /// Something of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserField>,
}

/// A key of a ConfigMap or Secret.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct KeyReference {
    /// Name of the object.
    #[schemars(
        length(min = 1, max = 253),
        pattern(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Key in it.
    #[schemars(length(min = 1, max = 253), pattern(r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// What is known of a user.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UserField {
    /// The username as JupyterHub knows it: any text that the hub lets in.
    Name,
    /// The user's key prefix in every bucket of the hub.
    Prefix,
}
