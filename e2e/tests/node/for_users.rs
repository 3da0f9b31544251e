//! `docs/for-users.md`, as a user runs it: every block of code, in one notebook server.

use hubstorage_e2e::components::hub::HUB;
use hubstorage_e2e::jupyterhub::ServerOptions;
use serde_json::json;

use crate::cluster::Cluster;

const PAGE: &str = include_str!("../../../docs/for-users.md");

const USER: &str = "tutorial";

/// What each block prints, in their order.
const PRINTED: [&str; 11] = [
    "written from a notebook",
    "30.0",
    "20.0",
    "60.0",
    "3",
    "",
    "[[0.0, 1.0], [512.0, 513.0]]",
    "EPSG:4326 262143.0",
    "['tutorial']\nRead-only file system",
    "2",
    "2",
];

/// What the page calls https://data.example.org: there is no web in these servers.
const WEB: &str = "
import functools, http.server, pathlib, threading
web = pathlib.Path('/tmp/web')
web.mkdir(exist_ok=True)
(web / 'stations.csv').write_text('station,depth\\na,10\\nb,20\\n')
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(web))
web = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
threading.Thread(target=web.serve_forever, daemon=True).start()
";

/// Runs the blocks as one notebook does, and gives what each printed.
const RUN: &str = "
import contextlib, io, json
printed, names = [], {}
for block in BLOCKS:
    block = block.replace('https://data.example.org', f'http://127.0.0.1:{web.server_port}')
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(block, 'block', 'exec'), names)
    printed.append(said.getvalue().strip())
print('PRINTED' + json.dumps(printed))
";

fn blocks() -> Vec<&'static str> {
    let blocks = PAGE.split("```python\n").skip(1);
    blocks
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect()
}

#[tokio::test]
async fn every_example_of_the_users_guide_works_as_it_stands() {
    let cluster = Cluster::enter().await;
    let pod = cluster.server(&HUB, USER).await;
    let image = cluster.image_of(&HUB, &pod).await;
    let worked = async {
        let options = ServerOptions::default();
        cluster.until_found(&HUB, USER, &options).await;
        // A JSON string of ASCII letters is one of Python's.
        let code = format!("{WEB}\nBLOCKS = {}\n{RUN}", json!(blocks()));
        let said = cluster.hub(&HUB).run(USER, &code).await.unwrap();
        let said = said.ok().unwrap();
        let (_, printed) = said.split_once("PRINTED").unwrap();
        let printed: Vec<String> = serde_json::from_str(printed).unwrap();
        assert_eq!(printed, PRINTED);
    };
    let shared = cluster.share(&HUB, &image);
    let removed = cluster.remove_folder(&HUB, &[USER]);
    cluster.without(shared, worked, removed).await;
}
