//! A hub with one user's pod, a cloud in memory, and a broker before both.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hubstorage::broker::{self, Metrics, Options, Outside, Readiness};
use hubstorage::guard::GuardState;
use hubstorage::providers::{Connect, ConnectError, ManagingSide, VendingSide};
use hubstorage::pulse::Cadence;
use hubstorage_cloud::memory::{Behaviour, Bucket, MemoryCloud};
use hubstorage_cloud::{Credential, Secret};
use hubstorage_core::api::StorageProvider;
use hubstorage_core::names::{BucketName, Username, hub_user_name};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prometheus_client::registry::Registry;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api_server::{ApiServer, ISSUER};

pub const BOBS_ADDRESS: &str = "10.1.0.7";
pub const BOBS_POD: &str = "pods/earth/jupyter-bob";
pub const HUB: &str = "hubstorages/earth/earth";

/// The provider whose store never answers.
pub const HANGING: &str = "hanging";

/// The Secret with the vending keys.
pub const SECRET: &str = "secrets/hubstorage-vending/minio-vend";

/// Connects to the cloud in memory.
#[derive(Clone)]
pub struct InMemory {
    api: ApiServer,
    cloud: MemoryCloud,
    held: Arc<watch::Sender<bool>>,
    /// The providers that were connected to, in order.
    pub asked: Arc<watch::Sender<Vec<String>>>,
}

impl InMemory {
    fn new(api: ApiServer, cloud: MemoryCloud) -> Self {
        Self {
            api,
            cloud,
            held: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// Nobody is connected before `hold(false)`.
    pub fn hold(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    /// Waits until a provider was connected to so many times.
    pub async fn was_asked(&self, provider: &str, times: usize) {
        let mut asked = self.asked.subscribe();
        let often =
            |asked: &Vec<String>| asked.iter().filter(|name| *name == provider).count() >= times;
        let waiting = tokio::time::timeout(Duration::from_secs(30), asked.wait_for(often));
        waiting.await.unwrap().unwrap();
    }
}

#[async_trait]
impl Connect for InMemory {
    async fn managing(&self, _: &StorageProvider) -> Result<ManagingSide, ConnectError> {
        let store = || Arc::new(self.cloud.store("manager"));
        Ok(ManagingSide {
            ours: store(),
            others: store(),
            roles: Arc::new(self.cloud.roles("manager")),
        })
    }

    async fn vending(&self, provider: &StorageProvider) -> Result<VendingSide, ConnectError> {
        let name = provider.metadata.name.clone().unwrap();
        self.asked.send_modify(|asked| asked.push(name.clone()));
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.unwrap();
        if name == HANGING {
            std::future::pending::<()>().await;
        }
        let secret = self.api.get(SECRET);
        let version = |secret: Value| {
            secret["metadata"]["resourceVersion"]
                .as_str()
                .map(str::to_owned)
        };
        let secret_version = secret.and_then(version);
        Ok(VendingSide {
            source: Arc::new(self.cloud.source("vendor")),
            probe: Arc::new(self.cloud.probe()),
            secret_version,
        })
    }
}

/// Signs tokens as the API server of one cluster.
pub struct Issuer {
    signing: EncodingKey,
}

impl Issuer {
    pub fn new() -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        Self {
            signing: EncodingKey::from_ec_der(&pair.serialize_der()),
        }
    }

    fn keys(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.signing, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some("key-1".to_owned());
        json!({"keys": [jwk]})
    }

    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("key-1".to_owned());
        jsonwebtoken::encode(&header, claims, &self.signing).unwrap()
    }
}

/// What the broker answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    /// Whether this was the last answer on its connection.
    pub closes: bool,
    pub body: Value,
}

impl Answer {
    fn of(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1);
        Self {
            status: status
                .and_then(|status| status.parse().ok())
                .unwrap_or_default(),
            closes: head.lines().any(|line| line == "connection: close"),
            head,
            body: serde_json::from_str(body).unwrap_or_default(),
        }
    }

    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn credential(&self) -> Credential {
        let text = |key: &str| self.body[key].as_str().unwrap().to_owned();
        Credential {
            access_key_id: text("AccessKeyId"),
            secret_access_key: Secret::new(text("SecretAccessKey")),
            session_token: Secret::new(text("Token")),
            expires: text("Expiration").parse().unwrap(),
        }
    }
}

