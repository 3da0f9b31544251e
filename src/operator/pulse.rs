//! Whether a watch still hears the API server.
//!
//! [`kube::runtime::watcher()`] tells of changes and of errors, but neither of bookmarks nor of a
//! connection that is back: a quiet watch looks like a dead one. So its client listens for it: every
//! answer that succeeds, and every piece of one, is a sign of life. A watch is asked for anew
//! after [`Cadence::renew`], so that a healthy one gives a sign that often even where nothing
//! changes and the API server sends no bookmarks, which it need not do (Kubernetes API concepts,
//! "Watch bookmarks").

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher;

/// How often a watch gives a sign of life, and how long one is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Cadence {
    /// Seconds after which a watch is asked for anew.
    pub renew: u32,
    /// What was seen is believed for so long after the last sign of life.
    pub patience: Duration,
}

impl Default for Cadence {
    /// A restart of the API server goes unnoticed; whoever cuts a watch off to keep a suspension
    /// or a weakened policy from being seen gains two minutes.
    fn default() -> Self {
        Self {
            renew: 60,
            patience: Duration::from_secs(120),
        }
    }
}

/// Objects in a page of a list.
const PAGE: u32 = 100;

impl Cadence {
    /// The configuration of a watch of this cadence, whose lists come in small pages: a page is in
    /// memory as text and as objects at once, and what it took is not given back.
    pub fn config(&self) -> watcher::Config {
        watcher::Config::default()
            .timeout(self.renew)
            .page_size(PAGE)
    }
}

/// The pulses of all watches of one part of a process; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Pulses(Arc<Mutex<Vec<Pulse>>>);

impl Pulses {
    /// Of one more watch, which starts now; `plural` names its kind.
    pub fn of(&self, plural: impl Into<String>, cadence: &Cadence) -> Pulse {
        let pulse = Pulse::new(plural, cadence);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(pulse.clone());
        pulse
    }

    /// Whether what these watches have seen can still be believed.
    ///
    /// # Errors
    /// Says of the first watch that has gone silent what to look at.
    pub fn check(&self) -> Result<(), String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().try_for_each(Pulse::check)
    }
}

/// The signs of life of one watch; clones share them.
#[derive(Debug, Clone)]
pub struct Pulse {
    of: String,
    patience: Duration,
    last: Arc<Mutex<Instant>>,
}

impl Pulse {
    fn new(of: impl Into<String>, cadence: &Cadence) -> Self {
        Self {
            of: of.into(),
            patience: cadence.patience,
            last: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// The client for this watch, and for nothing else.
    pub fn listening(&self, client: &Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let (client, pulse) = (client.clone(), self.clone());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (client, pulse) = (client.clone(), pulse.clone());
            async move {
                let answer = client.send(request).await?;
                let listener = answer.status().is_success().then_some(pulse);
                let beat = move || listener.iter().for_each(Self::beat);
                beat();
                Ok::<_, kube::Error>(answer.map(|body| {
                    body.map_frame(move |frame| {
                        beat();
                        frame
                    })
                }))
            }
        });
        Client::new(service, namespace)
    }

    fn beat(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether what the watch has seen can still be believed.
    ///
    /// # Errors
    /// Says which watch fails, and what to look at.
    pub fn check(&self) -> Result<(), String> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() <= self.patience {
            return Ok(());
        }
        // The same text for as long as it lasts: it gets into conditions.
        Err(format!(
            "the watch of {} has failed for more than {} s, so what it saw is believed no longer; the log says \
             why: look at the API server, and at the rights of the service account",
            self.of,
            self.patience.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body as Pieces;
    use futures::channel::mpsc;
    use std::convert::Infallible;

    type Piece = Result<&'static str, Infallible>;

    impl Pulse {
        /// As if the last sign of life were so old.
        fn age(&self, seconds: u64) {
            *self.last.lock().unwrap() = Instant::now() - Duration::from_secs(seconds);
        }
    }

    /// A watch whose API server answers with this status, and then sends what comes in.
    fn watch(status: u16) -> (Pulse, Client, mpsc::UnboundedSender<Piece>) {
        let (sender, pieces) = mpsc::unbounded();
        let pieces = Mutex::new(Some(pieces));
        let api_server = tower::service_fn(move |_: http::Request<Body>| {
            let body = Pieces::from_stream(pieces.lock().unwrap().take().unwrap());
            let answer = http::Response::builder().status(status).body(body).unwrap();
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let pulse = Pulse::new("hubusers", &Cadence::default());
        let client = pulse.listening(&Client::new(api_server, "default"));
        (pulse, client, sender)
    }

    fn request() -> http::Request<Body> {
        http::Request::get("/apis").body(Body::empty()).unwrap()
    }

    #[test]
    fn what_was_seen_is_believed_for_two_minutes_and_then_no_longer() {
        let pulse = Pulse::new("hubusers", &Cadence::default());
        pulse.age(119);
        assert_eq!(pulse.check(), Ok(()));
        pulse.age(121);
        let why = pulse.check().unwrap_err();
        assert!(
            why.contains("the watch of hubusers has failed for more than 120 s"),
            "{why}"
        );
    }

    #[test]
    fn one_silent_watch_among_many_is_told() {
        let pulses = Pulses::default();
        assert_eq!(pulses.check(), Ok(()), "nothing is watched yet");
        let [_, users] = ["hubstorages", "hubusers"].map(|of| pulses.of(of, &Cadence::default()));
        assert_eq!(pulses.check(), Ok(()));
        users.age(121);
        let why = pulses.clone().check().unwrap_err();
        assert!(why.contains("the watch of hubusers"), "{why}");
    }

    #[tokio::test]
    async fn an_answer_and_every_piece_of_it_are_signs_of_life() {
        let (pulse, client, sender) = watch(200);
        pulse.age(1000);
        let mut body = client.send(request()).await.unwrap().into_body();
        assert_eq!(pulse.check(), Ok(()), "the answer");

        pulse.age(1000);
        sender.unbounded_send(Ok("a bookmark")).unwrap();
        body.frame().await.unwrap().unwrap();
        assert_eq!(pulse.check(), Ok(()), "the piece");
    }

    #[tokio::test]
    async fn an_answer_that_refuses_is_no_sign_of_life() {
        let (pulse, client, sender) = watch(403);
        pulse.age(1000);
        let mut body = client.send(request()).await.unwrap().into_body();
        sender.unbounded_send(Ok("forbidden")).unwrap();
        body.frame().await.unwrap().unwrap();
        assert!(pulse.check().is_err());
    }
}
