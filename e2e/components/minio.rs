//! MinIO from its Go module: the object store, with one user that manages and one that vends.

use std::net::SocketAddr;
use std::process::Output;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::checkout::Checkout;
use crate::commands::run_with_input;
use crate::component::Component;
use crate::files;
use crate::go;
use crate::process::Launch;
use crate::running::{AccessKey, MinioUser};
use crate::site::Site;

/// The last release of each as a module. They are built apart because their
/// dependencies exclude each other.
const SERVER: (&str, &str) = (
    "github.com/minio/minio",
    "v0.0.0-20260212201848-7aac2a2c5b7c",
);
const CLIENT: (&str, &str) = ("github.com/minio/mc", "v0.0.0-20250313080218-cf909e1063a9");

/// Buckets of the example policies, as in docs/examples/minio-provider.yaml.
const EXAMPLE_BUCKETS: &str = "earth-*";

/// Buckets that stand in their place here: those of the demo, those of the tests, whose names all
/// begin alike, and one that no MinIO lets anybody make.
const BUCKETS: [&str; 3] = ["earth-*", "e2e-*", "minio"];

/// The object store.
pub struct Minio;

/// The secret keys of one `.run`, made at random. The root user is used to make the other two.
#[derive(Serialize, Deserialize)]
pub struct Keys {
    root: String,
    manage: String,
    vend: String,
    hand: String,
}

impl Keys {
    /// The keys in `.run`.
    pub fn load(checkout: &Checkout) -> Result<Self> {
        let path = checkout.run("minio/keys.json");
        let text = std::fs::read(&path).with_context(|| {
            format!(
                "no keys of MinIO at {}; run `make up`",
                checkout.display(&path)
            )
        })?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// The access key of one user.
    pub fn of(&self, user: MinioUser) -> AccessKey {
        let secret = match user {
            MinioUser::Root => &self.root,
            MinioUser::Manage => &self.manage,
            MinioUser::Vend => &self.vend,
            MinioUser::Hand => &self.hand,
        };
        AccessKey {
            id: user.name().to_owned(),
            secret: secret.clone(),
        }
    }

    /// The same; made, if there are none yet.
    pub fn ensure(checkout: &Checkout) -> Result<Self> {
        if let Ok(keys) = Self::load(checkout) {
            return Ok(keys);
        }
        let keys = Self {
            root: random_secret(),
            manage: random_secret(),
            vend: random_secret(),
            hand: random_secret(),
        };
        files::make_private_folder(&checkout.run("minio"))?;
        files::write_private(
            &checkout.run("minio/keys.json"),
            serde_json::to_vec_pretty(&keys)?,
        )?;
        Ok(keys)
    }
}

fn random_secret() -> String {
    let letters = rand::rng().sample_iter(Alphanumeric);
    letters.take(32).map(char::from).collect()
}

/// The server's version.
pub fn version() -> &'static str {
    SERVER.1
}

#[async_trait(?Send)]
impl Component for Minio {
    fn name(&self) -> &'static str {
        "minio"
    }

    fn ports(&self) -> &'static [&'static str] {
        &["minio"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        build_program(site, SERVER).await?;
        build_client(site).await
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let root = Keys::ensure(&site.checkout)?.of(MinioUser::Root);
        let data = site.checkout.run("data/minio");
        files::make_private_folder(&data)?;
        let arguments = [
            "server".to_owned(),
            "--quiet".to_owned(),
            format!("--address={}", site.ports.address("minio")?),
            format!(
                "--certs-dir={}",
                site.checkout.run("minio/no-certs").display()
            ),
            data.display().to_string(),
        ];
        let launch = Launch::new(site.checkout.run("bin/minio"), arguments)
            .with_env("MINIO_ROOT_USER", root.id)
            .with_env("MINIO_ROOT_PASSWORD", root.secret)
            .with_env("MINIO_BROWSER", "off")
            .with_env("MINIO_UPDATE", "off")
            .with_env("HOME", site.checkout.run("minio").display().to_string());
        Ok(Some(launch))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        let url = format!("http://{}/minio/health/ready", site.ports.address("minio")?);
        crate::http::get(&url, None).await.map(drop)
    }

    async fn furnish(&self, site: &Site) -> Result<()> {
        make_users(site).await
    }
}

/// Builds `mc`.
pub async fn build_client(site: &Site) -> Result<()> {
    build_program(site, CLIENT).await
}

async fn build_program(site: &Site, (module, version): (&str, &str)) -> Result<()> {
    let name = module.rsplit('/').next().unwrap_or(module);
    let key = go::key()
        .await?
        .with("ldflags", go::LDFLAGS)
        .with(module, version);
    let package = format!("{module}@{version}");
    let flags = ["-ldflags", go::LDFLAGS];
    let folder = go::installed(site, name, key, &flags, &[package]).await?;
    site.link(&format!("bin/{name}"), &folder.join(name))
}

/// Makes the two users that are the operator's, and the one of the tests.
pub async fn make_users(site: &Site) -> Result<()> {
    let keys = Keys::load(&site.checkout)?;
    let (checkout, address) = (&site.checkout, site.ports.address("minio")?);
    for user in [MinioUser::Manage, MinioUser::Vend] {
        let key = keys.of(user);
        make_policy(site, &key.id).await?;
        make_user(checkout, address, &key, &key.id).await?;
    }
    // One of MinIO's own policies: everything that is no administration.
    make_user(checkout, address, &keys.of(MinioUser::Hand), "readwrite").await
}

