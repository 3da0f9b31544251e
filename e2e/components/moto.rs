//! moto's server: the shapes of Amazon's answers, from PyPI. Only the contract suite needs it.
//!
//! Measured with moto 5.2.5: answers 1 s after its start, 90 MB resident. It checks neither keys
//! nor signatures and enforces no policy, so any key does; which account a key belongs to it tells
//! from the key's id, and keys of its own sessions belong to the account of their role.

use anyhow::Result;
use async_trait::async_trait;

use crate::component::Component;
use crate::components::python::environment;
use crate::process::Launch;
use crate::running::AccessKey;
use crate::site::Site;

/// The server.
pub struct Moto;

/// A role for sessions; one that was never made does.
pub const ROLE: &str = "arn:aws:iam::123456789012:role/hubstorage/hubstorage-vend";

/// A key of the account that [`ROLE`] is in: any.
pub fn key(user: &str) -> AccessKey {
    AccessKey {
        id: user.to_owned(),
        secret: "any".to_owned(),
    }
}

#[async_trait(?Send)]
impl Component for Moto {
    fn name(&self) -> &'static str {
        "moto"
    }

    fn ports(&self) -> &'static [&'static str] {
        &["moto"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        environment(site, self.name(), "e2e/python/moto-requirements.txt").await
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let address = site.ports.address("moto")?;
        let arguments = [
            "-m".to_owned(),
            "moto.server".to_owned(),
            format!("--host={}", address.ip()),
            format!("--port={}", address.port()),
        ];
        let home = site.checkout.run("moto").display().to_string();
        let launch = Launch::new(site.checkout.run("moto/bin/python"), arguments);
        Ok(Some(launch.with_env("HOME", home)))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        let url = format!("http://{}/moto-api/", site.ports.address("moto")?);
        crate::http::get(&url, None).await.map(drop)
    }
}
