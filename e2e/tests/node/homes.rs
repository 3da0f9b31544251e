//! Homes that KubeSpawner makes: the size that they are given, that they grow under a running server and when they are
//! full, and what a user is told to whom one is refused.

use hubstorage_e2e::components::csi::{FIXED, LOCAL};
use hubstorage_e2e::components::hub::{self, HUB, OLD_HUB};
use hubstorage_e2e::jupyterhub::ServerOptions;
use serde_json::{Value, json};

use crate::cluster::{Cluster, storage};

/// The size in MiB of the file system that the home is on, and what is in it.
const TELL: &str = "
import os
home = os.statvfs('/home/jovyan')
with open('/home/jovyan/notes', 'a') as notes:
    notes.write('kept ')
print(home.f_blocks * home.f_frsize >> 20, open('/home/jovyan/notes').read(), end='')
";

/// Writes until nothing more fits, and says whether something was refused.
const FILL: &str = "
import os
try:
    with open('/home/jovyan/data', 'ab', buffering=0) as data:
        while True:
            data.write(b'0' * (1 << 20))
except OSError as error:
    print(os.strerror(error.errno), end='')
";

/// Saves something as editors do, all of it or nothing, and takes it away again.
const SAVE: &str = "
import os
path = '/home/jovyan/saved'
try:
    with open(path, 'wb') as saved:
        saved.write(os.urandom(8 << 20))
        saved.flush()
        os.fsync(saved.fileno())
finally:
    os.remove(path)
print('saved', end='')
";

/// A server as a hub configures it whose users have homes of that size.
fn with_home(user: &str, class: &str, size: &str) -> ServerOptions {
    let claim = json!({"claimName": format!("claim-{user}")});
    ServerOptions::default()
        .with("storage_pvc_ensure", true)
        .with("storage_class", class)
        .with("storage_capacity", size)
        .with(
            "volumes",
            json!([{"name": "home", "persistentVolumeClaim": claim}]),
        )
        .with(
            "volume_mounts",
            json!([{"name": "home", "mountPath": "/home/jovyan"}]),
        )
}

impl Cluster {
    async fn declare_homes(&self, hub: &hub::Hub, home: Value) {
        let mut declared = storage(hub.namespace);
        declared["spec"]["home"] = home;
        self.apply(&declared).await;
    }

    /// Waits until status tells of the size of homes like this, of the spec as it is now; the message.
    async fn until_homes(&self, hub: &hub::Hub, status: &str, reason: &str) -> String {
        self.until_told(hub, "HomesWithinLimit", status, reason)
            .await
    }

    async fn size_of(&self, hub: &hub::Hub, user: &str) -> String {
        let path = "-o=jsonpath={.spec.resources.requests.storage}";
        let claim = format!("claim-{user}");
        self.get(&["pvc", &claim, "-n", hub.namespace, path]).await
    }

    /// The size in MiB of the home in the user's running server, and what is in it.
    async fn home_in_server(&self, hub: &hub::Hub, user: &str) -> (u64, String) {
        let told = self.hub(hub).run(user, TELL).await.unwrap().ok().unwrap();
        let (size, notes) = told.split_once(' ').unwrap();
        (size.parse().unwrap(), notes.to_owned())
    }

    /// What the user's HubUser says of how full the home is, in percent; 100 before anybody has looked.
    async fn used_percent(&self, hub: &hub::Hub, user: &str) -> u8 {
        let path = format!(
            "-o=jsonpath={{.items[?(@.spec.username==\"{user}\")].status.homes[0].usedPercent}}"
        );
        let used = self.get(&["hu", "-n", hub.namespace, &path]).await;
        used.parse().unwrap_or(100)
    }

    /// Whether the user's code can save something in the running server.
    async fn saves(&self, hub: &hub::Hub, user: &str) -> bool {
        let ran = self.hub(hub).run(user, SAVE).await.unwrap();
        ran.ok().is_ok_and(|said| said == "saved")
    }

    /// Stops the servers of these users, and takes all homes away.
    async fn remove_homes(&self, hub: &hub::Hub, users: &[&str]) {
        self.apply(&storage(hub.namespace)).await;
        for user in users {
            self.hub(hub).stop(user).await.unwrap();
        }
        let homes = [
            "delete",
            "pvc",
            "-n",
            hub.namespace,
            "-l",
            "component=singleuser-storage",
        ];
        self.kubectl(&homes).await;
    }
}

