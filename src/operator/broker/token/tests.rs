//! Tokens that this cluster issued, and all others.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_767_225_600;

/// A token that was signed with RS256 by a key that nobody has any more, good for an hour from
/// [`NOW`], and the modulus of that key.
const RS256_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYS0xIn0.eyJhdWQiOlsiaHVic3RvcmFnZS5pbyJdLCJleHAiOjE3NjcyMjkyMDAsImlh",
    "dCI6MTc2NzIyNTYwMCwiaXNzIjoiaHR0cHM6Ly9rdWJlcm5ldGVzLmRlZmF1bHQuc3ZjIiwibmJmIjoxNzY3MjI1NjAwLCJrdWJl",
    "cm5ldGVzLmlvIjp7Im5hbWVzcGFjZSI6ImVhcnRoIiwicG9kIjp7Im5hbWUiOiJqdXB5dGVyLWJvYiIsInVpZCI6InVpZC0xIn0s",
    "InNlcnZpY2VhY2NvdW50Ijp7Im5hbWUiOiJkZWZhdWx0IiwidWlkIjoic2EtMSJ9fSwic3ViIjoic3lzdGVtOnNlcnZpY2VhY2Nv",
    "dW50OmVhcnRoOmRlZmF1bHQifQ.vmJnFf-nvbfpwwcJKBhKDXeMUVrEpOtmWbV-Mtm8DqykQsBY9kSIr3gH-_LJh43qc5y1yBp-0",
    "hIyEP75XHu11R2o7hzeiuOFhMaYBluJpe6C0FDYF8SiXwwmG-_YVeLUhjmyJ3aOLzc3QXVMsKcWjMZJRwTVB7YMeqS_psqB9tlfo",
    "1F9hBviJhU3tQXfIPYHPhIGLcRsi-LEZSGkyrGRxHLooIfAIcj3zIt0VGVSoxqXWXD0kHoGHUQDuOKkAJaOATJc5VhpIvAERWJdm",
    "cjaJnaAfxygklxeeRGoCtNPxMz6XQ0TfeHLaz4d7bAdmZEZR-3JcJVr5tQrmG5MPosC9w"
);
const RS256_MODULUS: &str = concat!(
    "7Fsj94xUNUC9SCYFfvjzS-trjvqueOBl3M5W-rxrGgMhHW6P4jdTf8doJpd6YJimIssZ90bbZcwKheoRbiXsFKaYY4psKcRMfLRA",
    "83MMtzpJt0Aw3nlg2DQGdkKh_eT0u6oUne2qPCIKa0ChHm_IZ9LRMxfGLlzDWVHu97lyiaqX0VBpbsSiXYiAccPQz5cnO49qVCJK",
    "xUDe2l-eAWdfcK34CXm8gorMFAusx7wsbdAHFZ5TWl7WUIN-C6NItaedmJOmlMgNb1kYYlpKzXScmozpVvi1i1AtYx6zm29H0I_R",
    "GqrhPNg_rfmFdw-lI6Vajr9STO6yI3Cm0SwgCvH5Hw"
);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Signs as an API server does.
struct Issuer {
    signing: EncodingKey,
    key: Key,
}

impl Issuer {
    fn new() -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let signing = EncodingKey::from_ec_der(&pair.serialize_der());
        let jwk = Jwk::from_encoding_key(&signing, Algorithm::ES256).unwrap();
        let key = Key {
            algorithm: Algorithm::ES256,
            decoding: jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap(),
        };
        Self { signing, key }
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("key-1".to_owned());
        jsonwebtoken::encode(&header, claims, &self.signing).unwrap()
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://kubernetes.default.svc", "aud": ["hubstorage.io"],
        "iat": NOW, "nbf": NOW, "exp": NOW + 3600,
        "sub": "system:serviceaccount:earth:default",
        "kubernetes.io": {
            "namespace": "earth",
            "pod": {"name": "jupyter-bob", "uid": "uid-1"},
            "serviceaccount": {"name": "default", "uid": "sa-1"},
        },
    })
}

fn with(edit: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims();
    edit(&mut claims);
    claims
}

fn check(token: &str, key: &Key, now: i64) -> Result<PodIdentity, TokenError> {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::AUTHORIZATION,
        format!("Bearer {token}").parse().unwrap(),
    );
    Presented::new(&headers, at(now))?.verify_with(key)
}

fn bob() -> PodIdentity {
    PodIdentity {
        namespace: "earth".into(),
        name: "jupyter-bob".into(),
        uid: "uid-1".into(),
        service_account: "default".into(),
    }
}

#[test]
fn a_token_of_this_cluster_for_us_proves_its_pod() {
    let issuer = Issuer::new();
    assert_eq!(check(&issuer.sign(&claims()), &issuer.key, NOW), Ok(bob()));
    let one = with(|claims| claims["aud"] = json!("hubstorage.io"));
    assert_eq!(check(&issuer.sign(&one), &issuer.key, NOW), Ok(bob()));
}

#[test]
fn a_token_signed_with_rs256_proves_its_pod() {
    let decoding = jsonwebtoken::DecodingKey::from_rsa_components(RS256_MODULUS, "AQAB").unwrap();
    let key = Key {
        algorithm: Algorithm::RS256,
        decoding,
    };
    assert_eq!(check(RS256_TOKEN, &key, NOW), Ok(bob()));
    let (message, signature) = RS256_TOKEN.rsplit_once('.').unwrap();
    let forged = format!("{message}.A{}", &signature[1..]);
    assert_eq!(check(&forged, &key, NOW), Err(TokenError::TokenForged));
}

