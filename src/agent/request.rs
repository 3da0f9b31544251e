//! Which requests may be forwarded. Pure: the head of a request in, a token or a refusal out.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, Method, Request, header};

use crate::refusal::Refusal;

/// The one path, here and at the broker.
pub const CREDENTIALS_PATH: &str = "/v1/credentials";

/// Longest token taken, in bytes: the broker takes no longer one. A projected service account token
/// is about 1 KiB.
pub const TOKEN_LIMIT: usize = 8 * 1024;

/// Headers that proxies add. `X-Forwarded-Proto` alone is not among them: service meshes set it on a
/// pod's own requests.
const PROXY_HEADERS: [&str; 3] = ["forwarded", "x-forwarded-for", "x-forwarded-host"];

/// A string in the form of a JSON Web Token. Whether it is a good one is the broker's to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

impl Token {
    /// `Bearer …`, marked as sensitive.
    #[must_use]
    pub fn authorization(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// The token of a request that only an SDK inside a pod can have made. `local` is the address that the
/// connection was made to.
///
/// # Errors
/// The first reason not to forward it. Where it comes from is looked at first, so that a web page
/// learns nothing, not even which paths exist.
pub fn token_of<B>(request: &Request<B>, local: SocketAddr) -> Result<Token, Refusal> {
    let headers = request.headers();
    for name in PROXY_HEADERS {
        if headers.contains_key(name) {
            return Err(Refusal::Proxied {
                header: name,
                host: local.ip().to_canonical().to_string(),
            });
        }
    }
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal::FromBrowser);
    }
    check_host(request, local)?;
    if request.uri().path() != CREDENTIALS_PATH {
        return Err(Refusal::NotFound {
            expected: canonical(local).to_string(),
        });
    }
    if request.method() != Method::GET {
        return Err(Refusal::MethodNotAllowed);
    }
    authorization(headers)
}

/// A page that rebinds its own name to our address still sends that name as `Host`, so only the address
/// is accepted, and the one name that no DNS can rebind.
fn check_host<B>(request: &Request<B>, local: SocketAddr) -> Result<(), Refusal> {
    let wrong = |found: &str| {
        Err(Refusal::WrongHost {
            found: found.chars().take(100).collect(),
            expected: canonical(local).to_string(),
        })
    };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return wrong("no Host, or to several");
    };
    let host = String::from_utf8_lossy(host.as_bytes());
    if !names(&host, local) {
        return wrong(&host);
    }
    match request.uri().authority() {
        Some(authority) if !names(authority.as_str(), local) => wrong(authority.as_str()),
        _ => Ok(()),
    }
}

fn names(host: &str, local: SocketAddr) -> bool {
    let local = canonical(local);
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address == local;
    }
    // Clients leave the port out when it is HTTP's own.
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (name, port.parse().ok()),
        _ => (host, Some(80)),
    };
    if port != Some(local.port()) {
        return false;
    }
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok_and(|ip| ip == local.ip())
        || (local.ip().is_loopback() && name.eq_ignore_ascii_case("localhost"))
}

/// Without what does not belong into a URL: the mapping of IPv4 into IPv6, scope and flow.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// SDKs send the raw content of the token file; some people add `Bearer` to it.
fn authorization(headers: &HeaderMap) -> Result<Token, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::TokenMissing)?;
    if values.next().is_some() {
        return Err(Refusal::TokenMalformed);
    }
    let text = value.as_bytes().trim_ascii();
    let token = match text.split_at_checked(6) {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case(b"bearer")
                && rest.first().is_none_or(u8::is_ascii_whitespace) =>
        {
            rest.trim_ascii()
        }
        _ => text,
    };
    if token.is_empty() {
        return Err(Refusal::TokenMissing);
    }
    if token.len() > TOKEN_LIMIT {
        return Err(Refusal::TokenTooLong {
            length: token.len(),
            limit: TOKEN_LIMIT,
        });
    }
    if !is_compact_jws(token) {
        return Err(Refusal::TokenMalformed);
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .map_err(|_| Refusal::TokenMalformed)?;
    value.set_sensitive(true);
    Ok(Token(value))
}

