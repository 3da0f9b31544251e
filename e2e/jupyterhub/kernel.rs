//! A Python kernel in a user's notebook server, spoken to as a browser does: made by the server's
//! REST API, then used over one WebSocket with the messages of the Jupyter protocol
//! (jupyter-client.readthedocs.io, "Messaging in Jupyter").

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{SinkExt, StreamExt};
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use rand::RngExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::rest::Rest;

/// Nothing that a test runs takes as long.
const RUNS_WITHIN: Duration = Duration::from_secs(600);

/// A kernel, with the variables of everything that ran in it.
pub struct Kernel {
    rest: Rest,
    path: String,
    session: String,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What became of a piece of code.
#[derive(Debug, Clone, Default)]
pub struct Ran {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, without the traceback of `error`.
    pub stderr: String,
    /// The exception that ended it.
    pub error: Option<PythonError>,
}

/// An exception.
#[derive(Debug, Clone, Deserialize)]
pub struct PythonError {
    /// Its class.
    #[serde(rename = "ename")]
    pub name: String,
    /// Its text.
    #[serde(rename = "evalue")]
    pub value: String,
    /// Its traceback, with the colours of a terminal.
    #[serde(default)]
    pub traceback: Vec<String>,
}

impl fmt::Display for PythonError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.name, self.value)
    }
}

impl Ran {
    /// The standard output of code that was meant to succeed.
    pub fn ok(self) -> Result<String> {
        match self.error {
            None => Ok(self.stdout),
            Some(error) => bail!("{error}\n{}\n{}", error.traceback.join("\n"), self.stderr),
        }
    }

    /// What a script of this code would have exited with.
    pub fn exit_code(&self) -> i32 {
        match &self.error {
            None => 0,
            Some(error) if error.name == "SystemExit" => match error.value.as_str() {
                "" | "None" => 0,
                code => code.parse().unwrap_or(1),
            },
            Some(_) => 1,
        }
    }
}

impl Kernel {
    /// Starts a kernel in the server at `server`, a path on the proxy that ends with a slash.
    pub(super) async fn start(rest: Rest, server: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Made {
            id: String,
        }
        let kernels = format!("{server}api/kernels");
        let made: Made = rest
            .call(Method::POST, &kernels, Some(&json!({"name": "python3"})))
            .await?
            .expect(&[StatusCode::CREATED])?
            .json()?;
        let path = format!("{kernels}/{}", made.id);
        let session = identifier();
        let url = format!(
            "ws://{}{path}/channels?session_id={session}",
            rest.address()
        );
        let mut request = url.into_client_request()?;
        request
            .headers_mut()
            .insert(AUTHORIZATION, rest.authorization().parse()?);
        let (socket, _) = tokio_tungstenite::connect_async(request)
            .await
            .with_context(|| format!("the channels of {path}"))?;
        Ok(Self {
            rest,
            path,
            session,
            socket,
        })
    }

    /// Runs code, as a cell of a notebook, to its end.
    pub async fn run(&mut self, code: &str) -> Result<Ran> {
        match tokio::time::timeout(RUNS_WITHIN, self.execute(code)).await {
            Ok(ran) => ran,
            Err(_) => bail!("the code still runs after {} s", RUNS_WITHIN.as_secs()),
        }
    }

    async fn execute(&mut self, code: &str) -> Result<Ran> {
        let id = identifier();
        let request = json!({
            "channel": "shell",
            "header": {
                "msg_id": id,
                "msg_type": "execute_request",
                "session": self.session,
                "username": "e2e",
                "version": "5.3",
            },
            "parent_header": {},
            "metadata": {},
            "content": {
                "code": code,
                "silent": false,
                "store_history": false,
                "user_expressions": {},
                "allow_stdin": false,
                "stop_on_error": true,
            },
        });
        self.socket.send(Message::text(request.to_string())).await?;

        let mut ran = Ran::default();
        // Output and reply come by channels that do not wait for each other: it is over when the
        // kernel has replied, and is idle again on the channel of the output.
        let (mut replied, mut idle) = (false, false);
        while !(replied && idle) {
            let message = self.socket.next().await;
            let message = message.context("the server closed the channels of the kernel")??;
            let Message::Text(text) = message else {
                continue;
            };
            let message: Value = serde_json::from_str(&text)?;
            if message["parent_header"]["msg_id"] != id.as_str() {
                continue;
            }
            let content = &message["content"];
            match message["header"]["msg_type"].as_str() {
                Some("stream") => {
                    let text = content["text"].as_str().unwrap_or_default();
                    match content["name"].as_str() {
                        Some("stdout") => ran.stdout.push_str(text),
                        _ => ran.stderr.push_str(text),
                    }
                }
                Some("error") => ran.error = Some(serde_json::from_value(content.clone())?),
                Some("status") => idle = content["execution_state"] == "idle",
                Some("execute_reply") => replied = true,
                _ => {}
            }
        }
        Ok(ran)
    }

    /// Ends the kernel.
    pub async fn shut_down(self) -> Result<()> {
        self.rest
            .call(Method::DELETE, &self.path, None)
            .await?
            .expect(&[StatusCode::NO_CONTENT])
            .map(drop)
    }
}

/// Unique among all messages and sessions.
fn identifier() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended_by(name: &str, value: &str) -> Ran {
        Ran {
            error: Some(PythonError {
                name: name.to_owned(),
                value: value.to_owned(),
                traceback: Vec::new(),
            }),
            ..Ran::default()
        }
    }

    #[test]
    fn the_exit_code_is_that_of_a_script() {
        assert_eq!(Ran::default().exit_code(), 0);
        assert_eq!(ended_by("SystemExit", "None").exit_code(), 0);
        assert_eq!(ended_by("SystemExit", "3").exit_code(), 3);
        assert_eq!(ended_by("SystemExit", "refused").exit_code(), 1);
        assert_eq!(ended_by("PermissionError", "").exit_code(), 1);
    }
}
