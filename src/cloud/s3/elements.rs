//! Notices what the SDK does not read.
//!
//! A lifecycle configuration is written back whole, and rules of others must survive that. The
//! SDK drops XML elements that it does not know, such as MinIO's `ExpiredObjectAllVersions`; so
//! their names are taken from the answer itself, and a configuration that holds one is left alone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// The elements of `LifecycleConfiguration` in the S3 API reference.
const KNOWN: &[&str] = &[
    "AbortIncompleteMultipartUpload",
    "And",
    "Date",
    "Days",
    "DaysAfterInitiation",
    "Expiration",
    "ExpiredObjectDeleteMarker",
    "Filter",
    "ID",
    "Key",
    "LifecycleConfiguration",
    "NewerNoncurrentVersions",
    "NoncurrentDays",
    "NoncurrentVersionExpiration",
    "NoncurrentVersionTransition",
    "ObjectSizeGreaterThan",
    "ObjectSizeLessThan",
    "Prefix",
    "Rule",
    "Status",
    "StorageClass",
    "Tag",
    "Transition",
    "Value",
];

/// Collects the elements of one answer that are not [`KNOWN`].
#[derive(Debug, Clone, Default)]
pub(super) struct UnknownElements(Arc<Mutex<BTreeSet<String>>>);

impl UnknownElements {
    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for UnknownElements {
    fn name(&self) -> &'static str {
        "UnknownElements"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        if answer.status().is_success()
            && let Some(body) = answer.body().bytes()
        {
            let found = unknown(&String::from_utf8_lossy(body));
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
        }
        Ok(())
    }
}

fn unknown(xml: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // Text cannot hold a bare `<` in XML, so that each one starts a tag.
    for tag in xml.split('<').skip(1) {
        let name: String = tag
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        if !name.is_empty() && !KNOWN.contains(&name.as_str()) {
            names.insert(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_that_the_sdk_would_drop_is_named() {
        let xml = r#"<?xml version="1.0"?><LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
            <Rule><ID>a</ID><Status>Enabled</Status><Filter/><Expiration><Days>3</Days>
            <ExpiredObjectAllVersions>true</ExpiredObjectAllVersions></Expiration></Rule></LifecycleConfiguration>"#;
        assert_eq!(
            unknown(xml),
            BTreeSet::from(["ExpiredObjectAllVersions".to_owned()])
        );
        assert!(unknown(&xml.replace("ExpiredObjectAllVersions", "Days")).is_empty());
    }
}
