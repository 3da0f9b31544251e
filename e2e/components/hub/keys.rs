//! The secrets of one hub, made at random and kept in its folder.

use std::path::Path;

use anyhow::{Context, Result};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::files;

/// The secrets. Not `Debug`, so that nothing prints them by accident.
#[derive(Serialize, Deserialize)]
pub struct Keys {
    /// Of the service `e2e`, which may do everything to users and their servers.
    pub api_token: String,
    /// Of every user, for whoever wants to look at the hub in a browser.
    pub password: String,
    /// By which the hub signs its cookies.
    pub cookie_secret: String,
    /// By which the hub shows the proxy that it is the hub.
    pub proxy_token: String,
}

impl Keys {
    /// The secrets in a hub's folder.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("keys.json");
        let text = std::fs::read(&path)
            .with_context(|| format!("no keys of the hub at {}; run `make up`", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// The same, made if there are none.
    pub fn ensure(folder: &Path) -> Result<Self> {
        if let Ok(keys) = Self::load(folder) {
            return Ok(keys);
        }
        let keys = Self {
            api_token: secret(),
            password: secret(),
            cookie_secret: secret(),
            proxy_token: secret(),
        };
        files::make_private_folder(folder)?;
        files::write_private(&folder.join("keys.json"), serde_json::to_vec_pretty(&keys)?)?;
        Ok(keys)
    }
}

/// 32 bytes in hexadecimal, which is how JupyterHub wants its cookie secret.
fn secret() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
