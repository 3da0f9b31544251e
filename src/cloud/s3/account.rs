//! On Amazon, requests name the account that their bucket has to belong to.
//!
//! A bucket's name is anybody's once it is free. If a bucket of ours was deleted by hand, somebody else
//! may have made one of its name, with our tags on it and a policy that lets us in; without this, users
//! would be sent there (`x-amz-expected-bucket-owner`, Amazon S3 User Guide, "Verifying bucket
//! ownership with bucket owner condition").

use std::sync::{Arc, OnceLock};

use aws_sdk_sts::Client;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use super::errors::{Call, Parties};
use crate::CloudError;

const HEADER: &str = "x-amz-expected-bucket-owner";

/// Calls that are about no bucket, or about one that is not there yet.
const WITHOUT: [&str; 2] = ["ListBuckets", "CreateBucket"];

/// Our account at Amazon, once it is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Account(Arc<OnceLock<String>>);

impl Account {
    /// Asks whose the keys are, if nobody did; it needs no permission.
    pub async fn learn(&self, sts: &Client, parties: &Parties) -> Result<(), CloudError> {
        if self.0.get().is_some() {
            return Ok(());
        }
        let call = Call {
            parties,
            permission: "sts:GetCallerIdentity",
            bucket: None,
        };
        let caller = sts.get_caller_identity().send().await;
        let caller = caller.map_err(|error| call.failed(&error))?;
        let account = caller.account.ok_or_else(|| CloudError::Failed {
            permission: call.permission,
            resource: "*".into(),
            code: "InvalidAnswer".into(),
            message: "the answer names no account".into(),
        })?;
        // Several may have asked at once, and were told the same.
        self.0.get_or_init(|| account);
        Ok(())
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for Account {
    fn name(&self) -> &'static str {
        "Account"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = bag.load::<Metadata>().map_or("", Metadata::name);
        if WITHOUT.contains(&operation) {
            return Ok(());
        }
        // Before it is known nothing is said of any bucket that anybody would act on.
        let account = self.0.get().ok_or("the account is not known yet")?;
        context
            .request_mut()
            .headers_mut()
            .try_insert(HEADER, account.clone())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A client of the account, and what arrives of its next request.
    async fn client(account: &Account) -> (aws_sdk_s3::Client, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 8192];
            let length = connection.read(&mut request).await.unwrap();
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            connection.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).to_lowercase()
        });
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-west-2"))
            .endpoint_url(url)
            .force_path_style(true)
            .credentials_provider(Credentials::from_keys("key", "secret", None))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .interceptor(account.clone());
        (aws_sdk_s3::Client::from_conf(config.build()), asked)
    }

    fn known() -> Account {
        Account(Arc::new("123456789012".to_owned().into()))
    }

    #[tokio::test]
    async fn a_request_about_a_bucket_names_the_account_and_signs_that() {
        let (client, asked) = client(&known()).await;
        _ = client.delete_bucket().bucket("earth").send().await;
        let asked = asked.await.unwrap();
        assert!(
            asked.contains("x-amz-expected-bucket-owner: 123456789012"),
            "{asked}"
        );
        let (_, signed) = asked.split_once("signedheaders=").unwrap();
        assert!(signed.contains(HEADER), "{asked}");
    }

    #[tokio::test]
    async fn a_bucket_that_is_not_there_yet_has_no_owner() {
        let (client, asked) = client(&known()).await;
        _ = client.create_bucket().bucket("earth").send().await;
        let asked = asked.await.unwrap();
        assert!(!asked.contains(HEADER), "{asked}");
    }

    #[tokio::test]
    async fn before_the_account_is_known_no_bucket_is_asked_for() {
        let (client, asked) = client(&Account::default()).await;
        let refused = client.delete_bucket().bucket("earth").send().await;
        assert!(refused.is_err());
        assert!(!asked.is_finished());
        asked.abort();
    }
}
