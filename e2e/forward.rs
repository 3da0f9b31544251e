//! A TCP forwarder: every connection goes to the next backend in turn, and to the one after it if
//! that one does not accept.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, TcpStream};

/// A backend on loopback accepts at once or never.
const CONNECTS_WITHIN: Duration = Duration::from_millis(500);

/// One listening address and what is behind it: `LISTEN=BACKEND,BACKEND,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    listen: SocketAddr,
    backends: Vec<SocketAddr>,
}

impl FromStr for Route {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (listen, backends) = text
            .split_once('=')
            .with_context(|| format!("route {text:?} is not LISTEN=BACKEND,BACKEND"))?;
        let parse = |address: &str| {
            address
                .parse()
                .with_context(|| format!("{address:?} in route {text:?} is no IP:PORT"))
        };
        let backends = backends.split(',').map(parse).collect::<Result<_>>()?;
        Ok(Self {
            listen: parse(listen)?,
            backends,
        })
    }
}

/// Forwards until the process is ended.
pub async fn forward(routes: Vec<Route>) -> Result<()> {
    let mut serving = tokio::task::JoinSet::new();
    for route in routes {
        let listener = TcpListener::bind(route.listen)
            .await
            .with_context(|| format!("could not listen on {}", route.listen))?;
        serving.spawn(serve(listener, Arc::new(route.backends)));
    }
    while let Some(ended) = serving.join_next().await {
        ended?;
    }
    Ok(())
}

async fn serve(listener: TcpListener, backends: Arc<Vec<SocketAddr>>) {
    let turn = AtomicUsize::new(0);
    loop {
        let mut client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // Out of file descriptors, most likely: connections that end will free some.
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let first = turn.fetch_add(1, Ordering::Relaxed);
        let backends = backends.clone();
        tokio::spawn(async move {
            let outcome = async {
                let mut backend = connect(&backends, first).await?;
                client.set_nodelay(true)?;
                backend.set_nodelay(true)?;
                tokio::io::copy_bidirectional(&mut client, &mut backend).await?;
                Ok::<_, anyhow::Error>(())
            };
            if let Err(error) = outcome.await {
                eprintln!("connection: {error:#}");
            }
        });
    }
}

async fn connect(backends: &[SocketAddr], first: usize) -> Result<TcpStream> {
    for offset in 0..backends.len() {
        let backend = backends[(first + offset) % backends.len()];
        let connecting = TcpStream::connect(backend);
        if let Ok(Ok(stream)) = tokio::time::timeout(CONNECTS_WITHIN, connecting).await {
            return Ok(stream);
        }
    }
    bail!("none of {backends:?} accepts")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn backend(answer: u8) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_u8(answer).await.unwrap();
            }
        });
        address
    }

    async fn forwarder(backends: Vec<SocketAddr>) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(backends)));
        address
    }

    async fn ask(address: SocketAddr) -> u8 {
        TcpStream::connect(address)
            .await
            .unwrap()
            .read_u8()
            .await
            .unwrap()
    }

    async fn dead_backend() -> SocketAddr {
        // Its port is free again when the listener is dropped here.
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap()
            .local_addr()
            .unwrap()
    }

    #[tokio::test]
    async fn connections_go_to_the_backends_in_turn() {
        let address = forwarder(vec![backend(1).await, backend(2).await]).await;

        let answers = [ask(address).await, ask(address).await, ask(address).await];

        assert_eq!(answers, [1, 2, 1]);
    }

    #[tokio::test]
    async fn a_dead_backend_is_skipped() {
        let address = forwarder(vec![dead_backend().await, backend(2).await]).await;

        let answers = [ask(address).await, ask(address).await];

        assert_eq!(answers, [2, 2]);
    }

    #[test]
    fn a_route_names_a_listening_address_and_its_backends() {
        let route: Route = "127.0.0.1:1=127.0.0.1:2,127.0.0.1:3".parse().unwrap();

        assert_eq!(route.listen.port(), 1);
        assert_eq!(route.backends.len(), 2);
    }

    #[test]
    fn a_route_with_a_bad_address_is_refused_by_name() {
        let error = "127.0.0.1:1=nowhere".parse::<Route>().unwrap_err();

        assert!(error.to_string().contains("\"nowhere\""));
    }
}