pub struct Hub {
    pub api: ApiServer,
    pub cloud: MemoryCloud,
    pub connect: InMemory,
    pub issuer: Issuer,
    pub guard: watch::Sender<GuardState>,
    pub readiness: Readiness,
    address: SocketAddr,
    client: Arc<ClientConfig>,
    /// Cancelled: the replica is about to stop.
    pub leaving: CancellationToken,
    stop: CancellationToken,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Hub {
    /// Bob's pod runs, and whether the store holds users apart has been tried.
    pub async fn start() -> Self {
        let hub = Self::start_with(Behaviour::minio(), false).await;
        hub.api
            .wait_for(HUB, |hub| {
                hub["status"]["vending"]["buckets"][0]["verdict"] == "Isolated"
            })
            .await;
        hub
    }

    /// Without waiting for anything.
    pub async fn start_with(behaviour: Behaviour, hold_lists: bool) -> Self {
        Self::start_at(behaviour, hold_lists, Cadence::default()).await
    }

    /// Without waiting for anything, and with watches of this cadence.
    pub async fn start_at(behaviour: Behaviour, hold_lists: bool, cadence: Cadence) -> Self {
        let issuer = Issuer::new();
        let api = ApiServer::start(issuer.keys()).await;
        api.hold_lists(hold_lists);
        let cloud = MemoryCloud::new(behaviour);
        cloud.insert_by_hand(&bucket(), Bucket::new("manager", cloud.now()));
        api.put("storageproviders/minio", provider("minio"));
        api.put(SECRET, vending_keys());
        api.put(HUB, hub_of("earth", "minio"));
        api.put(
            BOBS_POD,
            pod("earth", "jupyter-bob", "uid-bob", "bob", BOBS_ADDRESS),
        );

        let (server, client) = tls();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let since = "2025-06-01T00:00:00Z".parse().unwrap();
        let (guard, guard_seen) = watch::channel(GuardState::InForce { since });
        let readiness = Readiness::default();
        let leaving = CancellationToken::new();
        let options = Options {
            client: api.client(),
            listen: address,
            tls: server,
            guard: guard_seen,
            metrics: Metrics::register(&mut Registry::default()),
            readiness: readiness.clone(),
            identity: "serve-1".to_owned(),
            leaving: leaving.clone(),
        };
        let (clock, connect) = (cloud.clone(), InMemory::new(api.clone(), cloud.clone()));
        let connector = connect.clone();
        let outside = Outside {
            connect: Box::new(|_| Arc::new(connector)),
            clock: Arc::new(move || clock.now()),
            cadence,
        };
        let stop = CancellationToken::new();
        tokio::spawn(broker::run_on(listener, options, outside, stop.clone()));
        Self {
            api,
            cloud,
            connect,
            issuer,
            guard,
            readiness,
            address,
            client,
            leaving,
            stop,
        }
    }

    /// The claims of a good token of bob's pod.
    pub fn claims(&self) -> Value {
        let now = self.cloud.now().as_second();
        json!({
            "iss": ISSUER, "aud": ["hubstorage.io"], "iat": now, "nbf": now, "exp": now + 7200,
            "sub": "system:serviceaccount:earth:default",
            "kubernetes.io": {
                "namespace": "earth",
                "pod": {"name": "jupyter-bob", "uid": "uid-bob"},
                "serviceaccount": {"name": "default", "uid": "sa-1"},
            },
        })
    }

    /// A token of this cluster with these claims.
    pub fn issue(&self, claims: &Value) -> String {
        let token = self.issuer.sign(claims);
        let bound = &claims["kubernetes.io"];
        let user = json!({
            "username": format!("system:serviceaccount:{}:default", bound["namespace"].as_str().unwrap()),
            "extra": {
                "authentication.kubernetes.io/pod-name": [bound["pod"]["name"]],
                "authentication.kubernetes.io/pod-uid": [bound["pod"]["uid"]],
            },
        });
        self.api.vouch(&token, user);
        token
    }

    pub fn bobs_token(&self) -> String {
        self.issue(&self.claims())
    }

    /// One request over TLS.
    pub async fn ask(&self, token: &str, peer: &str) -> Answer {
        let head = format!(
            "GET /v1/credentials HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\nHubstorage-Peer: {peer}\r\n\r\n"
        );
        self.send(head).await
    }

    /// One request in its bytes.
    pub async fn send(&self, head: String) -> Answer {
        Answer::of(&self.send_from(Ipv4Addr::LOCALHOST, head).await)
    }

    /// Requests in their bytes, on one connection from this address, and all that is answered.
    pub async fn send_from(&self, from: Ipv4Addr, heads: String) -> String {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        let client = self.client.clone();
        tokio::task::spawn_blocking(move || exchange(stream, client, &heads))
            .await
            .unwrap()
    }

    /// Asks as bob until the answer is `expected`: what the watches see arrives a moment later.
    pub async fn expect(&self, token: &str, expected: impl Fn(&Answer) -> bool) -> Answer {
        let asking = async {
            loop {
                let answer = self.ask(token, BOBS_ADDRESS).await;
                if expected(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), asking).await {
            Ok(answer) => answer,
            Err(_) => panic!(
                "the last answer was {:?}",
                self.ask(token, BOBS_ADDRESS).await
            ),
        }
    }

    /// Bob gets a credential.
    pub async fn vended(&self) -> Answer {
        self.expect(&self.bobs_token(), |answer| answer.status == 200)
            .await
    }

    /// Bob is refused by this name.
    pub async fn refused(&self, code: &str) -> Answer {
        self.expect(&self.bobs_token(), |answer| answer.code() == code)
            .await
    }
}

fn exchange(stream: TcpStream, client: Arc<ClientConfig>, heads: &str) -> String {
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    let name = ServerName::from("127.0.0.1".parse::<IpAddr>().unwrap());
    let connection = ClientConnection::new(client, name).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    // A server that has read enough closes while we still write: what counts is its answer.
    _ = stream
        .write_all(heads.as_bytes())
        .and_then(|()| stream.flush());
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn tls() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = issued.cert.der().clone();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // The first caller in this process decides; all are alike.
    _ = rustls::crypto::ring::default_provider().install_default();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

pub fn bucket() -> BucketName {
    BucketName::parse("earth-scratch").unwrap()
}

/// As `kubectl create secret` makes it.
fn vending_keys() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "minio-vend", "namespace": "hubstorage-vending", "uid": "secret-1"},
        "data": {"AWS_ACCESS_KEY_ID": "a2V5", "AWS_SECRET_ACCESS_KEY": "c2VjcmV0"},
    })
}

