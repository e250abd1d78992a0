//! Which node has which slot, kept up to date.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisError};
use tokio::sync::{Mutex, watch};

use super::slot_map::{Node, SlotMap};
use crate::bus::redis::describe::describe;
use crate::bus::redis::options::RedisOptions;
use crate::bus::redis::url::RedisUrlError;

/// The newest slot map, for the publisher and all subscribers.
pub(super) struct Topology {
    /// How to connect to the configured node; the others differ in host and port only.
    seed: ConnectionInfo,
    seed_node: Node,
    options: RedisOptions,
    map: watch::Sender<Arc<SlotMap>>,
    /// Held while nodes are asked: one caller asks at a time.
    refreshing: Mutex<()>,
}

impl Topology {
    pub(super) fn new(seed: ConnectionInfo, options: RedisOptions) -> Result<Self, RedisUrlError> {
        let seed_node = match seed.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Node { host: host.as_str().into(), port: *port }
            }
            _ => return Err(RedisUrlError("sharded channels need a host and a port".to_owned())),
        };
        Ok(Self { seed, seed_node, options, map: watch::Sender::default(), refreshing: Mutex::default() })
    }

    pub(super) fn current(&self) -> Arc<SlotMap> {
        self.map.borrow().clone()
    }

    /// Follows the map. It counts as changed after each successful refresh, even if the content is the same.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<SlotMap>> {
        self.map.subscribe()
    }

    /// How to connect to a node.
    pub(super) fn connection_info(&self, node: &Node) -> ConnectionInfo {
        let (host, port) = (node.host.to_string(), node.port);
        let address = match self.seed.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.seed.clone().set_addr(address)
    }

    /// Asks the nodes again, `hint` before all others, unless the map has been refreshed since the caller read `seen`.
    /// The error says why no node answered.
    pub(super) async fn refresh(&self, hint: Option<&Node>, seen: &Arc<SlotMap>) -> Result<(), String> {
        let _refreshing = self.refreshing.lock().await;
        if !Arc::ptr_eq(&self.map.borrow(), seen) {
            return Ok(());
        }
        if let Some(hint) = hint
            && let Ok(map) = self.ask(hint).await
            && map.epoch >= seen.epoch
        {
            self.map.send_replace(Arc::new(map));
            return Ok(());
        }
        let mut nodes = seen.all_nodes();
        nodes.insert(self.seed_node.clone());
        let mut answers: FuturesUnordered<_> = nodes.iter().map(|node| self.ask(node)).collect();
        let (mut newest, mut failure) = (None::<SlotMap>, "no node answered".to_owned());
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(map) => newest = newest.into_iter().chain([map]).max_by_key(|map| map.epoch),
                Err(reason) => failure = reason,
            }
            // A node that was cut off from the others has an older epoch. Its map is used only if no node that answers
            // has a newer one, as after the cluster was created anew.
            if newest.as_ref().is_some_and(|map| map.epoch >= seen.epoch) {
                break;
            }
        }
        drop(answers);
        self.map.send_replace(Arc::new(newest.ok_or(failure)?));
        Ok(())
    }

    async fn ask(&self, node: &Node) -> Result<SlotMap, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(self.options.response_timeout));
        let answer = async {
            let client = redis::Client::open(self.connection_info(node))?;
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            let info: Result<String, RedisError> = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await;
            let info = match info {
                Err(error) if error.detail().is_some_and(|text| text.contains("cluster support disabled")) => {
                    return Ok(SlotMap::single(node.clone()));
                }
                other => other?,
            };
            let slots = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
            Ok(SlotMap::read(node, &info, slots))
        };
        answer.await.map_err(|error: RedisError| describe(&error))
    }
}