#[tokio::test]
async fn a_home_is_made_as_large_as_it_may_be_and_grows_under_a_running_server() {
    let cluster = Cluster::enter().await;
    for (hub, large, small) in [(&HUB, "homer", "marge"), (&OLD_HUB, "bart", "lisa")] {
        let spawner = cluster.hub(hub);
        let declared = async {
            let home = json!({"type": "Claim", "size": "300Mi", "maxSize": "600Mi"});
            cluster.declare_homes(hub, home).await;
            cluster.until_homes(hub, "True", "Applied").await;
        };
        let shown = async {
            let asks = with_home(large, LOCAL, "900Mi");
            spawner.start(large, &asks).await.unwrap();
            assert_eq!(cluster.size_of(hub, large).await, "600Mi");

            let asks = with_home(small, LOCAL, "300Mi");
            spawner.start(small, &asks).await.unwrap();
            let (before, notes) = cluster.home_in_server(hub, small).await;
            assert!(before < 400, "{before} MiB");
            assert_eq!(notes, "kept ");

            let home = json!({"type": "Claim", "size": "500Mi", "maxSize": "600Mi"});
            cluster.declare_homes(hub, home).await;
            cluster
                .until("the home in the running server to have grown", async || {
                    cluster.home_in_server(hub, small).await.0 > 400
                })
                .await;
            assert_eq!(cluster.size_of(hub, small).await, "500Mi");
            assert_eq!(cluster.size_of(hub, large).await, "600Mi");
            let told = cluster.until_homes(hub, "True", "Applied").await;
            assert!(told.contains("homes of 500Mi, 600Mi at most"), "{told}");
            let (_, notes) = cluster.home_in_server(hub, small).await;
            assert!(notes.starts_with("kept kept "), "nothing is lost: {notes}");
        };
        let users = [large, small];
        let removed = cluster.remove_homes(hub, &users);
        cluster.without(declared, shown, removed).await;
    }
}

#[tokio::test]
async fn a_user_is_told_why_a_home_is_refused_and_one_who_has_a_home_starts_as_ever() {
    let cluster = Cluster::enter().await;
    let hub = &HUB;
    let spawner = cluster.hub(hub);
    let declared = async {
        let home =
            json!({"type": "Claim", "size": "300Mi", "maxSize": "400Mi", "onOversize": "Deny"});
        cluster.declare_homes(hub, home).await;
        cluster.until_homes(hub, "True", "Applied").await;
    };
    let shown = async {
        let asks = with_home("ned", LOCAL, "300Mi");
        spawner.start("ned", &asks).await.unwrap();
        spawner.stop("ned").await.unwrap();
        // The hub asks for more by now, and finds the claim that there is.
        let asks = with_home("ned", LOCAL, "900Mi");
        spawner.start("ned", &asks).await.unwrap();
        assert_eq!(cluster.size_of(hub, "ned").await, "300Mi");

        let asks = with_home("moe", LOCAL, "900Mi");
        let refused = spawner.start("moe", &asks).await.unwrap_err().to_string();
        for words in ["a home directory may have 400Mi", "tell the administrators"] {
            assert!(refused.contains(words), "{refused}");
        }
        assert_eq!(cluster.size_of(hub, "moe").await, "");
    };
    let removed = cluster.remove_homes(hub, &["ned", "moe"]);
    cluster.without(declared, shown, removed).await;
}

#[tokio::test]
async fn homes_that_cannot_grow_and_homes_that_there_are_two_of_are_told_and_left_alone() {
    let cluster = Cluster::enter().await;
    let hub = &HUB;
    let spawner = cluster.hub(hub);
    let old = "claim-has-2dhyphen";
    let declared = async {
        let home = json!({"type": "Claim", "size": "300Mi", "maxSize": "600Mi"});
        cluster.declare_homes(hub, home).await;
        cluster.until_homes(hub, "True", "Applied").await;
    };
    let shown = async {
        let asks = with_home("has-hyphen", FIXED, "300Mi");
        spawner.start("has-hyphen", &asks).await.unwrap();
        // What KubeSpawner 6 called the home of this user.
        cluster
            .apply(&json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": old, "namespace": hub.namespace,
                    "labels": {"component": "singleuser-storage", "hub.jupyter.org/username": "has-2dhyphen"},
                    "annotations": {"hub.jupyter.org/username": "has-hyphen"},
                },
                "spec": {
                    "storageClassName": FIXED, "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "300Mi"}},
                },
            }))
            .await;
        let home = json!({"type": "Claim", "size": "500Mi", "maxSize": "600Mi"});
        cluster.declare_homes(hub, home).await;
        let told = cluster
            .until_homes(hub, "False", "ClaimNotExpandable")
            .await;
        for words in [
            "claim-has-hyphen has 300Mi instead of 500Mi",
            "allowVolumeExpansion: true",
            "user has-hyphen has another home for the default server",
        ] {
            assert!(told.contains(words), "{told}");
        }
        cluster.is_ready(hub.namespace).await;
        assert_eq!(cluster.size_of(hub, "has-hyphen").await, "300Mi");
        assert_eq!(cluster.size_of(hub, "has-2dhyphen").await, "300Mi");
    };
    let removed = cluster.remove_homes(hub, &["has-hyphen"]);
    cluster.without(declared, shown, removed).await;
}

