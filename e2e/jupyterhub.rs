//! A hub as tests and the demo use it: servers are started and stopped by the hub's REST API, and
//! user code runs in the user's own notebook server, reached through the hub's proxy.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

mod kernel;
mod rest;

pub use kernel::{Kernel, PythonError, Ran};

use crate::components::hub;
use crate::running::Platform;
use rest::Rest;

/// Longer than a pod may take to end: its grace period is KubeSpawner's second.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// The name of a user's default server.
const DEFAULT: &str = "";

/// A running hub.
pub struct Hub {
    rest: Rest,
}

/// What one server is to be like, where it differs from the configuration of the hub.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    kubespawner: Map<String, Value>,
}

impl ServerOptions {
    /// Sets an option of KubeSpawner by its own name, say `start_timeout` or `extra_containers`.
    pub fn with(mut self, option: &str, value: impl Into<Value>) -> Self {
        self.kubespawner.insert(option.to_owned(), value.into());
        self
    }

    /// The user options, as `jupyterhub_config.py` reads them.
    fn to_json(&self) -> Value {
        json!({"kubespawner": self.kubespawner})
    }
}

/// One line of what the hub shows to a user who waits for a server.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// Per cent; none when all there is to say is that it takes long.
    pub progress: Option<f64>,
    /// What happened.
    #[serde(default)]
    pub message: String,
    /// The server can be used; nothing follows.
    #[serde(default)]
    pub ready: bool,
    /// There will be no server; nothing follows.
    #[serde(default)]
    pub failed: bool,
}

/// A server that became ready.
#[derive(Debug, Clone)]
pub struct Started {
    /// From the request until the hub said that it is ready.
    pub took: Duration,
    /// Everything that the hub said meanwhile.
    pub events: Vec<Event>,
}

/// A server as the hub knows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Server {
    /// It can be used.
    pub ready: bool,
    /// It is over, and the hub remembers its name.
    #[serde(default)]
    pub stopped: bool,
    /// Its path on the proxy, the user's name escaped in the hub's own way.
    pub url: String,
    /// What KubeSpawner remembers of it.
    #[serde(default)]
    pub state: Option<SpawnerState>,
}

/// What KubeSpawner remembers of a server.
#[derive(Debug, Clone, Deserialize)]
pub struct SpawnerState {
    /// The name of its pod.
    pub pod_name: Option<String>,
}

#[derive(Deserialize)]
struct User {
    name: String,
    #[serde(default)]
    servers: BTreeMap<String, Server>,
}

impl User {
    /// The server that most users have alone, without a name.
    fn into_server(mut self) -> Option<Server> {
        self.servers.remove(DEFAULT)
    }
}

impl Hub {
    /// One of the hubs in [`crate::components::hub`].
    pub fn of(platform: &Platform, hub: &hub::Hub) -> Result<Self> {
        let keys = hub::Keys::load(&platform.checkout.run(hub.name))?;
        let address = platform.ports.address(hub.proxy.public())?;
        Ok(Self {
            rest: Rest::new(address, keys.api_token),
        })
    }

    /// Starts the user's server and waits until it is ready. The user is made if the hub does not
    /// know them.
    pub async fn start(&self, user: &str, options: &ServerOptions) -> Result<Started> {
        self.start_named(user, DEFAULT, options).await
    }

    /// The same of one of the user's named servers.
    pub async fn start_named(
        &self,
        user: &str,
        server: &str,
        options: &ServerOptions,
    ) -> Result<Started> {
        let began = Instant::now();
        self.request_named(user, server, options).await?;
        let events = self.progress_of(user, server).await?;
        let took = began.elapsed();
        match events.last() {
            Some(last) if last.ready => Ok(Started { took, events }),
            _ => bail!(
                "the server of {user:?} did not start; the hub said:\n{}",
                events
                    .iter()
                    .map(|event| event.message.trim())
                    .collect::<Vec<_>>()
                    .join("\n")
            ),
        }
    }

    /// Makes a group of these users, whom the hub knows; or adds them to it.
    pub async fn join(&self, group: &str, users: &[&str]) -> Result<()> {
        let path = format!("/hub/api/groups/{group}");
        let made = self.rest.call(Method::POST, &path, None).await?;
        made.expect(&[StatusCode::CREATED, StatusCode::CONFLICT])?;
        let users = json!({"users": users});
        let path = format!("{path}/users");
        let added = self.rest.call(Method::POST, &path, Some(&users)).await?;
        added.expect(&[StatusCode::OK])?;
        Ok(())
    }

    /// Asks for the user's server, and returns as soon as the hub has taken note.
    pub async fn request(&self, user: &str, options: &ServerOptions) -> Result<()> {
        self.request_named(user, DEFAULT, options).await
    }

    async fn request_named(&self, user: &str, server: &str, options: &ServerOptions) -> Result<()> {
        self.rest
            .call(Method::POST, &user_path(user), None)
            .await?
            .expect(&[StatusCode::CREATED, StatusCode::CONFLICT])?;
        let path = server_path(user, server);
        self.rest
            .call(Method::POST, &path, Some(&options.to_json()))
            .await?
            .expect(&[StatusCode::CREATED, StatusCode::ACCEPTED])
            .map(drop)
    }

