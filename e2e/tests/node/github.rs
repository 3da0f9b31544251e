//! How a user gets a credential for git, in a notebook server: gh-scoped-creds finds the GitHub App of the hub.
//!
//! It speaks to github.com alone, which a proxy in the server stands in for.

use hubstorage_e2e::components::hub::HUB;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::cluster::{Cluster, storage};

const USER: &str = "github";

/// What stands for github.com.
const GITHUB: &str = include_str!("../../python/github.py");

/// Asks for the repository's refs before and after the device flow; tells of each how it ended and what it said.
const PUSH: &str = "
import json, os, pathlib, subprocess, sys, tempfile
home = pathlib.Path(tempfile.mkdtemp())
(home / 'github.py').write_text(SCRIPT)
(home / 'github.pem').write_text(CERTIFICATE)
(home / 'github.key').write_text(KEY)
github = subprocess.Popen(
    [sys.executable, 'github.py', 'github.pem', 'github.key', CLIENT_ID], cwd=home, stdout=subprocess.PIPE, text=True)
try:
    env = dict(
        os.environ, HOME=str(home), HTTPS_PROXY=f'http://127.0.0.1:{github.stdout.readline().strip()}',
        REQUESTS_CA_BUNDLE=str(home / 'github.pem'), GIT_SSL_CAINFO=str(home / 'github.pem'), GIT_TERMINAL_PROMPT='0')
    def run(*command):
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        return [ended.returncode == 0, ended.stdout + ended.stderr]
    refs = 'git', 'ls-remote', 'https://github.com/ocean/notes'
    print(json.dumps([run(*refs), run('gh-scoped-creds'), run(*refs)]), end='')
finally:
    github.kill()
";

#[tokio::test]
async fn gh_scoped_creds_finds_the_hubs_app_and_stores_a_credential_that_git_uses() {
    let cluster = Cluster::enter().await;
    let documented = include_str!("../../../docs/examples/hub-environment.yaml");
    let documented: Value = serde_yaml::from_str(documented).unwrap();
    let app = documented["spec"]["github"].clone();
    let mut hub = storage(HUB.namespace);
    hub["spec"]["github"] = app.clone();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["github.com".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let values = [
        ("SCRIPT", json!(GITHUB)),
        ("CERTIFICATE", json!(certificate.pem())),
        ("KEY", json!(key.serialize_pem())),
        ("CLIENT_ID", app["clientID"].clone()),
    ];
    // A JSON string of ASCII letters is one of Python's.
    let values = values.map(|(name, value)| format!("{name} = {value}\n"));

    let declared = async { cluster.apply(&hub).await };
    let pushed = async {
        cluster.started_with_the_latest(USER).await;
        let code = values.concat() + PUSH;
        let said = cluster.hub(&HUB).run(USER, &code).await.unwrap();
        cluster.hub(&HUB).stop(USER).await.unwrap();
        let said: Vec<(bool, String)> = serde_json::from_str(&said.ok().unwrap()).unwrap();
        let [before, flow, after] = said.try_into().unwrap();
        assert!(!before.0 && before.1.contains("github.com"), "{before:?}");
        assert!(flow.0, "{flow:?}");
        let url = app["appURL"].as_str().unwrap();
        for words in ["enter the code: WDJB-MJHT", "8.0 hours", url] {
            assert!(flow.1.contains(words), "{words} in {flow:?}");
        }
        assert!(after.0 && after.1.contains("refs/heads/main"), "{after:?}");
    };
    let removed = async { cluster.apply(&storage(HUB.namespace)).await };
    cluster.without(declared, pushed, removed).await;
}
