//! Which pods are users' pods, and by whose word.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

use crate::api::{HubStorage, USERNAME_LABEL, UserContainer};

/// What dask-kubernetes' operator puts on every pod that it makes, after what the user wrote.
pub const DASK_KUBERNETES_LABEL: &str = "dask.org/cluster-name";

/// One kind of user pod, ready to be compared with.
#[derive(Debug, Clone)]
pub struct UserPods {
    name: String,
    selector: Selector,
    creators: Vec<String>,
    container: Option<UserContainer>,
    depends_on: Option<String>,
}

/// A selector that no pod can be compared with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.users.sources[{source_name}].podSelector is not valid: {cause}")]
pub struct InvalidSelector {
    source_name: String,
    cause: String,
}

impl UserPods {
    /// The kinds of user pods of a hub.
    ///
    /// # Errors
    /// [`InvalidSelector`] names the source whose selector has an unknown operator.
    pub fn of(hub: &HubStorage, namespace: &str) -> Result<Vec<Self>, InvalidSelector> {
        hub.spec
            .users
            .sources
            .iter()
            .map(|source| {
                Ok(Self {
                    name: source.name.clone(),
                    selector: selector(&source.name, &source.pod_selector)?,
                    creators: source
                        .creators
                        .iter()
                        .map(|creator| creator.username(namespace))
                        .collect(),
                    container: source.container.clone(),
                    depends_on: source.depends_on.as_ref().map(|other| other.name.clone()),
                })
            })
            .collect()
    }

    /// The source by which the username on a pod is taken for true: one that selects its labels
    /// and trusts the account that made it. Sources may overlap, so the first that selects is
    /// not always the one.
    pub fn trusting<'s>(
        sources: &'s [Self],
        labels: &BTreeMap<String, String>,
        account: &str,
    ) -> Option<&'s Self> {
        sources
            .iter()
            .find(|source| source.selects(labels) && source.trusts(account))
    }

    /// The source's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which container runs the user's code, if that is declared.
    pub fn container(&self) -> Option<&UserContainer> {
        self.container.as_ref()
    }

    /// The source without a running pod of which the same user's pods of this one get nothing.
    pub fn depends_on(&self) -> Option<&str> {
        self.depends_on.as_deref()
    }

    /// Whether a pod with these labels is of this kind. One without the label
    /// [`USERNAME_LABEL`] is of none: pods are watched by it, and what nobody sees is given nothing.
    /// Neither is one that is [`WrittenByUser`].
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.contains_key(USERNAME_LABEL)
            && WrittenByUser::refuse(labels).is_ok()
            && self.selector.matches(labels)
    }

    /// Whether the word of `account` is taken for the username on such a pod.
    pub fn trusts(&self, account: &str) -> bool {
        self.creators.iter().any(|creator| creator == account)
    }
}

fn selector(source: &str, selector: &LabelSelector) -> Result<Selector, InvalidSelector> {
    Selector::try_from(selector.clone()).map_err(|error| InvalidSelector {
        source_name: source.to_owned(),
        cause: error.to_string(),
    })
}

/// A pod that an account makes just as a user wrote it: what it says of its user is whatever they like,
/// and which account made it tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "label {DASK_KUBERNETES_LABEL} tells that dask-kubernetes made this pod from a template that users write \
     themselves, annotations included, so that nothing on it shows whose it is; use Dask Gateway, which asks the hub"
)]
pub struct WrittenByUser;

impl WrittenByUser {
    /// Refuses such a pod, whatever source selects it.
    ///
    /// # Errors
    /// [`WrittenByUser`], if these are the labels of one.
    pub fn refuse(labels: &BTreeMap<String, String>) -> Result<(), Self> {
        match labels.contains_key(DASK_KUBERNETES_LABEL) {
            true => Err(Self),
            false => Ok(()),
        }
    }
}
