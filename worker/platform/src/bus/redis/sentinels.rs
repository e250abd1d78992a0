//! Redis Sentinel: several watchers who agree on which Redis leads.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use percent_encoding::percent_decode_str;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, RedisError, RedisResult};

use super::address::{RedisUrlError, read};

/// Where sentinels listen if the URL does not say it.
const SENTINEL_PORT: u16 = 26_379;

/// The sentinels of a URL, and the name under which they know the Redis that is meant.
pub(super) struct Sentinels {
    /// With the login for sentinels.
    watchers: Vec<ConnectionInfo>,
    name: String,
    /// How to connect to the Redis itself, but for its host and port.
    server: ConnectionInfo,
}

/// The host and port of a Redis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    host: String,
    port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for Sentinels {
    type Err = RedisUrlError;

    /// `redis+sentinel://[user:password@]host[:port][,host[:port]…]/name[/db][?sentinel_user=…&sentinel_password=…]`;
    /// `rediss+sentinel` for TLS. User and password are those of Redis.
    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let malformed = |what: &str| RedisUrlError(what.to_owned());
        let (scheme, rest) = text.split_once("+sentinel://").ok_or_else(|| malformed("no sentinels"))?;
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = hosts.rsplit_once('@').map_or(("", hosts), |(login, hosts)| (login, hosts));
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (name, db) = path.split_once('/').unwrap_or((path, ""));
        if name.is_empty() {
            return Err(malformed("after the sentinels stands the name under which they know Redis, as in /mymaster"));
        }
        let parse = |login: &str, host: &str, db: &str| {
            let login = if login.is_empty() { String::new() } else { format!("{login}@") };
            read(&format!("{scheme}://{login}{host}/{db}"))
        };
        let own_login = sentinel_login(query)?;
        let watcher = |host: &str| {
            let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
            let host = if has_port { host.to_owned() } else { format!("{host}:{SENTINEL_PORT}") };
            parse(&own_login, &host, "")
        };
        Ok(Self {
            watchers: hosts.split(',').map(watcher).collect::<Result<_, _>>()?,
            name: percent_decode_str(name).decode_utf8_lossy().into_owned(),
            server: parse(login, "host", db)?,
        })
    }
}

/// The login for sentinels, as it stands in a URL.
fn sentinel_login(query: &str) -> Result<String, RedisUrlError> {
    let (mut user, mut password) = ("", "");
    for option in query.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("sentinel_user", value)) => user = value,
            Some(("sentinel_password", value)) => password = value,
            _ => return Err(RedisUrlError("sentinel_user and sentinel_password are the only options".to_owned())),
        }
    }
    Ok(if password.is_empty() { String::new() } else { format!("{user}:{password}") })
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watchers: Vec<String> = self.watchers.iter().map(|watcher| watcher.addr().to_string()).collect();
        f.debug_struct("Sentinels").field("watchers", &watchers).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Sentinels {
    /// How to connect to the Redis at this address.
    pub(super) fn connection_info(&self, Address { host, port }: &Address) -> ConnectionInfo {
        let (host, port) = (host.clone(), *port);
        let address = match self.server.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.server.clone().set_addr(address)
    }

    /// The Redis that leads: the one that more than half of the sentinels name, or else most of those that answer. One
    /// that was cut off from the others goes on naming the old one.
    pub(super) async fn leader(&self, limit: Duration) -> RedisResult<Address> {
        let mut answers: FuturesUnordered<_> =
            self.watchers.iter().map(|watcher| self.ask(watcher, limit / 2)).collect();
        let mut votes: HashMap<Address, usize> = HashMap::new();
        let mut failure = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(address) => {
                    let count = votes.entry(address.clone()).or_default();
                    *count += 1;
                    if *count * 2 > self.watchers.len() {
                        return Ok(address);
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        let most = votes.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address);
        most.ok_or_else(|| failure.unwrap_or_else(|| RedisError::from(io::Error::other("no sentinel answers"))))
    }

    async fn ask(&self, watcher: &ConnectionInfo, limit: Duration) -> RedisResult<Address> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
        let asking = async {
            let client = Client::open(watcher.clone())?;
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            let mut command = redis::cmd("SENTINEL");
            command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name).query_async(&mut connection).await
        };
        let answer: Option<(String, u16)> = match tokio::time::timeout(limit, asking).await {
            Ok(answer) => answer?,
            Err(_) => return Err(io::Error::other(format!("sentinel {} does not answer", watcher.addr())).into()),
        };
        let (host, port) = answer.ok_or_else(|| {
            let text = format!("sentinel {} knows no Redis of the name in the URL", watcher.addr());
            RedisError::from(io::Error::other(text))
        })?;
        Ok(Address { host, port })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(text: &str) -> Sentinels {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_names_sentinels_and_what_they_watch() {
        let read =
            parsed("redis+sentinel://me:p%40ss@s1,s2:26380,[::1]/my%20chat/3?sentinel_user=w&sentinel_password=s");
        let watchers: Vec<String> = read.watchers.iter().map(|watcher| watcher.addr().to_string()).collect();
        assert_eq!(watchers, ["s1:26379", "s2:26380", "::1:26379"]);
        assert_eq!(read.name, "my chat");
        let address = Address { host: "10.0.0.7".to_owned(), port: 6380 };
        let server = read.connection_info(&address);
        assert_eq!(server.addr().to_string(), "10.0.0.7:6380");
        let login = |info: &ConnectionInfo| {
            let settings = info.redis_settings();
            (settings.username().map(str::to_owned), settings.password().map(str::to_owned), settings.db())
        };
        assert_eq!(login(&server), (Some("me".to_owned()), Some("p@ss".to_owned()), 3));
        assert_eq!(login(&read.watchers[0]), (Some("w".to_owned()), Some("s".to_owned()), 0));
        assert!(matches!(server.addr(), ConnectionAddr::Tcp(..)));
        let tls = parsed("rediss+sentinel://s1/chat");
        assert!(matches!(tls.watchers[0].addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
        assert!(matches!(tls.connection_info(&address).addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
        assert!(
            !format!("{:?}", parsed("redis+sentinel://:hunter2@s/c?sentinel_password=hunter2")).contains("hunter2")
        );
    }

    #[test]
    fn what_is_missing_is_told() {
        for (bad, told) in [
            ("redis+sentinel://:hunter2@s1,s2", "as in /mymaster"),
            ("redis+sentinel://:hunter2@s1,s2/", "as in /mymaster"),
            ("redis+sentinel://:hunter2@s1/chat/abc", "a database's number"),
            ("redis+sentinel://:hunter2@s1,/chat", "host"),
            ("redis+sentinel://:hunter2@s1:port/chat", "host"),
            ("redis+sentinel://s1/chat?password=hunter2", "sentinel_password"),
            ("http+sentinel://s1/chat", "begin with redis://"),
        ] {
            let error = bad.parse::<Sentinels>().unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("hunter2"), "{bad}: {error}");
        }
    }
}
