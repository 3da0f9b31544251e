//! IAM's answers as Ceph RGW gives them, in the form that the SDK reads.
//!
//! Measured on 16.2.15: errors come in S3's form; `ResponseMetadata` comes before the result, where the
//! SDK takes the first element for the result; tags come as `<Key><Key>…</Key></Key>` without `member`.

use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt as _;

/// Answers of IAM are a few kilobytes.
const LONGEST: usize = 1024 * 1024;

/// Reads every answer whole, and hands it on in IAM's form.
#[derive(Debug)]
pub(super) struct InIamsForm<T>(pub T);

impl HttpClient for InIamsForm<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(InIamsForm(self.0.http_connector(settings, components)))
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

impl HttpConnector for InIamsForm<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let mut answer = answer.await?;
            let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
            let body = http_body_util::Limited::new(body, LONGEST).collect().await;
            let body = body.map_err(ConnectorError::io)?.to_bytes();
            let text = in_iams_form(&String::from_utf8_lossy(&body));
            answer.headers_mut().remove("content-length");
            *answer.body_mut() = SdkBody::from(text);
            Ok(answer)
        })
    }
}

fn in_iams_form(answer: &str) -> String {
    let mut answer = answer.to_owned();
    if let Some((head, error)) = answer.split_once("<Error>")
        && !answer.contains("<ErrorResponse")
    {
        answer = format!("{head}<ErrorResponse><Error>{error}</ErrorResponse>");
    }
    const METADATA: (&str, &str) = ("<ResponseMetadata>", "</ResponseMetadata>");
    if let Some((before, rest)) = answer.split_once(METADATA.0)
        && let Some((_, after)) = rest.split_once(METADATA.1)
    {
        // Nobody reads it.
        answer = format!("{before}{after}");
    }
    for (theirs, iams) in [
        ("<Key><Key>", "<member><Key>"),
        ("</Key></Key>", "</Key>"),
        ("<Value><Value>", "<Value>"),
        ("</Value></Value>", "</Value></member>"),
    ] {
        answer = answer.replace(theirs, iams);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ceph_answers_is_turned_into_iams_form() {
        for (theirs, iams) in [
            (
                "<Error><Code>NoSuchEntity</Code></Error>",
                "<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>",
            ),
            (
                "<A><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata><B>x</B></A>",
                "<A><B>x</B></A>",
            ),
            (
                "<Tags><Key><Key>a</Key></Key><Value><Value>b</Value></Value></Tags>",
                "<Tags><member><Key>a</Key><Value>b</Value></member></Tags>",
            ),
        ] {
            assert_eq!(in_iams_form(theirs), iams);
        }
    }

    #[test]
    fn iams_own_form_stays() {
        for answer in [
            "<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>",
            "<Tags><member><Key>a</Key><Value>b</Value></member></Tags>",
        ] {
            assert_eq!(in_iams_form(answer), answer);
        }
    }
}