/// Three base64url parts joined by dots (RFC 7515, section 7.1).
fn is_compact_jws(token: &[u8]) -> bool {
    let is_base64url = |part: &[u8]| {
        !part.is_empty()
            && part
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    token.split(|byte| *byte == b'.').count() == 3
        && token.split(|byte| *byte == b'.').all(is_base64url)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK_LOCAL: &str = "169.254.170.23:8180";
    const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2ln-_0";

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        request_to("GET", CREDENTIALS_PATH, headers)
    }

    fn request_to(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn code(request: &Request<()>, local: &str) -> Option<&'static str> {
        token_of(request, local.parse().unwrap())
            .err()
            .map(|refusal| refusal.code())
    }

    fn code_for_host(host: &str, local: &str) -> Option<&'static str> {
        code(&request(&[("host", host), ("authorization", JWT)]), local)
    }

    #[test]
    fn the_raw_content_of_the_token_file_becomes_a_bearer_token() {
        let request = request(&[("host", LINK_LOCAL), ("authorization", JWT)]);

        let token = token_of(&request, LINK_LOCAL.parse().unwrap()).unwrap();

        assert_eq!(token.authorization(), format!("Bearer {JWT}"));
        assert!(token.authorization().is_sensitive());
        assert_eq!(format!("{token:?}"), "Token(redacted)");
    }

    #[test]
    fn a_bearer_prefix_and_white_space_around_the_token_are_tolerated() {
        for text in [
            format!("Bearer {JWT}"),
            format!("bearer   {JWT}  "),
            format!("\t{JWT} "),
        ] {
            let request = request(&[("host", LINK_LOCAL), ("authorization", &text)]);

            let token = token_of(&request, LINK_LOCAL.parse().unwrap()).unwrap();

            assert_eq!(token.authorization(), format!("Bearer {JWT}"));
        }
    }

    #[test]
    fn a_request_without_a_token_is_told_which_variable_names_the_file() {
        for headers in [
            &[("host", LINK_LOCAL)][..],
            &[("host", LINK_LOCAL), ("authorization", "")],
            &[("host", LINK_LOCAL), ("authorization", "Bearer ")],
        ] {
            let refusal = token_of(&request(headers), LINK_LOCAL.parse().unwrap()).unwrap_err();

            assert_eq!(refusal, Refusal::TokenMissing);
            assert!(
                refusal
                    .to_string()
                    .contains("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
            );
        }
    }

    #[test]
    fn a_token_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() {
        let fits = format!("a.b.{}", "c".repeat(TOKEN_LIMIT - 4));
        let longer = format!("{fits}c");

        assert_eq!(
            code(
                &request(&[("host", LINK_LOCAL), ("authorization", &fits)]),
                LINK_LOCAL
            ),
            None
        );
        assert_eq!(
            code(
                &request(&[("host", LINK_LOCAL), ("authorization", &longer)]),
                LINK_LOCAL
            ),
            Some("TokenTooLong")
        );
    }

    #[test]
    fn what_is_not_a_json_web_token_is_not_forwarded() {
        for text in [
            "Basic Ym9iOmJvYg==",
            "a.b",
            "a.b.c.d",
            "a..c",
            "a.b.c d",
            "a.b.c=",
            "a.b.ç",
        ] {
            let request = request(&[("host", LINK_LOCAL), ("authorization", text)]);

            assert_eq!(code(&request, LINK_LOCAL), Some("TokenMalformed"), "{text}");
        }
    }

    #[test]
    fn two_authorization_headers_are_one_too_many() {
        let request = request(&[
            ("host", LINK_LOCAL),
            ("authorization", JWT),
            ("authorization", JWT),
        ]);

        assert_eq!(code(&request, LINK_LOCAL), Some("TokenMalformed"));
    }

    #[test]
    fn what_a_proxy_passed_on_is_refused() {
        for name in ["X-Forwarded-For", "x-forwarded-host", "Forwarded"] {
            let request = request(&[
                ("host", LINK_LOCAL),
                ("authorization", JWT),
                (name, "for=10.0.0.1"),
            ]);

            assert_eq!(code(&request, LINK_LOCAL), Some("Proxied"), "{name}");
        }
    }

    #[test]
    fn what_a_web_page_sent_is_refused_whatever_its_origin() {
        for origin in ["https://evil.example", "http://169.254.170.23:8180", "null"] {
            let request = request(&[
                ("host", LINK_LOCAL),
                ("authorization", JWT),
                ("origin", origin),
            ]);

            assert_eq!(code(&request, LINK_LOCAL), Some("FromBrowser"), "{origin}");
        }
    }

    #[test]
    fn the_host_must_be_the_address_that_the_connection_was_made_to() {
        assert_eq!(code_for_host(LINK_LOCAL, LINK_LOCAL), None);
        for host in [
            "169.254.170.23",
            "169.254.170.23:8181",
            "169.254.170.2:8180",
            "rebound.evil.example:8180",
            "169.254.170.23:8180.evil.example",
            "localhost:8180",
            "",
        ] {
            assert_eq!(
                code_for_host(host, LINK_LOCAL),
                Some("WrongHost"),
                "{host:?}"
            );
        }
    }

    #[test]
    fn a_loopback_listener_is_also_called_localhost() {
        assert_eq!(code_for_host("localhost:8180", "127.0.0.1:8180"), None);
        assert_eq!(code_for_host("LocalHost:8180", "[::1]:8180"), None);
        assert_eq!(
            code_for_host("localhost:81", "127.0.0.1:8180"),
            Some("WrongHost")
        );
        assert_eq!(
            code_for_host("localhost.evil.example:8180", "127.0.0.1:8180"),
            Some("WrongHost")
        );
    }

    #[test]
    fn the_port_may_be_left_out_only_when_it_is_80() {
        assert_eq!(code_for_host("169.254.170.23", "169.254.170.23:80"), None);
        assert_eq!(code_for_host("localhost", "127.0.0.1:80"), None);
        assert_eq!(code_for_host("[fd00:ec2::23]", "[fd00:ec2::23]:80"), None);
        assert_eq!(
            code_for_host("localhost", "127.0.0.1:8180"),
            Some("WrongHost")
        );
    }

    #[test]
    fn ipv6_addresses_are_compared_by_value() {
        assert_eq!(
            code_for_host("[fd00:ec2:0:0::23]:8180", "[fd00:ec2::23]:8180"),
            None
        );
        assert_eq!(
            code_for_host("127.0.0.1:8180", "[::ffff:127.0.0.1]:8180"),
            None
        );
        assert_eq!(
            code_for_host("[fd00:ec2::24]:8180", "[fd00:ec2::23]:8180"),
            Some("WrongHost")
        );
    }

    #[test]
    fn a_request_without_a_host_or_with_two_is_refused() {
        let none = request(&[("authorization", JWT)]);
        let two = request(&[
            ("host", LINK_LOCAL),
            ("host", LINK_LOCAL),
            ("authorization", JWT),
        ]);

        assert_eq!(code(&none, LINK_LOCAL), Some("WrongHost"));
        assert_eq!(code(&two, LINK_LOCAL), Some("WrongHost"));
    }

    #[test]
    fn an_absolute_request_target_must_name_the_listener_too() {
        let headers = [("host", LINK_LOCAL), ("authorization", JWT)];
        let ours = request_to("GET", "http://169.254.170.23:8180/v1/credentials", &headers);
        let other = request_to("GET", "http://evil.example/v1/credentials", &headers);

        assert_eq!(code(&ours, LINK_LOCAL), None);
        assert_eq!(code(&other, LINK_LOCAL), Some("WrongHost"));
    }

    #[test]
    fn other_paths_and_methods_are_unknown() {
        let headers = [("host", LINK_LOCAL), ("authorization", JWT)];
        for path in ["/", "/v1/credentials/", "/v1/Credentials", "/v2/x"] {
            assert_eq!(
                code(&request_to("GET", path, &headers), LINK_LOCAL),
                Some("NotFound"),
                "{path}"
            );
        }
        for method in ["POST", "PUT", "HEAD", "OPTIONS", "DELETE"] {
            assert_eq!(
                code(&request_to(method, CREDENTIALS_PATH, &headers), LINK_LOCAL),
                Some("MethodNotAllowed"),
                "{method}"
            );
        }
    }
}
