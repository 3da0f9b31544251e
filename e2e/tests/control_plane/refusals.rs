//! What a user reads when there are no credentials: the refusal, in the SDK's own exception.

use hubstorage_e2e::HostPod;
use serde_json::{Value, json};

use crate::forge::{Forge, claims};
use crate::hub::{CREATOR, Hub, said, token_of};

/// Asks as boto3 does, once for each of CASES: a name, a path at the agent, and the file with the token.
/// Prints the texts of the exceptions. botocore asks three times, a second apart: all at once here.
const ASK: &str = "
import concurrent.futures, json, os
from botocore.credentials import ContainerProvider
url = os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI']
def ask(case):
    name, path, file = case
    environ = {
        'AWS_CONTAINER_CREDENTIALS_FULL_URI': url.replace('/v1/credentials', path),
        'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE': file,
    }
    try:
        ContainerProvider(environ).load()
        return name, 'it was given credentials'
    except Exception as error:
        return name, str(error)
cases = CASES
with concurrent.futures.ThreadPoolExecutor(len(cases)) as threads:
    print(json.dumps(dict(threads.map(ask, cases))))";

/// The file of the pod's own token.
fn file_of(pod: &HostPod) -> String {
    pod.token_path("hubstorage.io")
        .unwrap()
        .display()
        .to_string()
}

#[tokio::test]
async fn every_refusal_stands_in_one_line_in_the_users_traceback_with_the_way_out() {
    let hub = Hub::ready("refusals").await;
    let alice = hub.pod("alice", "alice").await;
    let (token, file) = (token_of(&alice), file_of(&alice));
    let forge = Forge::of_the_api_server(&hub.platform).await;
    let expired = {
        let mut claims = claims(&token);
        claims["exp"] = json!(claims["iat"].as_i64().unwrap() - 60);
        forge.sign(&claims)
    };
    // A server of hers that was deleted, one that somebody else made, and one that is nobody's.
    let gone = hub.pod("gone", "alice").await;
    let gone_token = token_of(&gone);
    gone.delete().await.unwrap();
    let mut strangers = hub.notebook("strangers", "alice");
    strangers["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "hubstorage.io", "path": "token", "expirationSeconds": 3600}}]}}]);
    let mut nobodys = strangers.clone();
    nobodys["metadata"]["name"] = json!("jupyter-nobodys");
    nobodys["metadata"]["annotations"] = json!({});
    let strangers = hub.pod_by("stranger", strangers).await.unwrap();
    let nobodys = hub.pod_by(CREATOR, nobodys).await.unwrap();

    let given = |name: &str, token: &str| {
        let path = format!("{file}-{name}");
        std::fs::write(&path, token).unwrap();
        path
    };
    let credentials = "/v1/credentials";
    // The code, how it is brought about, and the way out that is told.
    let cases = [
        (
            "NotFound",
            "/v1/credential",
            file.clone(),
            "Set AWS_CONTAINER_CREDENTIALS_FULL_URI to",
        ),
        (
            "TokenMissing",
            credentials,
            given("missing", ""),
            "restart your server",
        ),
        (
            "TokenTooLong",
            credentials,
            given("long", &"x".repeat(9000)),
            "restart your server",
        ),
        (
            "TokenMalformed",
            credentials,
            given("malformed", "hunter2"),
            "restart your server",
        ),
        (
            "TokenExpired",
            credentials,
            given("expired", &expired),
            "read the file again",
        ),
        (
            "TokenForged",
            credentials,
            given("forged", &forge.with_another_key().sign(&claims(&token))),
            "unchanged",
        ),
        (
            "TokenRevoked",
            credentials,
            given("revoked", &gone_token),
            "restart the server",
        ),
        (
            "StampUntrusted",
            credentials,
            file_of(&strangers),
            "start the server through the hub",
        ),
        (
            "UsernameMissing",
            credentials,
            file_of(&nobodys),
            "KubeSpawner sets it",
        ),
    ];

    let asked: Vec<_> = cases
        .iter()
        .map(|(code, path, file, _)| [*code, *path, file.as_str()])
        .collect();
    let texts = said(&alice, &ASK.replace("CASES", &json!(asked).to_string())).await;
    let texts: Value = serde_json::from_str(&texts).unwrap();

    for (code, _, _, way_out) in cases {
        let text = texts[code].as_str().unwrap();
        assert!(text.contains(&format!("\"code\":\"{code}\"")), "{text}");
        assert!(text.contains(way_out), "{way_out:?} is not in {text}");
        assert!(!text.contains('\n'), "{text}");
        assert!(!text.contains(&token), "{code}");
    }
    hub.remove().await;
}