#[test]
fn a_token_for_another_audience_is_refused() {
    let issuer = Issuer::new();
    for audience in [
        json!(["https://kubernetes.default.svc"]),
        json!([]),
        json!("hubstorage.io.evil"),
        json!(["HUBSTORAGE.IO"]),
    ] {
        let token = issuer.sign(&with(|claims| claims["aud"] = audience));
        assert_eq!(
            check(&token, &issuer.key, NOW),
            Err(TokenError::TokenAudience)
        );
    }
}

#[test]
fn an_expired_token_is_refused_and_so_is_one_of_the_future() {
    let issuer = Issuer::new();
    let token = issuer.sign(&claims());
    assert_eq!(check(&token, &issuer.key, NOW + 3629), Ok(bob()));
    assert_eq!(
        check(&token, &issuer.key, NOW + 3630),
        Err(TokenError::TokenExpired)
    );
    assert_eq!(check(&token, &issuer.key, NOW - 30), Ok(bob()));
    assert_eq!(
        check(&token, &issuer.key, NOW - 31),
        Err(TokenError::TokenNotYetValid)
    );
}

#[test]
fn a_token_that_somebody_else_signed_is_forged() {
    let (issuer, somebody) = (Issuer::new(), Issuer::new());
    assert_eq!(
        check(&somebody.sign(&claims()), &issuer.key, NOW),
        Err(TokenError::TokenForged)
    );
}

#[test]
fn claims_cannot_be_exchanged_under_a_good_signature() {
    let issuer = Issuer::new();
    let (bobs, eves) = (
        issuer.sign(&claims()),
        issuer.sign(&with(|claims| claims["sub"] = json!("eve"))),
    );
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (bobs, eves) = (parts(&bobs), parts(&eves));
    let mixed = format!("{}.{}.{}", bobs[0], bobs[1], eves[2]);
    assert_eq!(
        check(&mixed, &issuer.key, NOW),
        Err(TokenError::TokenForged)
    );
}

#[test]
fn a_token_without_signature_or_with_a_shared_secret_is_refused() {
    let issuer = Issuer::new();
    // {"alg":"none","kid":"key-1"}
    let claims_part = issuer.sign(&claims()).split('.').nth(1).unwrap().to_owned();
    let none = format!("eyJhbGciOiJub25lIiwia2lkIjoia2V5LTEifQ.{claims_part}.");
    assert_eq!(
        check(&none, &issuer.key, NOW),
        Err(TokenError::TokenAlgorithm)
    );

    // The public key taken for the secret of an HMAC.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("key-1".to_owned());
    let public = issuer.key.decoding.try_get_as_bytes().unwrap();
    let confused =
        jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(public)).unwrap();
    assert_eq!(
        check(&confused, &issuer.key, NOW),
        Err(TokenError::TokenAlgorithm)
    );
}

#[test]
fn a_key_decides_the_algorithm_and_not_the_token() {
    let issuer = Issuer::new();
    let rsa = jsonwebtoken::DecodingKey::from_rsa_components(RS256_MODULUS, "AQAB").unwrap();
    let rsa = Key {
        algorithm: Algorithm::RS256,
        decoding: rsa,
    };
    assert_eq!(
        check(&issuer.sign(&claims()), &rsa, NOW),
        Err(TokenError::TokenAlgorithm)
    );
    assert_eq!(
        check(RS256_TOKEN, &issuer.key, NOW),
        Err(TokenError::TokenAlgorithm)
    );
}

#[test]
fn a_token_that_is_bound_to_no_pod_is_refused() {
    let issuer = Issuer::new();
    let edits: [fn(&mut Value); 4] = [
        |claims| claims["kubernetes.io"] = Value::Null,
        |claims| claims["kubernetes.io"]["pod"] = Value::Null,
        |claims| claims["kubernetes.io"]["pod"]["uid"] = json!(""),
        |claims| claims["kubernetes.io"]["namespace"] = json!(""),
    ];
    for edit in edits {
        assert_eq!(
            check(&issuer.sign(&with(edit)), &issuer.key, NOW),
            Err(TokenError::TokenUnbound)
        );
    }
}

#[test]
fn what_is_no_token_is_refused_by_what_it_is() {
    let issuer = Issuer::new();
    let long = "a".repeat(TOKEN_LIMIT + 1);
    for (token, error) in [
        ("", TokenError::TokenMissing),
        ("  ", TokenError::TokenMissing),
        ("a", TokenError::TokenMalformed),
        ("a.b", TokenError::TokenMalformed),
        ("a.b.c", TokenError::TokenMalformed),
        ("..", TokenError::TokenMalformed),
        (
            long.as_str(),
            TokenError::TokenTooLong {
                length: TOKEN_LIMIT + 1,
            },
        ),
    ] {
        assert_eq!(check(token, &issuer.key, NOW), Err(error), "{token:.20}");
    }
    assert_eq!(
        Presented::new(&HeaderMap::new(), at(NOW)).err(),
        Some(TokenError::TokenMissing)
    );
}

#[test]
fn a_request_with_two_tokens_is_refused() {
    let issuer = Issuer::new();
    let mut headers = HeaderMap::new();
    for _ in 0..2 {
        headers.append(
            header::AUTHORIZATION,
            format!("Bearer {}", issuer.sign(&claims()))
                .parse()
                .unwrap(),
        );
    }
    assert_eq!(
        Presented::new(&headers, at(NOW)).err(),
        Some(TokenError::TokenMalformed)
    );
}