#[tokio::test]
async fn each_server_of_a_user_has_a_home_and_more_for_one_user_reaches_them_all() {
    let cluster = Cluster::enter().await;
    let hub = &HUB;
    let spawner = cluster.hub(hub);
    let (user, named) = ("patty", "lab");
    let declared = async {
        let home = json!({"type": "Claim", "size": "300Mi", "maxSize": "400Mi"});
        cluster.declare_homes(hub, home).await;
        cluster.until_homes(hub, "True", "Applied").await;
    };
    let of_server = |mode: &str| {
        // By KubeSpawner's own default a server's name is in that of its claim.
        let claim = json!({"claimName": "claim-{user_server}"});
        with_home(user, LOCAL, "900Mi")
            .with("storage_access_modes", json!([mode]))
            .with(
                "volumes",
                json!([{"name": "home", "persistentVolumeClaim": claim}]),
            )
    };
    let sizes = async || {
        let path = "-o=jsonpath={range .items[*]}{.metadata.name} {.spec.accessModes[0]} {.status.capacity.storage};{end}";
        let homes = "component=singleuser-storage";
        cluster
            .get(&["pvc", "-n", hub.namespace, "-l", homes, path])
            .await
    };
    let shown = async {
        spawner
            .start(user, &of_server("ReadWriteOnce"))
            .await
            .unwrap();
        let many = of_server("ReadWriteMany");
        spawner.start_named(user, named, &many).await.unwrap();
        let expected = "claim-patty ReadWriteOnce 400Mi;claim-patty--lab ReadWriteMany 400Mi;";
        assert_eq!(sizes().await, expected);
        let told = cluster.until_homes(hub, "True", "Applied").await;
        assert!(!told.contains("another home"), "{told}");

        cluster
            .apply(&json!({
                "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubUser",
                "metadata": {"name": "patty-has-more", "namespace": hub.namespace},
                "spec": {"hubRef": {"name": "node"}, "username": user, "home": {"size": "500Mi"}},
            }))
            .await;
        cluster
            .until("both homes to have grown", async || {
                sizes().await == expected.replace("400Mi", "500Mi")
            })
            .await;
    };
    let removed = async {
        let more = [
            "delete",
            "hu",
            "patty-has-more",
            "-n",
            hub.namespace,
            "--ignore-not-found",
        ];
        cluster.kubectl(&more).await;
        spawner.stop_named(user, named).await.unwrap();
        cluster.remove_homes(hub, &[user]).await;
    };
    cluster.without(declared, shown, removed).await;
}

#[tokio::test]
async fn a_home_that_runs_full_is_told_and_grows_until_its_user_can_save_again() {
    let cluster = Cluster::enter().await;
    let hub = &HUB;
    let spawner = cluster.hub(hub);
    let user = "milhouse";
    let home = json!({"type": "Claim", "size": "300Mi", "maxSize": "500Mi"});
    let declared = async {
        cluster.declare_homes(hub, home.clone()).await;
        cluster.until_homes(hub, "True", "Applied").await;
    };
    let shown = async {
        let asks = with_home(user, LOCAL, "300Mi");
        spawner.start(user, &asks).await.unwrap();
        assert!(cluster.saves(hub, user).await);
        let filled = spawner.run(user, FILL).await.unwrap().ok().unwrap();
        assert_eq!(filled, "No space left on device");
        assert!(!cluster.saves(hub, user).await);
        let told = cluster
            .until_told(hub, "HomesHaveRoom", "False", "ClaimFull")
            .await;
        let words = "claim-milhouse is 100 % full, and spec.home.growth is not set";
        assert!(told.contains(words), "{told}");
        assert_eq!(cluster.used_percent(hub, user).await, 100);
        let events = [
            "events",
            "-n",
            hub.namespace,
            "-o=jsonpath={.items[*].message}",
        ];
        let events = cluster.get(&events).await;
        assert!(
            events.contains("claim claim-milhouse: is 100 % full"),
            "{events}"
        );

        // Whose server has stopped starts it again, and saves once the home has grown.
        spawner.stop(user).await.unwrap();
        let mut growing = home.clone();
        growing["growth"] = json!({"step": "100Mi"});
        cluster.declare_homes(hub, growing).await;
        spawner.start(user, &asks).await.unwrap();
        cluster
            .until("the user to save again", async || {
                cluster.saves(hub, user).await
            })
            .await;
        cluster.until_homes(hub, "True", "Applied").await;
        assert_eq!(cluster.size_of(hub, user).await, "400Mi", "by one step");
        cluster
            .until("the user to be told of the room", async || {
                cluster.used_percent(hub, user).await < 90
            })
            .await;

        // Full again, under a running server: up to what it may have, and no further.
        spawner.run(user, FILL).await.unwrap().ok().unwrap();
        cluster
            .until("the home to have grown again", async || {
                cluster.size_of(hub, user).await == "500Mi" && cluster.saves(hub, user).await
            })
            .await;
        spawner.run(user, FILL).await.unwrap().ok().unwrap();
        let told = cluster
            .until_told(hub, "HomesHaveRoom", "False", "ClaimFull")
            .await;
        assert!(told.contains("has the 500Mi that it may have"), "{told}");
        assert_eq!(cluster.size_of(hub, user).await, "500Mi");
    };
    let users = [user];
    let removed = cluster.remove_homes(hub, &users);
    cluster.without(declared, shown, removed).await;
}
