//! What an answer says about isolation.

/// An answer of the store, as far as the probe reads it.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The error code in the body; empty if there is none.
    pub code: String,
    /// The body.
    pub body: String,
}

/// What a call has to answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expect {
    /// 2xx.
    Success,
    /// 404, and of the key: the session may read, there is only nothing.
    NoSuchKey,
    /// 403 and nothing else. A 404 says that the store has looked, a 400 that it has read on.
    Refused,
    /// 403, or 200 in which every key is answered with `AccessDenied`.
    RefusedForEachKey,
    /// 403, or 400 for a key that the store does not take.
    RefusedOrMalformed,
    /// The same, or 404 for the key exactly as it was asked: AWS does not resolve `..`, so that
    /// such a key lies under the own prefix. It holds this text.
    RefusedOrLiteral(&'static str),
    /// 403, or no such call: 404 of a bucket (the path read as one), 405, 501.
    RefusedOrNotOffered,
}

/// Whether the answer is the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is.
    AsExpected,
    /// It is not: a foreign call that was not refused, or an own one that was.
    NotAsExpected(String),
    /// It says nothing about permissions.
    Unclear(String),
}

/// Codes that speak of the session or of the call, not of what it may reach, whatever their
/// status. `XMinioAdminConfigBadJSON`: MinIO could not decrypt the request, which it does before
/// it looks at permissions.
const SAYS_NOTHING: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "InvalidTokenId",
    "MissingContentMD5",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "XAmzContentSHA256Mismatch",
    "XMinioAdminConfigBadJSON",
];

impl Answer {
    pub fn new(status: u16, body: String) -> Self {
        let code =
            between(&body, "<Code>", "</Code>").or_else(|| between(&body, "\"Code\":\"", "\""));
        Self {
            status,
            code: code.unwrap_or_default().to_owned(),
            body,
        }
    }

    /// Status and code, as they stand in a verdict.
    pub fn told(&self) -> String {
        match self.code.as_str() {
            "" => format!("HTTP {}", self.status),
            code => format!("HTTP {} {code}", self.status),
        }
    }
}

impl Expect {
    pub fn read(self, answer: &Answer) -> Reading {
        let says_nothing = SAYS_NOTHING.contains(&answer.code.as_str())
            || matches!(answer.status, 300..=399 | 429 | 500 | 502..=599);
        if says_nothing {
            return Reading::Unclear(answer.told());
        }
        let is_success = (200..300).contains(&answer.status);
        let is_expected = match self {
            Self::Success => is_success,
            Self::NoSuchKey => answer.status == 404 && answer.code == "NoSuchKey",
            Self::Refused => answer.status == 403,
            Self::RefusedForEachKey => {
                answer.status == 403
                    || is_success
                        && answer.body.contains("<Code>AccessDenied</Code>")
                        && !answer.body.contains("<Deleted>")
            }
            Self::RefusedOrMalformed => matches!(answer.status, 400 | 403),
            Self::RefusedOrLiteral(text) => {
                let asked =
                    between(&answer.body, "<Key>", "</Key>").is_some_and(|key| key.contains(text));
                matches!(answer.status, 400 | 403)
                    || answer.status == 404 && answer.code == "NoSuchKey" && asked
            }
            Self::RefusedOrNotOffered => {
                matches!(answer.status, 403 | 405 | 501)
                    || answer.status == 404 && answer.code == "NoSuchBucket"
            }
        };
        if is_expected {
            Reading::AsExpected
        } else {
            Reading::NotAsExpected(answer.told())
        }
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, code: &str) -> Answer {
        Answer::new(
            status,
            format!("<Error><Code>{code}</Code><Message>m</Message></Error>"),
        )
    }

    fn is_expected(expect: Expect, answer: &Answer) -> bool {
        expect.read(answer) == Reading::AsExpected
    }

    #[test]
    fn only_403_is_a_refusal() {
        assert!(is_expected(Expect::Refused, &error(403, "AccessDenied")));
        for answer in [
            error(404, "NoSuchKey"),
            error(400, "MalformedPolicy"),
            Answer::new(200, String::new()),
        ] {
            assert!(
                matches!(Expect::Refused.read(&answer), Reading::NotAsExpected(_)),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn an_answer_about_the_session_proves_nothing_even_as_403() {
        for answer in [
            error(403, "SignatureDoesNotMatch"),
            error(400, "ExpiredToken"),
            error(503, "SlowDown"),
        ] {
            assert!(
                matches!(Expect::Refused.read(&answer), Reading::Unclear(_)),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn a_bulk_delete_is_refused_only_if_every_key_is() {
        let answer = |body: &str| Answer::new(200, format!("<DeleteResult>{body}</DeleteResult>"));
        let denied = "<Error><Code>AccessDenied</Code></Error>";
        let deleted = "<Deleted><Key>k</Key></Deleted>";
        assert!(is_expected(Expect::RefusedForEachKey, &answer(denied)));
        assert!(!is_expected(Expect::RefusedForEachKey, &answer(deleted)));
        assert!(!is_expected(
            Expect::RefusedForEachKey,
            &answer(&format!("{denied}{deleted}"))
        ));
        assert!(!is_expected(Expect::RefusedForEachKey, &answer("")));
    }

    #[test]
    fn a_key_with_dots_may_be_missing_only_under_its_literal_name() {
        let missing = |key: &str| {
            Answer::new(
                404,
                format!("<Error><Code>NoSuchKey</Code><Key>{key}</Key></Error>"),
            )
        };
        assert!(is_expected(
            Expect::RefusedOrLiteral(".."),
            &missing("a/../b/probe")
        ));
        assert!(!is_expected(
            Expect::RefusedOrLiteral(".."),
            &missing("b/probe")
        ));
        assert!(!is_expected(
            Expect::RefusedOrLiteral(".."),
            &error(404, "NoSuchKey")
        ));
    }

    #[test]
    fn a_service_account_is_refused_by_403_or_not_to_be_had() {
        let admin = |status, code: &str| {
            Answer::new(status, format!(r#"{{"Code":"{code}","Message":"m"}}"#))
        };
        for answer in [
            admin(403, "AccessDenied"),
            error(404, "NoSuchBucket"),
            error(405, "MethodNotAllowed"),
        ] {
            assert!(
                is_expected(Expect::RefusedOrNotOffered, &answer),
                "{answer:?}"
            );
        }
        let undecrypted = Expect::RefusedOrNotOffered.read(&admin(400, "XMinioAdminConfigBadJSON"));
        assert!(matches!(undecrypted, Reading::Unclear(_)));
        let read_on = Expect::RefusedOrNotOffered.read(&admin(400, "XMinioMalformedIAMPolicy"));
        assert!(matches!(read_on, Reading::NotAsExpected(_)));
    }
}