pub fn provider(name: &str) -> Value {
    let vending = json!({"type": "Secret", "secretRef": {"name": "minio-vend"}});
    json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "StorageProvider",
        "metadata": {"name": name, "uid": format!("uid-of-{name}"), "generation": 1},
        "spec": {
            "namespaces": {}, "bucketNames": ["*-scratch"],
            "s3": {
                "region": "us-east-1", "credentials": {"type": "Ambient"},
                "vending": {"credentials": vending},
            },
        },
    })
}

/// The hub of a namespace, of the same name, with one bucket.
pub fn hub_of(namespace: &str, provider: &str) -> Value {
    json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
        "metadata": {
            "name": namespace, "namespace": namespace, "uid": format!("uid-of-{namespace}"), "generation": 1,
            "creationTimestamp": "2025-01-01T00:00:00Z",
        },
        "spec": {"providerRef": {"name": provider}, "buckets": [{"name": "scratch"}]},
        "status": {"observedGeneration": 1, "buckets": [{
            "name": "scratch", "bucketName": format!("{namespace}-scratch"), "store": "Amazon S3 us-east-1",
        }]},
    })
}

pub fn pod(namespace: &str, name: &str, uid: &str, user: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "uid": uid, "creationTimestamp": "2025-12-01T00:00:00Z",
            "labels": {"component": "singleuser-server", "hub.jupyter.org/username": user},
            "annotations": {
                "hub.jupyter.org/username": user,
                "hubstorage.io/created-by": format!("system:serviceaccount:{namespace}:hub"),
            },
        },
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    })
}

/// Key and object of bob's HubUser.
pub fn hub_user(access: &str) -> (String, Value) {
    let name = hub_user_name("earth", &Username::parse("bob").unwrap());
    let object = json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubUser",
        "metadata": {"name": name, "namespace": "earth", "uid": "hub-user-1"},
        "spec": {"hubRef": {"name": "earth"}, "username": "bob", "access": access},
        "status": {"observedGeneration": 1},
    });
    (format!("hubusers/earth/{name}"), object)
}