    /// Everything that the hub says about a server that is starting, until it is ready or has
    /// failed; the last event tells which.
    pub async fn progress(&self, user: &str) -> Result<Vec<Event>> {
        self.progress_of(user, DEFAULT).await
    }

    async fn progress_of(&self, user: &str, server: &str) -> Result<Vec<Event>> {
        let path = format!("{}/progress", server_path(user, server));
        let mut lines = self.rest.lines(&path).await?;
        let mut events = Vec::new();
        while let Some(line) = lines.next().await? {
            // Server-sent events: empty lines keep the connection open and mean nothing.
            let Some(data) = line.strip_prefix("data:") else {
                continue;
            };
            let event: Event = serde_json::from_str(data).with_context(|| data.to_owned())?;
            let is_last = event.ready || event.failed;
            events.push(event);
            if is_last {
                break;
            }
        }
        Ok(events)
    }

    /// Stops the user's server and waits until the hub has forgotten it; a user without one
    /// is fine.
    pub async fn stop(&self, user: &str) -> Result<()> {
        self.stop_named(user, DEFAULT).await
    }

    /// The same of one of the user's named servers.
    pub async fn stop_named(&self, user: &str, server: &str) -> Result<()> {
        self.rest
            .call(Method::DELETE, &server_path(user, server), None)
            .await?
            .expect(&[StatusCode::NO_CONTENT, StatusCode::ACCEPTED])?;
        let began = Instant::now();
        while self.has(user, server).await? {
            if began.elapsed() > STOPS_WITHIN {
                bail!(
                    "the server {server:?} of {user:?} was asked to stop {} s ago and is still there",
                    STOPS_WITHIN.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The user's server, starting, running or stopping.
    pub async fn server(&self, user: &str) -> Result<Option<Server>> {
        Ok(self.user(user).await?.into_server())
    }

    /// Whether one of the user's servers starts, runs or stops. A named one is known beyond that.
    async fn has(&self, user: &str, server: &str) -> Result<bool> {
        let servers = self.user(user).await?.servers;
        let server = servers.get(server);
        Ok(server.is_some_and(|server| !server.stopped))
    }

    async fn user(&self, user: &str) -> Result<User> {
        let answer = self.rest.call(Method::GET, &user_path(user), None).await?;
        answer.expect(&[StatusCode::OK])?.json()
    }

    /// All servers, by the names of their users.
    pub async fn servers(&self) -> Result<BTreeMap<String, Server>> {
        let path = "/hub/api/users?state=active&limit=1000";
        let answer = self.rest.call(Method::GET, path, None).await?;
        let users: Vec<User> = answer.expect(&[StatusCode::OK])?.json()?;
        Ok(users
            .into_iter()
            .filter_map(|user| Some((user.name.clone(), user.into_server()?)))
            .collect())
    }

    /// A kernel in the user's running server, reached as the user: by a token of their own.
    pub async fn kernel(&self, user: &str) -> Result<Kernel> {
        #[derive(Deserialize)]
        struct Issued {
            token: String,
        }
        let server = self.server(user).await?;
        let server = server.with_context(|| format!("{user:?} has no server"))?;
        let path = format!("{}/tokens", user_path(user));
        let request = json!({"note": "e2e", "expires_in": 3600});
        let issued: Issued = self
            .rest
            .call(Method::POST, &path, Some(&request))
            .await?
            .expect(&[StatusCode::CREATED])?
            .json()?;
        Kernel::start(self.rest.with_token(issued.token), &server.url).await
    }

    /// Runs Python code in the user's running server, in a kernel of its own.
    pub async fn run(&self, user: &str, code: &str) -> Result<Ran> {
        let mut kernel = self.kernel(user).await?;
        let ran = kernel.run(code).await?;
        kernel.shut_down().await?;
        Ok(ran)
    }
}

fn server_path(user: &str, server: &str) -> String {
    let user = user_path(user);
    match server {
        DEFAULT => format!("{user}/server"),
        named => format!("{user}/servers/{}", escaped(named)),
    }
}

fn user_path(user: &str) -> String {
    format!("/hub/api/users/{}", escaped(user))
}

/// A user's name as one segment of a path. Dots too, for `..` is a name like any other.
fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leaves_its_segment_of_the_path() {
        assert_eq!(escaped("jane"), "jane");
        assert_eq!(escaped("../a b?#%"), "%2E%2E%2Fa%20b%3F%23%25");
        assert_eq!(escaped("zoë"), "zo%C3%AB");
    }

    #[test]
    fn options_are_sent_as_the_configuration_reads_them() {
        let options = ServerOptions::default().with("start_timeout", 20);

        let expected = json!({"kubespawner": {"start_timeout": 20}});
        assert_eq!(options.to_json(), expected);
    }
}
