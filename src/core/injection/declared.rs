//! Variables that the spec declares beside those of buckets.

use serde_json::json;

use super::Recognised;
use super::pod::EnvEntry;
use crate::api::{DeclaredVariable, UserField, VariableSource};

/// What a user is given for `variable`; nothing where it says nothing, which the API server refuses, or
/// where no variable can hold it.
pub(super) fn of_user(
    variable: &DeclaredVariable,
    user: &Recognised<'_>,
) -> Option<EnvEntry<'static>> {
    let name = variable.name.as_str();
    if let Some(value) = &variable.value {
        return Some(EnvEntry::literal(name, value.clone()));
    }
    // A pod whose reference leads nowhere does not start unless the reference is optional.
    let source = match variable.value_from.as_ref()? {
        VariableSource {
            user: Some(field), ..
        } => {
            let value = match field {
                UserField::Name => literally(user.name.as_str())?,
                UserField::Prefix => user.prefix.as_str().to_owned(),
            };
            return Some(EnvEntry::literal(name, value));
        }
        VariableSource {
            config_map_key_ref: Some(of),
            ..
        } => json!({"configMapKeyRef": {"name": of.name, "key": of.key, "optional": true}}),
        VariableSource {
            secret_key_ref: Some(of),
            ..
        } => json!({"secretKeyRef": {"name": of.name, "key": of.key, "optional": true}}),
        _ => return None,
    };
    Some(EnvEntry::from(name, source))
}

/// A text that the kubelet makes this very text of again: it replaces `$(NAME)` by another variable, and
/// `$$` by `$` (k8s.io/kubernetes, third_party/forked/golang/expansion). A user may be called `$(HOME)`.
/// Nothing for one with a zero byte: no process has such a variable, and so the pod would not start.
fn literally(text: &str) -> Option<String> {
    (!text.contains('\0')).then(|| text.replace('$', "$$"))
}
