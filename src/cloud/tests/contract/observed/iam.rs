//! IAM's API and STS's, spoken at the store's own endpoint: a form, signed.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt;
use url::Url;
use url::form_urlencoded::Serializer;

/// One of the two, with the version of its API.
#[derive(Clone, Copy)]
pub struct Service {
    name: &'static str,
    version: &'static str,
}

pub const IAM: Service = Service {
    name: "iam",
    version: "2010-05-08",
};
pub const STS: Service = Service {
    name: "sts",
    version: "2011-06-15",
};

/// What the store answers to an action: the body, or the error's code.
pub async fn call(
    service: Service,
    endpoint: &Url,
    region: &str,
    keys: Credentials,
    parameters: &[(&str, &str)],
) -> Result<String, String> {
    let mut form = Serializer::new(String::new());
    form.append_pair("Version", service.version);
    let body = form.extend_pairs(parameters).finish();
    let url = format!("{}/", endpoint.as_str().trim_end_matches('/'));
    let host = url.split('/').nth(2).unwrap();
    let headers = [
        ("host", host),
        ("content-type", "application/x-www-form-urlencoded"),
    ];

    let identity = keys.into();
    let signing = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service.name)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let signable = SignableBody::Bytes(body.as_bytes());
    let signable = SignableRequest::new("POST", &url, headers.into_iter(), signable).unwrap();
    let (instructions, _) = sign(signable, &signing).unwrap().into_parts();
    let mut request = http::Request::post(&url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut request = request.body(SdkBody::from(body)).unwrap();
    instructions.apply_to_request_http1x(&mut request);

    let connector = Connector::builder().build_http();
    let answer = connector.call(HttpRequest::try_from(request).unwrap());
    let answer = answer.await.unwrap();
    let is_success = answer.status().is_success();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    if is_success {
        return Ok(text);
    }
    Err(inside(&text, "Code").unwrap_or_default().to_owned())
}

/// The text of the first element of this name.
pub fn inside<'a>(xml: &'a str, element: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{element}>"))?;
    rest.split_once(&format!("</{element}>"))
        .map(|(text, _)| text)
}
