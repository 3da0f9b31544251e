//! Which calls are tried, and what each has to answer.

use hubstorage_core::names::{BucketName, Prefix};

use super::answer::Expect;
use super::service_account;
use super::wire::{Request, Service};
use crate::Credential;

/// Who tries what on whom.
pub(super) struct Subjects<'a> {
    pub bucket: &'a BucketName,
    pub session: &'a Credential,
    pub own: &'a Prefix,
    pub foreign: &'a Prefix,
    pub role: &'a str,
    /// The last part of keys under which there is nothing, and that nobody can guess: whoever may write to
    /// the whole bucket could put an object there, and keep the probe from telling anything.
    pub absent: &'a str,
}

/// One call of the probe.
pub(super) struct Step {
    /// As it stands in status.
    pub name: &'static str,
    pub request: fn(&Subjects<'_>) -> Result<Request, String>,
    pub expect: Expect,
    /// Whether it is a call that AWS does not have.
    pub only_compatibles: bool,
}

const fn step(
    name: &'static str,
    request: fn(&Subjects<'_>) -> Result<Request, String>,
    expect: Expect,
) -> Step {
    Step {
        name,
        request,
        expect,
        only_compatibles: false,
    }
}

/// The own prefix is reached.
pub(super) const OWN: &[Step] = &[
    step(
        "get an own key that is not there",
        |s| own(s, "GET", s.absent),
        Expect::NoSuchKey,
    ),
    step(
        "list the own prefix",
        |s| list(s, &format!("{}/", s.own)),
        Expect::Success,
    ),
];

/// The own prefix can be written to.
pub(super) const OWN_WRITES: &[Step] = &[
    step(
        "put an own object",
        |s| own(s, "PUT", "probe"),
        Expect::Success,
    ),
    step(
        "get the own object",
        |s| own(s, "GET", "probe"),
        Expect::Success,
    ),
    step(
        "delete the own object",
        |s| own(s, "DELETE", "probe"),
        Expect::Success,
    ),
];

/// Everything else is refused. Deletes come after what might create, so that a store that
/// refuses nothing is left clean.
pub(super) const FOREIGN: &[Step] = &[
    step("get", |s| foreign(s, "GET"), Expect::Refused),
    step("head", |s| foreign(s, "HEAD"), Expect::Refused),
    step("put", |s| foreign(s, "PUT"), Expect::Refused),
    step(
        "copy from the other prefix",
        |s| {
            Ok(own(s, "PUT", "copy")?.header(
                "x-amz-copy-source",
                format!("{}/{}/{}", s.bucket, s.foreign, s.absent),
            ))
        },
        Expect::Refused,
    ),
    step(
        "copy to the other prefix",
        |s| {
            Ok(foreign(s, "PUT")?.header(
                "x-amz-copy-source",
                format!("{}/{}/{}", s.bucket, s.own, s.absent),
            ))
        },
        Expect::Refused,
    ),
    step(
        "start an upload",
        |s| Ok(foreign(s, "POST")?.query("uploads=")),
        Expect::Refused,
    ),
    step("delete", |s| foreign(s, "DELETE"), Expect::Refused),
    step(
        "bulk delete",
        |s| {
            let key = format!("{}/{}", s.foreign, s.absent);
            let body = format!("<Delete><Object><Key>{key}</Key></Object></Delete>");
            Ok(Request::new("POST", s.bucket, "")
                .query("delete=")
                .checked_body(body))
        },
        Expect::RefusedForEachKey,
    ),
    step(
        "get through ..",
        |s| through(s, ".."),
        Expect::RefusedOrLiteral(".."),
    ),
    step(
        "get through %2e%2e",
        |s| through(s, "%2e%2e"),
        Expect::RefusedOrLiteral(".."),
    ),
    step(
        "get through //",
        |s| {
            Ok(Request::new(
                "GET",
                s.bucket,
                &format!("/{}/{}", s.foreign, s.absent),
            ))
        },
        Expect::RefusedOrMalformed,
    ),
    step(
        "list the other prefix",
        |s| list(s, &format!("{}/", s.foreign)),
        Expect::Refused,
    ),
    step(
        "list the other prefix by the older call",
        |s| Ok(Request::new("GET", s.bucket, "").query(&format!("prefix={}%2F", s.foreign))),
        Expect::Refused,
    ),
    step(
        "list without prefix",
        |s| Ok(Request::new("GET", s.bucket, "").query("list-type=2")),
        Expect::Refused,
    ),
    step(
        "list the own prefix without slash",
        |s| list(s, s.own.as_str()),
        Expect::Refused,
    ),
    step(
        "list versions",
        |s| {
            Ok(Request::new("GET", s.bucket, "")
                .query(&format!("prefix={}%2F&versions=", s.foreign)))
        },
        Expect::Refused,
    ),
    step(
        "list uploads",
        |s| {
            Ok(Request::new("GET", s.bucket, "")
                .query(&format!("prefix={}%2F&uploads=", s.foreign)))
        },
        Expect::Refused,
    ),
    // Allowed, it would be answered with 400: the document is none.
    step(
        "put a bucket policy",
        |s| {
            Ok(Request::new("PUT", s.bucket, "")
                .query("policy=")
                .checked_body("{}".into()))
        },
        Expect::Refused,
    ),
    step(
        "assume a role again",
        |s| {
            let role = s.role.replace(':', "%3A").replace('/', "%2F");
            let form = format!(
                "Action=AssumeRole&Version=2011-06-15&RoleArn={role}&RoleSessionName=probe&DurationSeconds=900"
            );
            Ok(Request::to(Service::Sts, "POST", "/")
                .header("content-type", "application/x-www-form-urlencoded".into())
                .body(form.into_bytes()))
        },
        Expect::Refused,
    ),
    Step {
        name: "make a service account",
        request: |s| {
            let body = service_account::request(s.session.secret_access_key.expose())?;
            Ok(Request::to(
                Service::MinioAdmin,
                "PUT",
                "/minio/admin/v3/add-service-account",
            )
            .body(body))
        },
        expect: Expect::RefusedOrNotOffered,
        only_compatibles: true,
    },
];

fn own(s: &Subjects<'_>, method: &'static str, name: &str) -> Result<Request, String> {
    Ok(Request::new(method, s.bucket, &format!("{}/{name}", s.own)))
}

fn foreign(s: &Subjects<'_>, method: &'static str) -> Result<Request, String> {
    Ok(Request::new(
        method,
        s.bucket,
        &format!("{}/{}", s.foreign, s.absent),
    ))
}

fn list(s: &Subjects<'_>, prefix: &str) -> Result<Request, String> {
    let prefix = prefix.replace('/', "%2F").replace('@', "%40");
    Ok(Request::new("GET", s.bucket, "").query(&format!("list-type=2&prefix={prefix}")))
}

/// From the own prefix up and down again.
fn through(s: &Subjects<'_>, up: &str) -> Result<Request, String> {
    Ok(Request::new(
        "GET",
        s.bucket,
        &format!("{}/{up}/{}/{}", s.own, s.foreign, s.absent),
    ))
}
