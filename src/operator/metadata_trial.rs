//! `hubstorage try-metadata-service`: what runs in a trial pod. It asks the metadata service as a user of the
//! pod could, for credentials of the node, and says in the pod's status what came of it. Credentials are
//! asked for only where no question short of that tells whether there are any; none is kept or printed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};

/// The name of this role on the command line.
pub const COMMAND: &str = "try-metadata-service";

/// Where Amazon, Google, Azure and others answer; the second is Amazon's on IPv6.
const ADDRESSES: [&str; 2] = ["169.254.169.254", "[fd00:ec2::254]"];

/// A metadata service is on the node or one hop away: what does not answer by then never will. Where the hop
/// limit of IMDSv2 keeps an answer from the pod, the connection comes about and the answer does not.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// More of an answer is not read.
const LONGEST_ANSWER: usize = 16 * 1024;

/// Longest name of an identity that is told.
const LONGEST_NAME: usize = 200;

/// Options of `hubstorage try-metadata-service`.
#[derive(Args, Debug)]
pub struct Options {
    /// Where the kubelet reads what the pod's status says of its end.
    #[arg(long, default_value = "/dev/termination-log")]
    termination_log: PathBuf,
}

/// What came of it; the words are the same as long as nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// No credentials.
    GivesNothing {
        /// How that is known.
        how: String,
    },
    /// Credentials.
    Gives {
        /// Whose.
        what: String,
    },
}

/// Asks, and writes the outcome to the termination log; returns it as a line for the pod's own log.
///
/// # Errors
/// If the outcome cannot be written.
pub async fn run(options: &Options) -> anyhow::Result<String> {
    let outcome = try_all(&ADDRESSES).await;
    let told = serde_json::to_string(&outcome)?;
    std::fs::write(&options.termination_log, &told)
        .with_context(|| format!("{} cannot be written", options.termination_log.display()))?;
    Ok(format!("{told}\n"))
}

async fn try_all(addresses: &[&str]) -> Outcome {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut answering = Vec::new();
    for address in addresses {
        let service = Service {
            client: &client,
            address,
        };
        if let Some(what) = service.credentials().await {
            return Outcome::Gives { what };
        }
        if service.answers().await {
            answering.push(*address);
        }
    }
    let how = match answering.as_slice() {
        [] => format!(
            "nothing answers a pod with the labels of a user's at {}",
            addresses.join(" and ")
        ),
        answering => format!(
            "the metadata service at {} gives no credentials to a pod with the labels of a user's",
            answering.join(" and ")
        ),
    };
    Outcome::GivesNothing { how }
}

struct Service<'c> {
    client: &'c Client<HttpConnector, Empty<Bytes>>,
    address: &'c str,
}

impl Service<'_> {
    /// Whose credentials it gives, if any.
    async fn credentials(&self) -> Option<String> {
        // One after the other: what answers none of them costs a few seconds once.
        if let Some(role) = self.amazons().await {
            return Some(format!("on Amazon EC2, the credentials of role {role}"));
        }
        if let Some(account) = self.googles().await {
            return Some(format!(
                "on Google Cloud, the credentials of service account {account}"
            ));
        }
        self.azures()
            .await
            .then(|| "on Azure, a token of a managed identity".to_owned())
    }

    async fn answers(&self) -> bool {
        self.ask(Method::GET, "/", &[]).await.is_some()
    }

    /// By IMDSv2, or by IMDSv1 where no session comes about: whoever may list roles gets their credentials.
    async fn amazons(&self) -> Option<String> {
        let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
        let session = self.ask(Method::PUT, "/latest/api/token", &[ttl]).await;
        let session = session.and_then(found);
        let token = session
            .as_deref()
            .map(|token| ("x-aws-ec2-metadata-token", token));
        let path = "/latest/meta-data/iam/security-credentials/";
        let headers: Vec<_> = token.into_iter().collect();
        found(self.ask(Method::GET, path, &headers).await?).map(|role| name(&role))
    }

    async fn googles(&self) -> Option<String> {
        let path = "/computeMetadata/v1/instance/service-accounts/default/email";
        let flavor = ("metadata-flavor", "Google");
        found(self.ask(Method::GET, path, &[flavor]).await?).map(|account| name(&account))
    }

    /// Only a request for a token tells whether there is an identity. It is dropped unread.
    async fn azures(&self) -> bool {
        let path = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com%2F";
        match self.ask(Method::GET, path, &[("metadata", "true")]).await {
            Some((StatusCode::OK, body)) => body.contains("access_token"),
            // Several are assigned, and each is given by its name.
            Some((StatusCode::BAD_REQUEST, body)) => {
                body.contains("Multiple user assigned identities")
            }
            _ => false,
        }
    }

    /// Status and body of the answer, if there is one in time.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Option<(StatusCode, String)> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).ok()?;
        let answer = async {
            let answer = self.client.request(request).await.ok()?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await.ok()?;
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            Some((parts.status, body))
        };
        tokio::time::timeout(ANSWERS_WITHIN, answer).await.ok()?
    }
}

