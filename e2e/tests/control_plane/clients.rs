//! Every kind of client of a store, in a user's pod: a process each, that works with the same objects from
//! its first word to its last.
//!
//! Clients ask for new credentials before theirs end, and how long before is each one's own choice. Tried with
//! the versions of `e2e/python/*requirements.txt`, by announcing ends 3, 8, 290 and 800 seconds away; the margins
//! themselves are constants of botocore's `credentials.py`, of object_store's `TokenCache` and of
//! `AWSCredentialsProvider.h`:
//!
//! | client | asks anew | while that fails |
//! |---|---|---|
//! | botocore (boto3, aiobotocore, s3fs), 1.34 and 1.43 | from 15 minutes before the end | goes on with the old until 10 minutes before the end, then raises |
//! | object_store (obstore) | from 5 minutes before the end | tries again, ten times, and then raises |
//! | AWS SDK for C++ (pyarrow) | from 5 seconds before the end, and every 5 minutes | goes on with the old |
//! | DuckDB, with `REFRESH auto` | when the store has refused those that it has | raises what the store said |
//!
//! Nobody waits an hour for that here: [`EarlyEnd`] stands between a client and the agent, and tells the client
//! that its credentials end soon.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderValue, Request, Response, header};
use hubstorage_e2e::between::{Between, Passing};
use hubstorage_e2e::{AccessKey, Conversation, HostPod, MinioUser, Platform, Python};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::hub::Hub;

/// Sooner than any client waits: each asks anew whenever it does anything.
pub const AT_ONCE: SignedDuration = SignedDuration::from_secs(4);

/// A kind of client.
struct Kind {
    name: &'static str,
    is_old: bool,
    code: &'static str,
}

macro_rules! kind {
    ($name:literal, $file:literal, $is_old:literal) => {
        Kind {
            name: $name,
            is_old: $is_old,
            code: concat!(
                include_str!("../../python/clients/first.py"),
                include_str!(concat!("../../python/clients/", $file, ".py")),
                include_str!("../../python/clients/last.py"),
            ),
        }
    };
}

const KINDS: [Kind; 8] = [
    kind!("boto3", "boto3", false),
    kind!("boto3-old", "boto3", true),
    kind!("s3fs", "s3fs", false),
    kind!("s3fs-old", "s3fs", true),
    kind!("aiobotocore", "aiobotocore", false),
    kind!("pyarrow", "pyarrow", false),
    kind!("obstore", "obstore", false),
    kind!("duckdb", "duckdb", false),
];

/// What a session is used with.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    key: AccessKey,
    token: String,
    /// When the store refuses it, whatever clients are told.
    pub ends: Timestamp,
}

impl Session {
    /// That of an answer of agent or broker.
    fn of(answer: &Value) -> Option<Self> {
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        Some(Self {
            key: AccessKey {
                id: text("AccessKeyId")?,
                secret: text("SecretAccessKey")?,
            },
            token: text("Token")?,
            ends: text("Expiration")?.parse().ok()?,
        })
    }

    /// What the store says when it is asked with this for what `pod` has: `done`, or a code.
    pub async fn is_told(&self, pod: &HostPod) -> String {
        let code = "
import boto3, botocore.exceptions, os
bucket, prefix = os.environ['SCRATCH_BUCKET'].removeprefix('s3://').split('/', 1)
try:
    boto3.client('s3').list_objects_v2(Bucket=bucket, Prefix=prefix + '/')
    print('done')
except botocore.exceptions.ClientError as error:
    print(error.response['Error']['Code'])";
        let python = pod
            .interpreter(&Platform::load().unwrap().python())
            .unwrap();
        let session = [
            ("AWS_ACCESS_KEY_ID", &self.key.id),
            ("AWS_SECRET_ACCESS_KEY", &self.key.secret),
            ("AWS_SESSION_TOKEN", &self.token),
        ];
        python.with_env(session).run(code, &[]).await.unwrap()
    }
}

