//! The connection to the API server, in which nothing waits for ever.

use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

/// How long an answer may take. A webhook of somebody else may hold a write up for 10 s (the
/// default `timeoutSeconds`).
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// How long a watch may be silent: the API server ends each after 290 s at the latest (kube's
/// own time-out for them), so what is silent for longer is a dead connection.
const WATCH_SILENT_FOR: Duration = Duration::from_secs(300);

/// A client by the environment: `KUBECONFIG`, or the pod's service account.
///
/// # Errors
/// If there is neither, or if it is of no use.
pub async fn connect() -> anyhow::Result<Client> {
    let mut config = Config::infer()
        .await
        .context("no connection to a cluster: set KUBECONFIG")?;
    config.read_timeout = Some(WATCH_SILENT_FOR);
    let builder = ClientBuilder::try_from(config).context("the kubeconfig is of no use")?;
    Ok(builder.with_layer(&Patience).build())
}

/// Gives every request but a watch a time-out.
#[derive(Clone, Copy)]
struct Patience;

impl<S> Layer<S> for Patience {
    type Service = Patient<S>;

    fn layer(&self, inner: S) -> Patient<S> {
        Patient(inner)
    }
}

#[derive(Clone)]
struct Patient<S>(S);

impl<S, B> Service<Request<Body>> for Patient<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_watch = request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair.starts_with("watch=")));
        let what = format!("{} {}", request.method(), request.uri().path());
        let answer = self.0.call(request);
        Box::pin(async move {
            if is_watch {
                return answer.await.map_err(Into::into);
            }
            match tokio::time::timeout(ANSWER_WITHIN, answer).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => {
                    Err(format!("{what}: no answer within {} s", ANSWER_WITHIN.as_secs()).into())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::{ServiceExt as _, service_fn};

    async fn ask(path: &str) -> Result<Response<()>, BoxError> {
        let silent =
            service_fn(|_: Request<Body>| std::future::pending::<Result<Response<()>, BoxError>>());
        let request = Request::get(path).body(Body::empty()).unwrap();
        Patience.layer(silent).oneshot(request).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_answer_ends_with_its_name_and_a_watch_goes_on() {
        let error = ask("/api/v1/namespaces?limit=1")
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(error, "GET /api/v1/namespaces: no answer within 15 s");

        let watch = ask("/api/v1/namespaces?limit=1&watch=true");
        assert!(
            tokio::time::timeout(2 * ANSWER_WITHIN, watch)
                .await
                .is_err()
        );
    }
}
