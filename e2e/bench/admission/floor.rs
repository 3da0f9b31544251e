//! The least that a webhook can do: it answers every review with the same patch, unread. It takes the way
//! that HubStorage's takes, through a forwarder to a process of its own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hubstorage_e2e::components::operator::program;
use hubstorage_e2e::{Platform, files, http as plain_http, wait};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::process::{Child, Command};
use tokio_rustls::TlsAcceptor;

use super::super::load::NAME;
use super::Webhook;

/// HubStorage's registration.
const OURS: &str = "hubstorage";

/// Every namespace has it, with its name (well-known labels of Kubernetes).
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// Bounds a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the process is given.
#[derive(clap::Args, Debug, Clone)]
pub struct Options {
    /// Where it answers
    #[arg(long)]
    listen: SocketAddr,
    /// Folder with `certificate.pem`, `key.pem`, and `patch`: what it answers, in base64
    #[arg(long)]
    folder: PathBuf,
}

/// Answers reviews until the process is ended.
pub async fn serve(options: Options) -> Result<()> {
    let Options { listen, folder } = options;
    let certificate = CertificateDer::from_pem_file(folder.join("certificate.pem"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
    let patch: Arc<str> = std::fs::read_to_string(folder.join("patch"))?.into();
    let provider = rustls::crypto::ring::default_provider();
    let tls = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let tls = TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (tls, patch) = (tls.clone(), patch.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, patch.clone()));
            let stream = TokioIo::new(tls.accept(stream).await?);
            http1::Builder::new()
                .serve_connection(stream, answer)
                .await?;
            anyhow::Ok(())
        });
    }
}

async fn answer(request: Request<Incoming>, patch: Arc<str>) -> Result<Response<Full<Bytes>>> {
    let review = request.into_body().collect().await?.to_bytes();
    let mut response = Response::new(Full::from(answer_to(&review, &patch)?));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

/// The review's UID comes first in it (`AdmissionRequest` of k8s.io/api): the rest is not looked at.
fn answer_to(review: &[u8], patch: &str) -> Result<String> {
    let begin = &review[..review.len().min(512)];
    let begin = String::from_utf8_lossy(begin);
    let (_, uid) = begin
        .split_once(r#""uid":""#)
        .context("a review without UID")?;
    let (uid, _) = uid.split_once('"').context("a review with half a UID")?;
    Ok(format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{{"uid":"{uid}","allowed":true,"patchType":"JSONPatch","patch":"{patch}"}}}}"#
    ))
}

/// The process, its forwarder, and its registration.
pub struct Floor {
    /// Ended when this is dropped.
    _processes: [Child; 2],
}

impl Floor {
    /// Starts it, and has the API server call it for its namespace.
    pub async fn start(platform: &Platform, client: &Client, patch: String) -> Result<Self> {
        let folder = platform.checkout.run("floor");
        files::make_private_folder(&folder)?;
        let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
        let certificate = made.cert.pem();
        files::write_private(&folder.join("certificate.pem"), &certificate)?;
        files::write_private(&folder.join("key.pem"), made.signing_key.serialize_pem())?;
        files::write_private(&folder.join("patch"), patch)?;

        let [floor, forwarder] = [free_address()?, free_address()?];
        let listen = format!("--listen={floor}");
        let shown = format!("--folder={}", folder.display());
        let this = Path::new("/proc/self/exe");
        let floor_process = spawn(platform, "floor", this, &["floor", &listen, &shown])?;
        // The very program that is before HubStorage's.
        let route = format!("--route={forwarder}={floor}");
        let before_ours = program(&platform.checkout, "e2e");
        let arguments = ["forward", route.as_str()];
        let forwarder_process = spawn(platform, "floor-forwarder", &before_ours, &arguments)?;
        wait::until("the floor to accept connections", PATIENCE, async || {
            Ok(plain_http::accepts(floor).await.is_ok()
                && plain_http::accepts(forwarder).await.is_ok())
        })
        .await?;
        register(client, forwarder, certificate).await?;
        Ok(Self {
            _processes: [floor_process, forwarder_process],
        })
    }