/// What was asked for, where it is there.
fn found((status, body): (StatusCode, String)) -> Option<String> {
    let body = body.trim();
    (status == StatusCode::OK && !body.is_empty()).then(|| body.to_owned())
}

/// The first line, and of that what is fit for a message: whoever answers may answer anything.
fn name(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let printable = line.chars().filter(|c| c.is_ascii_graphic());
    printable.take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::http::HeaderMap;
    use axum::routing::{get, put};

    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

    /// What comes of it where this answers.
    async fn outcome(service: Router) -> Outcome {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move { axum::serve(listener, service).await });
        let outcome = try_all(&[&address]).await;
        serving.abort();
        outcome
    }

    fn gives(what: &str) -> Outcome {
        Outcome::Gives {
            what: what.to_owned(),
        }
    }

    #[tokio::test]
    async fn imdsv1_gives_the_role_of_the_node() {
        let service = Router::new().route(ROLES, get(async || "eks-node\n"));
        let told = gives("on Amazon EC2, the credentials of role eks-node");
        assert_eq!(outcome(service).await, told);
    }

    #[tokio::test]
    async fn imdsv2_gives_it_to_whoever_begins_a_session() {
        let roles = async |headers: HeaderMap| match headers.get("x-aws-ec2-metadata-token") {
            Some(token) if token == "session" => (StatusCode::OK, "eks-node"),
            _ => (StatusCode::UNAUTHORIZED, ""),
        };
        let service = Router::new()
            .route("/latest/api/token", put(async || "session"))
            .route(ROLES, get(roles));
        let told = gives("on Amazon EC2, the credentials of role eks-node");
        assert_eq!(outcome(service).await, told);
    }

    #[tokio::test]
    async fn imdsv2_without_a_session_gives_nothing() {
        let refuse = async || (StatusCode::UNAUTHORIZED, "");
        let service = Router::new().fallback(refuse);
        let Outcome::GivesNothing { how } = outcome(service).await else {
            panic!("it gives nothing");
        };
        assert!(how.contains("gives no credentials"), "{how}");
    }

    #[tokio::test]
    async fn googles_service_gives_the_account_of_the_node() {
        let path = "/computeMetadata/v1/instance/service-accounts/default/email";
        let account = async |headers: HeaderMap| match headers.contains_key("metadata-flavor") {
            true => (StatusCode::OK, "node@project.iam.gserviceaccount.com"),
            false => (StatusCode::FORBIDDEN, ""),
        };
        let told = "on Google Cloud, the credentials of service account node@project.iam.gserviceaccount.com";
        let service = Router::new().route(path, get(account));
        assert_eq!(outcome(service).await, gives(told));
    }

    #[tokio::test]
    async fn azures_service_gives_a_token_which_is_not_told() {
        let path = "/metadata/identity/oauth2/token";
        let told = gives("on Azure, a token of a managed identity");
        let token = async || r#"{"access_token": "eyJ0"}"#;
        let one = Router::new().route(path, get(token));
        assert_eq!(outcome(one).await, told);
        let several = async || {
            let body = r#"{"error":"invalid_request","error_description":"Multiple user assigned identities exist"}"#;
            (StatusCode::BAD_REQUEST, body)
        };
        let several = Router::new().route(path, get(several));
        assert_eq!(outcome(several).await, told);
        let none = async || {
            (
                StatusCode::BAD_REQUEST,
                r#"{"error_description":"Identity not found"}"#,
            )
        };
        let none = Router::new().route(path, get(none));
        assert!(matches!(outcome(none).await, Outcome::GivesNothing { .. }));
    }

    #[tokio::test]
    async fn where_nothing_listens_nothing_answers() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let Outcome::GivesNothing { how } = try_all(&[&address]).await else {
            panic!("nobody is there");
        };
        assert!(how.starts_with("nothing answers"), "{how}");
    }

    #[tokio::test]
    async fn what_is_told_of_an_answer_is_one_short_line() {
        let service = Router::new().route(ROLES, get(async || "a\u{1b}[31mb\nsecond".repeat(500)));
        let told = gives("on Amazon EC2, the credentials of role a[31mb");
        assert_eq!(outcome(service).await, told);
    }

    #[test]
    fn an_outcome_is_read_as_it_was_written() {
        for outcome in [
            gives("x"),
            Outcome::GivesNothing {
                how: "y".to_owned(),
            },
        ] {
            let written = serde_json::to_string(&outcome).unwrap();
            let read: Outcome = serde_json::from_str(&written).unwrap();
            assert_eq!(read, outcome);
        }
    }
}
