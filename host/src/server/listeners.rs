//! The addresses of a gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::config::Config;

/// The sockets that a gateway listens on.
pub struct Listeners {
    pub public: TcpListener,
    pub admin: TcpListener,
    /// For services alone; none: they ask where clients connect.
    pub api: Option<TcpListener>,
}

impl Listeners {
    /// Where clients connect.
    pub fn public_addr(&self) -> std::io::Result<SocketAddr> {
        self.public.local_addr()
    }
}

/// Binds the addresses.
pub async fn listen(config: &Config) -> anyhow::Result<Listeners> {
    let bind = async |address: SocketAddr, name: &str| {
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}; set {name} to another"))
    };
    let at = |ip: IpAddr| SocketAddr::new(ip, config.port);
    let public = match config.bind {
        Some(ip) => bind(at(ip), "BIND_ADDR or PORT").await?,
        // Every interface: both families where there are two, IPv4 where that is all.
        None => match TcpListener::bind(at(Ipv6Addr::UNSPECIFIED.into())).await {
            Ok(public) => public,
            Err(_) => bind(at(Ipv4Addr::UNSPECIFIED.into()), "PORT").await?,
        },
    };
    let api = match config.api.address {
        Some(address) => Some(bind(address, "API_ADDR").await?),
        None => None,
    };
    Ok(Listeners { public, admin: bind(config.admin.address, "ADMIN_ADDR").await?, api })
}
