//! How users of a hub push to GitHub.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The variables of gh-scoped-creds (4.1, `main`).
const CLIENT_ID: &str = "GH_SCOPED_CREDS_CLIENT_ID";
const APP_URL: &str = "GH_SCOPED_CREDS_APP_URL";

/// The GitHub App through which users of a hub push to their repositories with gh-scoped-creds. Neither field is
/// a secret: a device flow has none.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct GitHub {
    /// Client ID of the app, as its settings page shows it: Iv1. or Iv23 and letters. It is not the App ID,
    /// which is a number.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^Iv[A-Za-z0-9.]+$')")
        .message("clientID is that of a GitHub App, which starts with Iv, such as Iv1.0123456789abcdef; it stands on the app's settings page, beside the App ID, which is a number"))]
    pub client_id: String,
    /// The app's public page, where users install it on the repositories that they want to push to, such as
    /// https://github.com/apps/my-hub.
    #[serde(rename = "appURL")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^https://[A-Za-z0-9.-]+(/[A-Za-z0-9._~-]+)*/?$')")
        .message("appURL is the https address of the app's public page, such as https://github.com/apps/my-hub"))]
    pub app_url: String,
}

impl GitHub {
    /// What gh-scoped-creds reads in its environment.
    pub fn variables(&self) -> [(&'static str, &str); 2] {
        [(CLIENT_ID, &self.client_id), (APP_URL, &self.app_url)]
    }
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;

    use super::*;
    use crate::api::HubStorage;

    #[test]
    fn the_rule_that_keeps_its_variables_out_of_env_names_those() {
        let github = GitHub {
            client_id: "Iv1.0".to_owned(),
            app_url: "https://github.com/apps/earth".to_owned(),
        };
        let names = github.variables().map(|(name, _)| format!("'{name}'"));
        let definition = serde_json::to_string(&HubStorage::crd()).unwrap();
        let rule = format!("e.name in [{}]", names.join(", "));
        assert_eq!(definition.matches(&rule).count(), 2);
    }
}
