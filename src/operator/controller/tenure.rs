//! How long this process may write.
//!
//! A process that was stopped goes on exactly where it was, perhaps after its lease has ended and
//! while another one leads. So every write looks at the clock first; one that comes too late is
//! held until the process ends, which [`Leadership::lost`](super::leadership::Leadership::lost)
//! sees to by the same clock. Between that look and the store a moment is left that no lease can
//! close: every write is also safe twice.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Request};
use hubstorage_cloud::{CloudError, Layer, Layered, Operation};
use hubstorage_core::api::StorageProvider;
use hubstorage_core::names::BucketName;
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;

use crate::clock::Moment;
use crate::providers::{Connect, ConnectError, ManagingSide, VendingSide};

/// The time in which this process may write, by a clock that goes on while the machine is
/// suspended; clones share it. Before it has begun nothing is held: the lease itself has to be
/// written first.
#[derive(Debug, Clone, Default)]
pub struct Tenure(Arc<watch::Sender<Option<Moment>>>);

impl Tenure {
    /// Lasts until `end`, unless it lasts longer already; begins with the first call.
    pub fn extend(&self, end: Moment) {
        self.0
            .send_modify(|before| *before = (*before).max(Some(end)));
    }

    /// Whether it has begun and ended.
    pub fn is_over(&self, now: Moment) -> bool {
        self.0.borrow().is_some_and(|end| now >= end)
    }

    /// Returns at once while it lasts, and otherwise when it was extended after all.
    async fn held(&self) {
        let mut end = self.0.subscribe();
        let lasts = |end: &Option<Moment>| end.is_none_or(|end| Moment::now() < end);
        // Its sender is this very value.
        _ = end.wait_for(lasts).await;
    }

    /// The same client, whose writes are held once the tenure is over.
    pub fn client(&self, client: &Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let (client, tenure) = (client.clone(), self.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, tenure) = (client.clone(), tenure.clone());
            async move {
                if request.method() != Method::GET {
                    tenure.held().await;
                }
                client.send(request).await
            }
        });
        Client::new(service, namespace)
    }

    /// The same connections, whose writes are held once the tenure is over.
    pub fn connections(&self, connect: impl Connect + 'static) -> Arc<dyn Connect> {
        Arc::new(Held {
            of: connect,
            tenure: self.clone(),
        })
    }
}

/// Connections to stores whose writes are held once the tenure is over.
struct Held<C> {
    of: C,
    tenure: Tenure,
}

#[async_trait]
impl<C: Connect> Connect for Held<C> {
    async fn managing(&self, provider: &StorageProvider) -> Result<ManagingSide, ConnectError> {
        let side = self.of.managing(provider).await?;
        Ok(ManagingSide {
            ours: Arc::new(Layered::new(side.ours, self.tenure.clone())),
            others: Arc::new(Layered::new(side.others, self.tenure.clone())),
            roles: Arc::new(Layered::new(side.roles, self.tenure.clone())),
        })
    }

    async fn vending(&self, provider: &StorageProvider) -> Result<VendingSide, ConnectError> {
        self.of.vending(provider).await
    }
}

/// Writes to a store are held once the tenure is over.
impl Layer for Tenure {
    async fn around<T: Send>(
        &self,
        operation: Operation,
        _bucket: Option<&BucketName>,
        call: impl Future<Output = Result<T, CloudError>> + Send,
    ) -> Result<T, CloudError> {
        if operation.is_write() {
            self.held().await;
        }
        call.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubstorage_cloud::ObjectStore;
    use hubstorage_cloud::Tags;
    use hubstorage_cloud::memory::{Behaviour, MemoryCloud};
    use std::convert::Infallible;
    use std::time::Duration;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(3600);

    fn over() -> Tenure {
        let tenure = Tenure::default();
        tenure.extend(Moment::now());
        tenure
    }

    #[tokio::test(start_paused = true)]
    async fn once_it_is_over_the_api_server_is_read_and_no_longer_written() {
        let tenure = over();
        let api_server = tower::service_fn(|_: Request<Body>| {
            std::future::ready(Ok::<_, Infallible>(http::Response::new(Body::empty())))
        });
        let client = tenure.client(&Client::new(api_server, "default"));
        let send = async |method: Method| {
            let request = Request::builder().method(method).uri("/api/v1/secrets");
            let answer = client.send(request.body(Body::empty()).unwrap());
            timeout(LONG, answer).await.is_ok()
        };

        assert!(send(Method::GET).await);
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(!send(method.clone()).await, "{method}");
        }
        tenure.extend(Moment::now() + LONG);
        assert!(send(Method::PATCH).await);
    }

    #[tokio::test(start_paused = true)]
    async fn once_it_is_over_the_store_is_read_and_no_longer_written() {
        let tenure = over();
        let cloud = MemoryCloud::new(Behaviour::minio());
        let store: Arc<dyn ObjectStore> = Arc::new(cloud.store("123456789012"));
        let held = Layered::new(store.clone(), tenure.clone());
        let bucket = BucketName::parse("earth-scratch").unwrap();
        let tags = Tags::default();
        let create = || timeout(LONG, held.create_bucket(&bucket, &tags));

        assert!(create().await.is_err());

        assert_eq!(held.bucket_tags(&bucket).await.unwrap(), None, "it is read");
        tenure.extend(Moment::now() + LONG);
        assert!(create().await.is_ok());
        assert!(store.bucket_tags(&bucket).await.unwrap().is_some());
    }

    #[test]
    fn it_ends_once_it_has_begun_and_is_never_made_shorter() {
        let now = Moment::now();
        let tenure = Tenure::default();
        assert!(!tenure.is_over(now + LONG));
        tenure.extend(now + LONG);
        tenure.extend(now);
        assert!(!tenure.is_over(now));
        assert!(tenure.is_over(now + LONG));
    }
}
