//! An agent that is replaced by its next version, on the same address.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fixture::{
    Answer, Authority, FakeBroker, RunningAgent, TOKEN, ask_as_an_sdk, config, connect_from,
    directory, publish, read_answer, write_request,
};
use hubstorage_agent::Config;
use tokio::net::TcpStream;
use tokio::process::Command;

/// A broker, and agents that all listen on the same loopback address, which is this test's alone.
struct Node {
    _broker: FakeBroker,
    directory: PathBuf,
    config: Config,
}

impl Node {
    async fn new(test: &str, host: &str) -> Self {
        let authority = Authority::new("ca");
        let broker = FakeBroker::start("127.0.0.1:0", &authority).await;
        let directory = directory(test);
        let ca = directory.join("ca.crt");
        publish(&ca, &authority.pem());
        let [listen, metrics_listen] = free_addresses(host);
        let config = Config {
            listen,
            metrics_listen,
            share_port: true,
            ..config(broker.address, ca)
        };
        Self {
            _broker: broker,
            directory,
            config,
        }
    }

    fn socket(&self, agent: &str) -> PathBuf {
        self.directory.join(agent)
    }

    async fn start(&self, agent: &str) -> RunningAgent {
        let config = Config {
            probe_socket: Some(self.socket(agent)),
            ..self.config.clone()
        };
        RunningAgent::with(&config).await.unwrap()
    }
}

/// Two addresses that are free: the usual ports may be taken by the agent of a node here. Nobody else is
/// on this host, so they stay free.
fn free_addresses(host: &str) -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind((host, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

async fn ask_on(mut stream: TcpStream, address: SocketAddr) -> Answer {
    let host = address.to_string();
    let headers = [("Host", host.as_str()), ("Authorization", TOKEN)];
    write_request(&mut stream, "GET /v1/credentials", &headers).await;
    read_answer(&mut stream).await
}

/// The exit code of `hubstorage-agent probe`, and what it said.
async fn probe(socket: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hubstorage-agent"))
        .env_clear()
        .arg("probe")
        .arg("--socket")
        .arg(socket)
        .args(arguments)
        .output()
        .await
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A connection that the kernel is just making when the old agent closes is reset; SDKs try again.
#[tokio::test]
async fn the_next_agent_takes_over_without_a_failed_request() {
    let node = Node::new("takeover", "127.0.4.1").await;
    let old = node.start("old").await;
    let address = old.address;
    let (answers, is_over) = (RefCell::new(Vec::new()), RefCell::new(false));

    let pods = async {
        while !*is_over.borrow() {
            let status = ask_as_an_sdk(address).await.unwrap().status;
            answers.borrow_mut().push(status);
        }
    };
    let more = async |count: usize| {
        let enough = answers.borrow().len() + count;
        while answers.borrow().len() < enough {
            tokio::task::yield_now().await;
        }
    };
    let upgrade = async {
        more(20).await;
        let _new = node.start("new").await;
        assert_eq!(probe(&node.socket("new"), &[]).await.0, Some(0));
        more(20).await;
        old.stop();
        more(20).await;
        *is_over.borrow_mut() = true;
        more(1).await;
    };
    tokio::join!(pods, upgrade);

    assert!(answers.borrow().iter().all(|status| *status == 200));
}

#[tokio::test]
async fn a_request_on_a_connection_from_before_the_end_is_answered() {
    let node = Node::new("before-the-end", "127.0.4.2").await;
    let agent = node.start("agent").await;
    let accepted = connect_from("127.0.0.1", agent.address).await;
    agent.ask(TOKEN).await;
    // Blocking, so that the agent has no turn in between: the kernel gets to complete this connection,
    // the agent to accept it only at its end.
    let queued = std::net::TcpStream::connect(agent.address).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    queued.set_nonblocking(true).unwrap();

    agent.stop();
    let refused = async {
        while TcpStream::connect(agent.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    refused.await;
    let accepted = ask_on(accepted, agent.address).await;
    let queued = ask_on(TcpStream::from_std(queued).unwrap(), agent.address).await;

    assert_eq!((accepted.status, queued.status), (200, 200));
}

#[tokio::test]
async fn an_agent_that_does_not_share_its_address_keeps_others_off() {
    let node = Node::new("alone", "127.0.4.3").await;
    let alone = Config {
        share_port: false,
        ..node.config.clone()
    };
    let _agent = RunningAgent::with(&alone).await.unwrap();

    let same = RunningAgent::with(&alone).await.err().unwrap().to_string();
    let sharing = RunningAgent::with(&node.config)
        .await
        .err()
        .unwrap()
        .to_string();

    assert!(same.contains("another process has it"), "{same}");
    assert!(sharing.contains("does not share it"), "{sharing}");
}

#[tokio::test]
async fn a_probe_hears_its_own_agent_and_not_the_one_that_is_replaced() {
    let node = Node::new("probe", "127.0.4.4").await;
    let _old = node.start("old").await;
    let new = Config {
        broker_ca: node.directory.join("missing.crt"),
        probe_socket: Some(node.socket("new")),
        ..node.config.clone()
    };
    let new = RunningAgent::with(&new).await.unwrap();

    let (of_old, _) = probe(&node.socket("old"), &[]).await;
    let (of_new, reason) = probe(&node.socket("new"), &[]).await;
    let (alive, _) = probe(&node.socket("new"), &["--alive"]).await;
    drop(new);
    let (gone, silence) = probe(&node.socket("nobody"), &["--alive"]).await;

    assert_eq!((of_old, of_new, alive), (Some(0), Some(1), Some(0)));
    assert!(reason.contains("missing.crt"), "{reason}");
    assert_eq!(gone, Some(1));
    assert!(silence.contains("no answer at"), "{silence}");
}

#[tokio::test]
async fn a_restarted_container_takes_over_the_socket_that_the_last_one_left() {
    let node = Node::new("socket", "127.0.4.5").await;
    drop(std::os::unix::net::UnixListener::bind(node.socket("agent")).unwrap());

    let _agent = node.start("agent").await;

    assert_eq!(probe(&node.socket("agent"), &[]).await.0, Some(0));
}
