//! Everything that is installed into a cluster, printed by `hubstorage manifests`.
//!
//! Each object has one source, here or, for the guard, in [`crate::guard`] and for the kinds in
//! `hubstorage_core::api`; nothing else repeats them.

mod chart;
mod document;
mod namespaces;
mod rbac;
mod webhook;

use clap::Args;
use hubstorage_core::api::{self, Enforcement};
use serde_json::Value;
use url::Url;

use crate::{guard, limits};
use document::Document;

pub use chart::{Template, templates as chart_templates};
pub use namespaces::{AGENT_ACCOUNT, AGENTS, CONTROLLER_ACCOUNT, SERVE_ACCOUNT, USAGE_ACCOUNT};
pub use rbac::{CONTROLLER_LEASE, SERVE_LEASE};
pub use webhook::{
    CLAIM_PATH, CLAIM_WEBHOOK, POD_PATH, POD_WEBHOOK, SERVE_SERVICE, WEBHOOK_CONFIGURATION,
};

/// Options of `hubstorage manifests`.
#[derive(Args, Debug, Clone, Default)]
pub struct Options {
    /// Where the API server reaches the admission webhook, where that is no Service of the
    /// cluster: an https URL without path. Default: the Service hubstorage-serve in
    /// hubstorage-system.
    #[arg(long, value_name = "URL")]
    pub webhook_url: Option<Url>,
}

const HEADER: &str = "\
# Printed by `hubstorage manifests`; do not edit. To apply:
#   hubstorage manifests | kubectl apply --server-side --force-conflicts -f -
# The certificate authority of the webhook (caBundle) is left out on purpose: the controller writes it.
";

const CRD_HEADER: &str = "\
# Printed by `hubstorage crds`; do not edit.
";

/// All objects as YAML documents, in the order in which they can be applied.
///
/// # Errors
/// If `--webhook-url` is not an https URL without path, query and fragment, as the API server asks.
pub fn render(options: &Options) -> anyhow::Result<String> {
    let mut documents = Vec::new();
    for part in Part::ALL {
        documents.extend(part.documents(options)?);
    }
    document::render(HEADER, &documents)
}

/// What the operator's accounts may do: roles and their bindings.
pub(crate) fn rights() -> Vec<Value> {
    let documents = rbac::documents().into_iter();
    documents.map(Document::into_object).collect()
}

/// What belongs together of what is installed.
#[derive(Debug, Clone, Copy)]
enum Part {
    Kinds,
    Namespaces,
    Accounts,
    Rights,
    Guard,
    Homes,
    Shared,
    Webhook,
}

impl Part {
    /// In the order in which they can be applied.
    const ALL: [Self; 8] = [
        Self::Kinds,
        Self::Namespaces,
        Self::Accounts,
        Self::Rights,
        Self::Guard,
        Self::Homes,
        Self::Shared,
        Self::Webhook,
    ];

    fn documents(self, options: &Options) -> anyhow::Result<Vec<Document>> {
        Ok(match self {
            Self::Kinds => crd_documents()?,
            Self::Namespaces => namespaces::namespaces(),
            Self::Accounts => namespaces::accounts(),
            Self::Rights => rbac::documents(),
            Self::Guard => of_policies(&guard::documents()),
            Self::Homes => of_policies(&limits::homes::documents()),
            Self::Shared => {
                let both = [Enforcement::Deny, Enforcement::Audit].map(limits::shared::documents);
                of_policies(&both.concat())
            }
            Self::Webhook => vec![webhook::document(options.webhook_url.as_ref())?],
        })
    }
}

fn of_policies(documents: &[guard::Document]) -> Vec<Document> {
    let documents = documents.iter();
    let document = |part: &guard::Document| Document::new(part.purpose, part.object());
    documents.map(document).collect()
}

/// The CustomResourceDefinitions as YAML documents, as they are checked in under `crds/`.
///
/// # Errors
/// None in practice: the definitions are compiled in.
pub fn render_crds() -> anyhow::Result<String> {
    document::render(CRD_HEADER, &crd_documents()?)
}

fn crd_documents() -> anyhow::Result<Vec<Document>> {
    api::crds()
        .iter()
        .map(|crd| Ok(Document::new("", serde_json::to_value(crd)?)))
        .collect()
}
