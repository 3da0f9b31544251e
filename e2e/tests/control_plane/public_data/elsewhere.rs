//! Storage that is not the hub's: a MinIO of one test, which stands for Amazon's and for others'.
//!
//! It is reached in two ways. Code that names an address has it translated, like every other address of
//! these tests. Code that names none asks Amazon's own hosts: those requests go through a proxy, which takes
//! them with a certificate for Amazon's names to the same MinIO.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hubstorage_e2e::{AccessKey, Platform, Python, http, wait};
use rand::RngExt as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Where it is, as Amazon has it.
pub const REGION: &str = "us-west-2";

/// Amazon's host for that, and so the end of the hosts of its buckets.
pub const HOST: &str = "s3.us-west-2.amazonaws.com";

/// Bounds a hang; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The store, and the way to it by Amazon's names, until it is dropped.
pub struct Elsewhere {
    platform: Platform,
    address: SocketAddr,
    key: AccessKey,
    proxy: SocketAddr,
    ca: PathBuf,
    folder: TempDir,
    accepting: AbortHandle,
    _minio: Child,
}

impl Elsewhere {
    /// Starts it, with a public bucket `mur-sst` and a private one, `private`.
    pub async fn start() -> Self {
        let platform = Platform::load().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let secret: u128 = rand::rng().random();
        let key = AccessKey {
            id: "somebody".to_owned(),
            secret: format!("{secret:032x}"),
        };
        let address = free_port().await;
        let minio = Command::new(platform.checkout.run("bin/minio"))
            .args(["server", "--quiet", "--address", &address.to_string()])
            .arg("--certs-dir")
            .arg(folder.path().join("no-certs"))
            .arg(folder.path().join("data"))
            .env_clear()
            .env("HOME", folder.path())
            .env("MINIO_ROOT_USER", &key.id)
            .env("MINIO_ROOT_PASSWORD", &key.secret)
            .env("MINIO_SITE_REGION", REGION)
            .env("MINIO_DOMAIN", HOST)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let health = format!("http://{address}/minio/health/ready");
        let ready = async || Ok(http::get(&health, None).await.is_ok());
        wait::until("the other store", PATIENCE, ready)
            .await
            .unwrap();

        let (authority, acceptor) = certified();
        let ca = folder.path().join("ca.crt");
        std::fs::write(&ca, authority).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let accepting = tokio::spawn(accept(listener, acceptor, address)).abort_handle();
        let elsewhere = Self {
            platform,
            address,
            key,
            proxy,
            ca,
            folder,
            accepting,
            _minio: minio,
        };
        elsewhere.fill().await;
        elsewhere
    }

    async fn fill(&self) {
        let code = "
import boto3, json, xarray
s3 = boto3.client('s3')
for bucket in 'mur-sst', 'private':
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={'LocationConstraint': 'us-west-2'})
s3.put_bucket_policy(Bucket='mur-sst', Policy=json.dumps({'Version': '2012-10-17', 'Statement': [{
    'Effect': 'Allow', 'Principal': '*', 'Action': ['s3:GetObject', 's3:ListBucket', 's3:GetBucketLocation'],
    'Resource': ['arn:aws:s3:::mur-sst', 'arn:aws:s3:::mur-sst/*']}]}))
s3.put_object(Bucket='mur-sst', Key='table.csv', Body=b'depth,temperature\\n10,18.5\\n')
warm = xarray.Dataset({'analysed_sst': ('time', [18.0, 18.5])})
warm.to_zarr('s3://mur-sst/zarr', zarr_format=2)
import numpy, rasterio
with rasterio.MemoryFile() as file:
    with file.open(driver='GTiff', width=1, height=1, count=1, dtype='uint8') as image:
        image.write(numpy.array([[[10]]], 'uint8'))
    s3.put_object(Bucket='mur-sst', Key='depth.tif', Body=file.read())";
        self.as_owner(code).await;
    }

    /// Python with the store's own key; gives what it printed.
    pub async fn as_owner(&self, code: &str) -> String {
        let url = self.url();
        let env = [
            ("AWS_ACCESS_KEY_ID", self.key.id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", &self.key.secret),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ENDPOINT_URL_S3", &url),
        ];
        let python = self.platform.python_of_clients(false);
        let python = Python::at(&python, self.folder.path()).with_env(env);
        python.run(code, &[]).await.unwrap()
    }

    /// Its address on this machine.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What belongs in an example in the place of Amazon's addresses, and of a key.
    pub fn translate(&self, example: &str) -> String {
        let (url, address) = (self.url(), self.address);
        let gdal = format!("\"{HOST}\", \"AWS_HTTPS\": \"YES\", \"AWS_VIRTUAL_HOSTING\": \"TRUE\"");
        let duckdb = format!("ENDPOINT '{address}', URL_STYLE path, USE_SSL false");
        example
            .replace(&format!("https://{HOST}"), &url)
            .replace("https://s3.us-east-2.wasabisys.com", &url)
            .replace(&format!("ENDPOINT '{HOST}'"), &duckdb)
            .replace(
                &gdal,
                &format!(
                    "\"{address}\", \"AWS_HTTPS\": \"NO\", \"AWS_VIRTUAL_HOSTING\": \"FALSE\""
                ),
            )
            .replace("<YOUR_CLIENT_KEY>", &self.key.id)
            .replace("<YOUR_CLIENT_SECRET>", &self.key.secret)
    }

    /// Variables by which botocore asks for Amazon's hosts here.
    pub fn as_amazon(&self) -> [(&'static str, String); 2] {
        [
            ("HTTPS_PROXY", format!("http://{}", self.proxy)),
            ("AWS_CA_BUNDLE", self.ca.display().to_string()),
        ]
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// An authority, and what accepts TLS for Amazon's names with its certificate.
fn certified() -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Another name than the certificate's own, which would pass for one that has signed itself.
    params
        .distinguished_name
        .push(DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec![HOST.to_owned(), format!("*.{HOST}")];
    let leaf = CertificateParams::new(names).unwrap();
    let leaf: CertificateDer<'static> = leaf.signed_by(&key, &authority).unwrap().into();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (authority.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// A proxy that takes every connection to the store. A name that the certificate is not for is refused by
/// whoever asked for it.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, store: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(pass(stream, acceptor.clone(), store));
    }
}

async fn pass(
    mut stream: TcpStream,
    acceptor: TlsAcceptor,
    store: SocketAddr,
) -> std::io::Result<()> {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(stream.read_u8().await?);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let mut stream = acceptor.accept(stream).await?;
    let mut store = TcpStream::connect(store).await?;
    copy_bidirectional(&mut stream, &mut store).await.map(drop)
}
