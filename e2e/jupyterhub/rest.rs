//! Requests to the hub's proxy, with a token.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::Value;

type Body = hyper::body::Incoming;

/// Longer than the hub takes for any answer but the progress of a server.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// Whom to ask, and as whom.
#[derive(Clone)]
pub struct Rest {
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    token: String,
}

impl Rest {
    pub fn new(address: SocketAddr, token: String) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            address,
            token,
        }
    }

    /// The same proxy, as somebody else.
    pub fn with_token(&self, token: String) -> Self {
        Self {
            token,
            ..self.clone()
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value of the header that says who asks.
    pub fn authorization(&self) -> String {
        format!("token {}", self.token)
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let asked = format!("{method} {path}");
        let answer = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::Ok(Answer {
                asked: asked.clone(),
                status,
                body,
            })
        };
        match tokio::time::timeout(ANSWERS_WITHIN, answer).await {
            Ok(answer) => answer.with_context(|| asked.clone()),
            Err(_) => bail!("{asked}: no answer in {} s", ANSWERS_WITHIN.as_secs()),
        }
    }

    /// The lines of an answer that goes on for a while.
    pub async fn lines(&self, path: &str) -> Result<Lines> {
        let response = self.send(Method::GET, path, None).await?;
        let status = response.status();
        if status != StatusCode::OK {
            bail!("GET {path}: {status}");
        }
        Ok(Lines {
            body: response.into_body(),
            read: BytesMut::new(),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Body>> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(AUTHORIZATION, self.authorization())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        Ok(self.client.request(request).await?)
    }
}

/// An answer that was read to its end.
pub struct Answer {
    asked: String,
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    /// An error, with what the hub says, unless the status is one of these.
    pub fn expect(self, statuses: &[StatusCode]) -> Result<Self> {
        if !statuses.contains(&self.status) {
            bail!(
                "{}: {}: {}",
                self.asked,
                self.status,
                String::from_utf8_lossy(&self.body).trim()
            );
        }
        Ok(self)
    }

    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).with_context(|| self.asked.clone())
    }
}

/// The lines of an answer, as they come.
pub struct Lines {
    body: Body,
    read: BytesMut,
}

impl Lines {
    /// The next line, none at the end.
    pub async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end + 1);
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}