/// Makes one more vending user, with the policy of the operator's and a key of its own.
pub async fn make_vending_user(
    checkout: &Checkout,
    address: SocketAddr,
    name: &str,
) -> Result<AccessKey> {
    let key = AccessKey {
        id: name.to_owned(),
        secret: random_secret(),
    };
    make_user(checkout, address, &key, MinioUser::Vend.name()).await?;
    Ok(key)
}

/// Makes the policy of an operator's user, with its name: the example's, for the buckets of this
/// platform.
async fn make_policy(site: &Site, name: &str) -> Result<()> {
    let role = name.trim_start_matches("hubstorage-");
    let example = format!("docs/examples/minio-{role}-policy.json");
    let text = std::fs::read_to_string(site.checkout.path(&example)).context(example.clone())?;
    let policy = site.checkout.run(&format!("minio/{role}-policy.json"));
    files::write_private(&policy, for_buckets(&text, &BUCKETS).context(example)?)?;
    let policy = policy.display().to_string();
    let create = ["admin", "policy", "create", "local", name, &policy];
    let address = site.ports.address("minio")?;
    succeed(
        mc(&site.checkout, address, &create, "").await?,
        "policy create",
    )
}

/// Makes a user who may do what the policy allows.
async fn make_user(
    checkout: &Checkout,
    address: SocketAddr,
    key: &AccessKey,
    policy: &str,
) -> Result<()> {
    // Access key and secret go to its standard input, as arguments can be seen by everybody.
    let input = format!("{}\n{}\n", key.id, key.secret);
    let add = ["admin", "user", "add", "local"];
    succeed(mc(checkout, address, &add, &input).await?, "user add")?;
    let name = key.id.as_str();
    let attach = ["admin", "policy", "attach", "local", policy, "--user", name];
    let attach = mc(checkout, address, &attach, "").await?;
    // What it answers when the policy is attached already.
    if said(&attach).contains("already in effect") {
        return Ok(());
    }
    succeed(attach, "policy attach")
}

/// The policy with `buckets` wherever it names those of the example, and otherwise as it is.
fn for_buckets(policy: &str, buckets: &[&str]) -> Result<String> {
    let mut policy: Value = serde_json::from_str(policy)?;
    let statements = policy["Statement"].as_array_mut();
    for statement in statements.context("it has no statements")? {
        let Some(resources) = statement.get_mut("Resource").and_then(Value::as_array_mut) else {
            continue;
        };
        *resources = resources
            .iter()
            .filter_map(Value::as_str)
            .flat_map(|resource| match resource.contains(EXAMPLE_BUCKETS) {
                true => buckets
                    .iter()
                    .map(|bucket| json!(resource.replace(EXAMPLE_BUCKETS, bucket)))
                    .collect(),
                false => vec![json!(resource)],
            })
            .collect();
    }
    Ok(serde_json::to_string(&policy)?)
}

/// Runs the client as the root user of the store it calls `local`.
async fn mc(
    checkout: &Checkout,
    address: SocketAddr,
    arguments: &[&str],
    input: &str,
) -> Result<Output> {
    let root = Keys::load(checkout)?.of(MinioUser::Root);
    client(checkout, address, &root, None, arguments, input).await
}

/// Runs the client with a key, or with a session's, for the store it calls `local`. The key is in
/// its environment, not on its command line.
pub async fn client(
    checkout: &Checkout,
    address: SocketAddr,
    key: &AccessKey,
    session_token: Option<&str>,
    arguments: &[&str],
    input: &str,
) -> Result<Output> {
    let host = host_variable(address, key, session_token);
    let mut command = Command::new(checkout.run("bin/mc"));
    command
        .env_clear()
        // It looks for a home even when it is told where its configuration is.
        .env("HOME", checkout.run("minio"))
        .env("MC_CONFIG_DIR", checkout.run("minio/mc"))
        .env("MC_HOST_local", host)
        .arg("--quiet")
        .args(arguments);
    run_with_input(command, input.as_bytes()).await
}

/// What the client is told in `MC_HOST_<name>` of a store.
pub fn host_variable(address: SocketAddr, key: &AccessKey, session_token: Option<&str>) -> String {
    let session = session_token
        .map(|token| format!(":{token}"))
        .unwrap_or_default();
    format!("http://{}:{}{session}@{address}", key.id, key.secret)
}

fn said(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    format!("{} {}", out.trim(), err.trim())
}

fn succeed(output: Output, action: &str) -> Result<()> {
    if !output.status.success() {
        bail!("mc admin {action}: {}", said(&output));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_buckets_of_the_example_are_replaced() {
        let example = json!({"Statement": [
            {"Action": ["a"], "Resource": ["arn:aws:s3:::earth-*/*", "arn:aws:s3:::*"]},
            {"Action": ["b"]},
        ]});

        let policy = for_buckets(&example.to_string(), &["x-*", "y"]).unwrap();

        let read: Value = serde_json::from_str(&policy).unwrap();
        let resources = ["arn:aws:s3:::x-*/*", "arn:aws:s3:::y/*", "arn:aws:s3:::*"];
        assert_eq!(read["Statement"][0]["Resource"], json!(resources));
        assert_eq!(read["Statement"][1], example["Statement"][1]);
    }
}
