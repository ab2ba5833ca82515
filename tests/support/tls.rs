//! A link that speaks TLS to the proxy for clients that do not: it keeps no more than a few records of what passes.

use std::net::SocketAddr;
use std::sync::Arc;
use tenantgate::driver::tls::{Verification, server_side};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// SSLRequest: its length and its code.
const REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A running link; dropped, it ends with its connections.
pub struct TlsLink {
    pub address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl TlsLink {
    /// Listens, and passes on to the proxy.
    pub fn start(proxy: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("loopback can be listened on");
        let address = listener.local_addr().expect("a listener has an address");
        let config = server_side(&Verification::Unverified, None).expect("a configuration for TLS");
        let connector = TlsConnector::from(Arc::clone(&config));
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let connector = connector.clone();
                // Whichever side ends a connection, its client notices.
                tokio::spawn(async move { pass(client, proxy, connector).await.ok() });
            }
        });
        Self { address, _runtime: runtime }
    }
}

async fn pass(mut client: TcpStream, proxy: SocketAddr, connector: TlsConnector) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect(proxy).await?;
    tcp.set_nodelay(true)?;
    tcp.write_all(&REQUEST).await?;
    if tcp.read_u8().await? != b'S' {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let name = "localhost".try_into().map_err(std::io::Error::other)?;
    let mut tls = connector.connect(name, tcp).await?;
    tokio::io::copy_bidirectional(&mut client, &mut tls).await.map(|_| ())
}