    /// Takes its registration away, and ends it.
    pub async fn stop(self, client: &Client) -> Result<()> {
        unregister(client).await
    }
}

fn spawn(platform: &Platform, name: &str, program: &Path, arguments: &[&str]) -> Result<Child> {
    // The forwarder tells of every connection that is cut off, as are those of a registration's end.
    let log = File::create(platform.checkout.log(name))?;
    Command::new(program)
        .args(arguments)
        .env_clear()
        .current_dir(platform.checkout.root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("could not run {}", program.display()))
}

/// One that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// HubStorage's registration with other names, another URL, and for one namespace.
async fn register(client: &Client, address: SocketAddr, certificate: String) -> Result<()> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let mut configuration = configurations.get(OURS).await?;
    configuration.metadata = kube::core::ObjectMeta {
        name: Some(NAME.to_owned()),
        ..Default::default()
    };
    for webhook in configuration.webhooks.iter_mut().flatten() {
        webhook.name = format!("{NAME}.hubstorage.io");
        webhook.client_config.url = Some(format!("https://{address}/"));
        webhook.client_config.ca_bundle = Some(ByteString(certificate.clone().into_bytes()));
        webhook.namespace_selector = Some(LabelSelector {
            match_labels: Some([(NAMESPACE_LABEL.to_owned(), Webhook::Floor.namespace())].into()),
            match_expressions: None,
        });
    }
    configurations
        .create(&PostParams::default(), &configuration)
        .await?;
    Ok(())
}

/// Keeps HubStorage's webhook from namespaces of the bench. [`unregister`] undoes it, and so does every
/// `up`, which applies all manifests.
pub async fn keep_ours_out(client: &Client, namespaces: &[String]) -> Result<()> {
    change_ours(client, |expressions| {
        expressions.push(LabelSelectorRequirement {
            key: NAMESPACE_LABEL.to_owned(),
            operator: "NotIn".to_owned(),
            values: Some(namespaces.to_vec()),
        });
        true
    })
    .await
}

/// Removes the floor's registration, and lets HubStorage's have all namespaces again.
pub async fn unregister(client: &Client) -> Result<()> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    match configurations.delete(NAME, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => other.map(drop)?,
    }
    change_ours(client, |expressions| {
        let before = expressions.len();
        expressions.retain(|expression| !is_ours(expression));
        expressions.len() != before
    })
    .await
}

/// Whether an expression was put there by [`keep_ours_out`].
fn is_ours(expression: &LabelSelectorRequirement) -> bool {
    let mut values = expression.values.iter().flatten();
    values.any(|namespace| namespace.starts_with(NAME))
}

/// Changes which namespaces HubStorage's webhook is called for, if `change` says that it did.
async fn change_ours(
    client: &Client,
    change: impl Fn(&mut Vec<LabelSelectorRequirement>) -> bool,
) -> Result<()> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let mut ours = configurations.get(OURS).await?;
    let mut is_changed = false;
    for webhook in ours.webhooks.iter_mut().flatten() {
        let selector = webhook.namespace_selector.get_or_insert_default();
        is_changed |= change(selector.match_expressions.get_or_insert_default());
    }
    if is_changed {
        configurations
            .replace(OURS, &PostParams::default(), &ours)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_names_the_review_and_holds_the_patch_as_it_is() {
        let review = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"7-a","object":{"uid":"x"}}}"#;
        let answer = answer_to(review, "W10=").unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["response"]["uid"], "7-a");
        assert_eq!(answer["response"]["patch"], "W10=");
        assert!(answer_to(b"{}", "W10=").is_err());
    }

    #[test]
    fn only_what_the_bench_has_put_there_is_taken_away() {
        let expression = |namespace: &str| LabelSelectorRequirement {
            key: NAMESPACE_LABEL.to_owned(),
            operator: "NotIn".to_owned(),
            values: Some(vec![namespace.to_owned()]),
        };
        assert!(is_ours(&expression("e2e-bench-none")));
        assert!(!is_ours(&expression("kube-system")));
    }
}