/// Passes on what the agent answers, but for the end.
struct EarlyEnd {
    agent: HeaderValue,
    left: SignedDuration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    sessions: Vec<Session>,
    refusals: usize,
}

impl Passing for EarlyEnd {
    fn request(&self, request: &mut Request<Bytes>) -> Option<Response<Bytes>> {
        // The agent answers to its own name only.
        request
            .headers_mut()
            .insert(header::HOST, self.agent.clone());
        None
    }

    fn answer(&self, answer: &mut Response<Bytes>) {
        let mut seen = self.seen.lock().unwrap();
        let mut body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let Some(session) = Session::of(&body) else {
            seen.refusals += 1;
            return;
        };
        let sooner = Timestamp::now().checked_add(self.left);
        let end = sooner.map_or(session.ends, |sooner| sooner.min(session.ends));
        body["Expiration"] = json!(end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        *answer.body_mut() = body.to_string().into();
        seen.sessions.push(session);
    }
}

/// A client at work.
pub struct Client {
    pub name: &'static str,
    conversation: Conversation,
    early_end: Arc<EarlyEnd>,
    _between: Between,
}

impl Client {
    /// One of each kind in `pod`. They are told that credentials end after `left`.
    pub async fn all(hub: &Hub, pod: &HostPod, left: SignedDuration) -> Vec<Self> {
        join_all(KINDS.iter().map(|kind| Self::start(hub, pod, left, kind))).await
    }

