//! A Dask cluster, asked for in a notebook as people do: its workers have the storage of their user, while
//! the user's server runs.

use hubstorage_e2e::components::hub::HUB;
use serde_json::Value;

use crate::cluster::Cluster;

const USER: &str = "jo.smith@example.org";

/// A Zarr store is written from the chunks that two workers hold, and each worker then says what it is given,
/// what it reaches, and what not.
const COMPUTE: &str = "
import os
import dask.array as da
import s3fs
from dask_gateway import Gateway

gateway = Gateway()
cluster = gateway.new_cluster(shutdown_on_close=False)
cluster.scale(2)
client = cluster.get_client()
client.wait_for_workers(2, timeout=180)

url = os.environ['SCRATCH_BUCKET'] + '/ones.zarr'
da.ones((400, 400), chunks=(100, 100)).to_zarr(url, overwrite=True)
print('sum', int(da.from_zarr(url).sum().compute()))

def tell(other):
    files = s3fs.S3FileSystem()
    own = os.environ['SCRATCH_BUCKET']
    files.pipe(f'{own}/{os.uname().nodename}', b'here')
    try:
        files.pipe(f'{own.rsplit(\"/\", 1)[0]}/{other}/stolen', b'loot')
        return own, 'REACHED'
    except PermissionError:
        return own, 'refused'

for own, other in client.run(tell, 'somebody').values():
    print('worker', own == os.environ['SCRATCH_BUCKET'], other)
files = s3fs.S3FileSystem()
print('files', sum('dask-worker' in name for name in files.ls(os.environ['SCRATCH_BUCKET'])))
";

/// Whether a process that starts in a pod now gets credentials, and if not, why.
const ASK: &str = "
import os, urllib.error, urllib.request
token = open(os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE']).read()
url = os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI']
request = urllib.request.Request(url, headers={'Authorization': token})
try:
    print(urllib.request.urlopen(request).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
";

#[tokio::test]
async fn workers_have_the_storage_of_their_user_while_the_users_server_runs() {
    let cluster = Cluster::enter().await;
    cluster.server(&HUB, USER).await;
    let hub = cluster.hub(&HUB);
    let computed = async {
        let said = hub.run(USER, COMPUTE).await.unwrap().ok().unwrap();
        let lines: Vec<&str> = said.lines().collect();
        let expected = [
            "sum 160000",
            "worker True refused",
            "worker True refused",
            "files 2",
        ];
        assert_eq!(lines, expected);

        let pods = cluster
            .get(&[
                "pods",
                "-n",
                HUB.namespace,
                "-l=app.kubernetes.io/name=dask-gateway",
                "-o=json",
            ])
            .await;
        let pods: Value = serde_json::from_str(&pods).unwrap();
        let pods = pods["items"].as_array().unwrap();
        assert_eq!(pods.len(), 3, "a scheduler and two workers: {pods:?}");
        for pod in pods {
            let annotations = &pod["metadata"]["annotations"];
            assert_eq!(annotations["hub.jupyter.org/username"], USER);
            assert_eq!(
                annotations["hubstorage.io/created-by"],
                "system:serviceaccount:earth:dask-gateway-controller"
            );
            let pod = pod["metadata"]["name"].as_str().unwrap();
            assert_eq!(ask(&cluster, pod).await, "200");
        }

        hub.stop(USER).await.unwrap();
        for pod in pods {
            let pod = pod["metadata"]["name"].as_str().unwrap();
            let refused = async || {
                let said = ask(&cluster, pod).await;
                said.starts_with("403") && said.contains("ServerNotRunning")
            };
            cluster
                .until("a worker without a server to be refused", refused)
                .await;
        }
    };
    let remove = async {
        if hub.server(USER).await.unwrap().is_some() {
            hub.stop(USER).await.unwrap();
        }
        let clusters = ["delete", "daskclusters", "--all", "-n", HUB.namespace];
        cluster.kubectl(&clusters).await;
    };
    cluster.without(async {}, computed, remove).await;
}

async fn ask(cluster: &Cluster, pod: &str) -> String {
    let said = cluster
        .kubectl(&["exec", "-n", HUB.namespace, pod, "--", "python3", "-c", ASK])
        .await;
    said.trim().to_owned()
}
