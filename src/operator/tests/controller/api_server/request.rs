//! What a request asks for.

use std::fmt;

use http::Method;
use http::request::Parts;
use serde_json::Value;

use super::state::Key;

/// A request, taken apart.
#[derive(Debug)]
pub struct Asked {
    pub method: Method,
    pub key: Key,
    pub api_version: String,
    /// Whether it is about the status subresource.
    pub status: bool,
    /// Whether it wants the answer as metadata only.
    pub metadata_only: bool,
    pub patch: Option<PatchType>,
    pub field_manager: Option<String>,
    /// Labels of what a list is to hold; `key` alone, or `key=value`.
    pub label_selector: Option<String>,
    pub force: bool,
    pub body: Value,
    /// What could not be taken apart.
    pub unknown: Option<String>,
}

/// How a patch is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    Apply,
    Merge,
}

impl Asked {
    pub fn parse(parts: &Parts, body: &[u8]) -> Self {
        let header = |name: &str| {
            let value = parts.headers.get(name);
            value
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let (group_version, rest) = match path.as_slice() {
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            _ => (String::new(), &[][..]),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
                (Some((*namespace).to_owned()), rest)
            }
            rest => (None, rest),
        };
        let mut unknown = None;
        let (plural, name, status) = match rest {
            [plural] => (*plural, "", false),
            [plural, name] => (*plural, *name, false),
            [plural, name, "status"] => (*plural, *name, true),
            _ => {
                unknown = Some(parts.uri.path().to_owned());
                ("", "", false)
            }
        };
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let parameter = |wanted: &str| {
            let found = query.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        let patch = match header("content-type") {
            "application/apply-patch+yaml" => Some(PatchType::Apply),
            "application/merge-patch+json" => Some(PatchType::Merge),
            _ => None,
        };
        if parts.method == Method::PATCH && patch.is_none() {
            unknown = Some(format!("a patch of type {:?}", header("content-type")));
        }
        Self {
            method: parts.method.clone(),
            key: Key {
                plural: plural.to_owned(),
                namespace,
                name: name.to_owned(),
            },
            api_version: group_version,
            status,
            metadata_only: header("accept").contains("as=PartialObjectMetadata"),
            patch,
            field_manager: parameter("fieldManager"),
            label_selector: parameter("labelSelector"),
            force: parameter("force").as_deref() == Some("true"),
            body: serde_json::from_slice(body).unwrap_or(Value::Null),
            unknown,
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subresource = if self.status { "/status" } else { "" };
        write!(f, "{} {}{subresource}", self.method, self.key)?;
        match &self.field_manager {
            Some(manager) => write!(f, " by {manager}"),
            None => Ok(()),
        }
    }
}