    async fn start(hub: &Hub, pod: &HostPod, left: SignedDuration, kind: &Kind) -> Self {
        let agent = hub.platform.ports.address("agent").unwrap();
        let early_end = Arc::new(EarlyEnd {
            agent: HeaderValue::from_str(&agent.to_string()).unwrap(),
            left,
            seen: Mutex::default(),
        });
        let between = Between::start(agent, early_end.clone()).await.unwrap();
        let url = format!("{}/v1/credentials", between.url());
        let python = hub.platform.python_of_clients(kind.is_old);
        let python = pod.interpreter(&python).unwrap();
        let python = python.with_env([("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]);
        Self {
            name: kind.name,
            conversation: python.start(kind.code, &[kind.name]).unwrap(),
            early_end,
            _between: between,
        }
    }

    /// Has it write `text` and read it back: `done`, or what went wrong.
    pub async fn write_and_read(&mut self, text: &str) -> String {
        self.conversation.ask(text).await.unwrap()
    }

    /// How often it was given credentials.
    pub fn fetched(&self) -> usize {
        self.early_end.seen.lock().unwrap().sessions.len()
    }

    /// How often it asked for some and was given none.
    pub fn refused(&self) -> usize {
        self.early_end.seen.lock().unwrap().refusals
    }

    /// The sessions that it was given, each once.
    pub fn sessions(&self) -> Vec<Session> {
        let seen = self.early_end.seen.lock().unwrap();
        let mut sessions: Vec<Session> = Vec::new();
        for session in &seen.sessions {
            if !sessions.contains(session) {
                sessions.push(session.clone());
            }
        }
        sessions
    }
}

/// Has all of them write `text` and read it back, which none of them fails to.
pub async fn all_write_and_read(clients: &mut [Client], text: &str) {
    let all = clients.iter_mut().map(async |client| {
        let said = client.write_and_read(text).await;
        (said != "done").then(|| format!("{} at {text}: {said}", client.name))
    });
    let failed: Vec<String> = join_all(all).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A hub whose sessions are issued by a user of the store that nobody else has, and so can be revoked.
pub struct Revocable {
    pub hub: Hub,
}

impl Revocable {
    /// Ready, probed, and with the keys of its own vending user in place.
    pub async fn ready(purpose: &str) -> Self {
        let hub = Hub::namespace(purpose).await;
        let user = &hub.namespace;
        let key = hub.platform.make_vending_user(user).await.unwrap();
        hub.apply(&json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": user, "namespace": "hubstorage-vending"},
            "stringData": {"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret},
        }))
        .await;
        let mut provider = hub.provider();
        provider["spec"]["s3"]["vending"]["credentials"]["secretRef"]["name"] = json!(user);
        hub.apply(&provider).await;
        hub.apply(&hub.storage()).await;
        hub.until_probed().await;
        Self { hub }
    }

    /// The store forgets every session that was issued for this hub. MinIO's client has no command for that,
    /// its administrative interface does.
    pub async fn revoke_sessions(&self) {
        let code = format!(
            "
import botocore.auth, botocore.awsrequest, botocore.httpsession
endpoint, credentials = s3.meta.endpoint_url, s3._request_signer._credentials
url = f'{{endpoint}}/minio/admin/v3/revoke-tokens/builtin?user={}&fullRevoke=true'
request = botocore.awsrequest.AWSRequest('POST', url)
botocore.auth.S3SigV4Auth(credentials, 's3', 'us-east-1').add_auth(request)
answer = botocore.httpsession.URLLib3Session().send(request.prepare())
assert answer.status_code == 204, (answer.status_code, answer.text)",
            self.hub.namespace
        );
        self.hub.as_owner(&code).await;
    }

    /// Changes what users are granted beside what they had: sessions are issued with another policy.
    pub async fn grant_more(&self, what: &str) {
        let everyone = json!([{"kind": "Everyone"}]);
        let mut storage = self.hub.storage();
        storage["spec"]["buckets"][0]["grants"] = json!([
            {"name": "own", "subjects": everyone, "scope": "UserPrefix", "permission": "ReadWrite"},
            {"name": what, "subjects": everyone, "scope": "Prefix", "prefix": format!("_shared/{what}"), "permission": "ReadOnly"},
        ]);
        self.hub.apply(&storage).await;
    }

    /// Waits until both replicas of `serve` issue sessions to `pod` that are none of these.
    pub async fn until_both_replicas_issue_others(&self, pod: &HostPod, former: &[Session]) {
        for replica in ["serve-1", "serve-2"] {
            let what = format!("{replica} to issue a session that is not revoked");
            self.hub
                .until(&what, async || {
                    let issued = Session::of(&self.asked(replica, pod).await);
                    issued.is_some_and(|session| !former.contains(&session))
                })
                .await;
        }
    }

    /// What a replica's broker answers to the agent of `pod`.
    async fn asked(&self, replica: &str, pod: &HostPod) -> Value {
        let code = "
import ssl, sys, urllib.error, urllib.request
url, token, ca = sys.argv[1:]
headers = {'Authorization': 'Bearer ' + open(token).read().strip(), 'Hubstorage-Peer': '127.0.0.1'}
request = urllib.request.Request(url, headers=headers)
try:
    answer = urllib.request.urlopen(request, context=ssl.create_default_context(cafile=ca))
except urllib.error.HTTPError as error:
    answer = error
print(answer.read().decode())";
        let platform = &self.hub.platform;
        let address = platform
            .ports
            .address(&format!("{replica}-broker"))
            .unwrap();
        let url = format!("https://{address}/v1/credentials");
        let token = pod
            .token_path("hubstorage.io")
            .unwrap()
            .display()
            .to_string();
        let ca = platform.checkout.run("broker-ca.crt").display().to_string();
        let python = Python::at(&platform.python(), &platform.checkout.run("pods"));
        let said = python.run(code, &[&url, &token, &ca]).await.unwrap();
        serde_json::from_str(&said).unwrap()
    }

    /// Removes everything, the vending user too.
    pub async fn remove(self) {
        let (platform, user) = (&self.hub.platform, &self.hub.namespace);
        let secret = ["delete", "secret", user, "-n", "hubstorage-vending"];
        self.hub.kubectl(&secret).await;
        let root = platform.minio_key(MinioUser::Root).unwrap();
        let remove = ["admin", "user", "rm", "local", user];
        let removed = platform.mc(&root, None, &remove).await.unwrap();
        assert!(removed.status.success(), "mc admin user rm");
        self.hub.remove().await;
    }
}
