//! Which node has which slot.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::cluster_routing::Slot;
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisError, Value};
use tokio::sync::{Mutex, watch};

use crate::bus::redis::{RedisOptions, RedisUrlError, describe};

/// A node's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Node {
    host: Arc<str>,
    port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Node {
    #[cfg(test)]
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// The node that a `MOVED` answer names. Where it names no host, it is the one that answered.
    pub(super) fn of_redirect(answer: &RedisError, answered: &Self) -> Option<Self> {
        let (address, _) = answer.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        let host = if host.is_empty() || host == "?" { answered.host.clone() } else { host.into() };
        Some(Self { host, port: port.parse().ok()? })
    }
}

/// The slots at one moment, as one node saw them.
#[derive(Debug, Default)]
pub(super) struct Map {
    layout: Layout,
    /// Rises with each failover, and with most moves of slots.
    pub(super) epoch: u64,
}

#[derive(Debug, Default)]
enum Layout {
    /// Nobody was asked yet.
    #[default]
    Unknown,
    /// A Redis that is no cluster's.
    Single(Node),
    Cluster {
        slots: HashMap<Slot, Node>,
        primaries: BTreeSet<Node>,
        replicas: BTreeSet<Node>,
    },
}

impl Map {
    /// The node that carries a channel, if any does.
    pub(super) fn node(&self, channel: &str) -> Option<&Node> {
        match &self.layout {
            Layout::Unknown => None,
            Layout::Single(node) => Some(node),
            Layout::Cluster { slots, .. } => slots.get(&Slot::for_key(channel)),
        }
    }

    /// Every node that has slots.
    pub(super) fn nodes(&self) -> BTreeSet<Node> {
        match &self.layout {
            Layout::Unknown => BTreeSet::new(),
            Layout::Single(node) => BTreeSet::from([node.clone()]),
            Layout::Cluster { primaries, .. } => primaries.clone(),
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.layout, Layout::Cluster { .. })
    }

    fn everyone(&self) -> BTreeSet<Node> {
        let mut all = self.nodes();
        if let Layout::Cluster { replicas, .. } = &self.layout {
            all.extend(replicas.iter().cloned());
        }
        all
    }

    /// What a node answered to `CLUSTER INFO` and `CLUSTER SLOTS`.
    fn read(answered: &Node, info: &str, slots: Vec<Vec<Value>>) -> Self {
        let mut layout = (HashMap::new(), BTreeSet::new(), BTreeSet::new());
        for range in slots {
            let mut fields = range.into_iter();
            let (Some(Value::Int(first)), Some(Value::Int(last))) = (fields.next(), fields.next()) else { continue };
            let mut nodes = fields.filter_map(|node| read_node(answered, &node));
            let Some(primary) = nodes.next() else { continue };
            let numbers = (first..=last).filter_map(|slot| Slot::new(u16::try_from(slot).ok()?));
            layout.0.extend(numbers.map(|slot| (slot, primary.clone())));
            layout.1.insert(primary);
            layout.2.extend(nodes);
        }
        let (slots, primaries, replicas) = layout;
        Self { layout: Layout::Cluster { slots, primaries, replicas }, epoch: current_epoch(info).unwrap_or_default() }
    }
}

/// A node as `CLUSTER SLOTS` describes it: host, port, and more. A host that is not told is the one that answered.
fn read_node(answered: &Node, value: &Value) -> Option<Node> {
    let Value::Array(fields) = value else { return None };
    let (host, Value::Int(port)) = (fields.first()?, fields.get(1)?) else { return None };
    let host = match host {
        Value::Nil => answered.host.clone(),
        Value::BulkString(bytes) => match std::str::from_utf8(bytes).ok()? {
            "" => answered.host.clone(),
            "?" => return None,
            host => host.into(),
        },
        _ => return None,
    };
    Some(Node { host, port: u16::try_from(*port).ok()? })
}

/// The epoch that `CLUSTER INFO` tells.
pub(super) fn current_epoch(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:")?.trim_end().parse().ok())
}

/// The slots as far as they are known, for publisher and subscribers alike.
pub(super) struct Topology {
    seed: ConnectionInfo,
    first: Node,
    options: RedisOptions,
    map: watch::Sender<Arc<Map>>,
    /// One asks at a time.
    asking: Mutex<()>,
}

impl Topology {
    pub(super) fn new(seed: ConnectionInfo, options: RedisOptions) -> Result<Self, RedisUrlError> {
        let first = match seed.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Node { host: host.as_str().into(), port: *port }
            }
            _ => return Err(RedisUrlError("sharded channels need a host and a port".to_owned())),
        };
        Ok(Self { seed, first, options, map: watch::Sender::default(), asking: Mutex::default() })
    }

    pub(super) fn current(&self) -> Arc<Map> {
        self.map.borrow().clone()
    }

    /// Follows the map. It counts as changed whenever somebody answered, also if nothing is new.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Map>> {
        self.map.subscribe()
    }

    /// How to connect to a node: as to the first one.
    pub(super) fn info(&self, node: &Node) -> ConnectionInfo {
        let (host, port) = (node.host.to_string(), node.port);
        let address = match self.seed.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.seed.clone().set_addr(address)
    }

    /// Asks the nodes anew, `hint` before all others, unless that happened since the caller looked at `seen`. An error
    /// says why nobody answered.
    pub(super) async fn refresh(&self, hint: Option<&Node>, seen: &Arc<Map>) -> Result<(), String> {
        let _asking = self.asking.lock().await;
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
        let mut nodes = seen.everyone();
        nodes.insert(self.first.clone());
        let mut answers: FuturesUnordered<_> = nodes.iter().map(|node| self.ask(node)).collect();
        let (mut newest, mut failure) = (None::<Map>, "no node answered".to_owned());
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(map) => newest = newest.into_iter().chain([map]).max_by_key(|map| map.epoch),
                Err(reason) => failure = reason,
            }
            // A node that was cut off from the others does not know what they decided since: it is believed only if all
            // who answer agree, as after the cluster was made anew.
            if newest.as_ref().is_some_and(|map| map.epoch >= seen.epoch) {
                break;
            }
        }
        drop(answers);
        self.map.send_replace(Arc::new(newest.ok_or(failure)?));
        Ok(())
    }

    async fn ask(&self, node: &Node) -> Result<Map, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(self.options.response_timeout));
        let asking = async {
            let client = redis::Client::open(self.info(node))?;
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            let info: Result<String, RedisError> = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await;
            let info = match info {
                Err(error) if error.detail().is_some_and(|text| text.contains("cluster support disabled")) => {
                    return Ok(Map { layout: Layout::Single(node.clone()), epoch: 0 });
                }
                other => other?,
            };
            let slots = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
            Ok(Map::read(node, &info, slots))
        };
        asking.await.map_err(|error: RedisError| describe(&error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(port: u16) -> Node {
        Node::new("here", port)
    }

    fn range(first: i64, last: i64, nodes: &[(Value, i64)]) -> Vec<Value> {
        let nodes = nodes.iter().map(|(host, port)| Value::Array(vec![host.clone(), Value::Int(*port), Value::Nil]));
        [Value::Int(first), Value::Int(last)].into_iter().chain(nodes).collect()
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn channels_are_found_by_the_hash_of_their_names() {
        // `a` hashes to 15495, `b` to 3300.
        let slots = vec![
            range(0, 8191, &[(Value::Nil, 1), (text("there"), 3)]),
            range(8192, 16383, &[(text("?"), 9), (text(""), 2)]),
        ];
        let map = Map::read(&node(7), "cluster_state:ok\r\ncluster_current_epoch:12\r\n", slots);
        assert_eq!((map.node("b"), map.node("a")), (Some(&node(1)), Some(&node(2))));
        assert_eq!(map.nodes(), BTreeSet::from([node(1), node(2)]));
        assert_eq!(map.everyone().len(), 3);
        assert_eq!(map.epoch, 12);
    }

    #[test]
    fn a_slot_that_nobody_has_is_nobodys() {
        let map = Map::read(&node(7), "", vec![range(0, 8191, &[(Value::Nil, 1)])]);
        assert_eq!((map.node("a"), map.node("b")), (None, Some(&node(1))));
    }

    #[test]
    fn an_answer_names_the_node_that_a_slot_moved_to() {
        for (line, expected) in
            [("-MOVED 1 there:5", "there:5"), ("-MOVED 1 :5", "here:5"), ("-MOVED 1 ::1:5", "::1:5")]
        {
            let answer = redis::parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap();
            let error = answer.extract_error().unwrap_err();
            assert_eq!(Node::of_redirect(&error, &node(7)).unwrap().to_string(), expected);
        }
    }
}
