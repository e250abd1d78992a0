//! The publishing connection: pipelined, replaced when it dies, never waited for without a bound.

use std::borrow::Borrow;
use std::sync::Arc;

use redis::{RedisError, ServerError, ServerErrorKind, Value};

use super::link::{Indicator, Link};
use super::{RedisOptions, describe};
use crate::bus::{Publication, Refused, Unavailable};

/// A pipeline holds at most so many bytes, so that each is answered well within the time-out.
const PIPELINE_BYTES: usize = 1024 * 1024;
/// A message on which Redis closes the connection so many times in a row, and takes others, is to blame itself.
const STRIKES: u32 = 2;

pub(super) struct Publisher {
    options: RedisOptions,
    flavour: Flavour,
    link: Link,
}

/// How messages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// To the one Redis there is: whoever publishes waits for it.
    Plain,
    /// To one node of several. While it is away, connecting is left to [`Publisher::keep`]: nobody waits who has
    /// messages for others too.
    Sharded,
}

/// What became of one message.
#[derive(Debug, PartialEq)]
pub(super) enum Sent {
    Published,
    Refused(Refused),
    /// Its channel is another node's, which the answer names.
    Moved(ServerError),
}

/// How one pipeline failed.
enum Failure {
    /// The connection closed under it: an outage, or a message that Redis does not take.
    Closed,
    /// Redis is away, or says that it cannot serve.
    Away(String),
}

/// What an error answer means.
#[derive(Debug, PartialEq, Eq)]
enum Blame {
    Redis,
    Message,
    /// The message went to the wrong node.
    Address,
}

impl Publisher {
    pub(super) fn new(
        client: redis::Client,
        options: RedisOptions,
        flavour: Flavour,
        indicator: Box<dyn Indicator>,
    ) -> Self {
        Self { options, flavour, link: Link::new(client, options, indicator) }
    }

    /// Keeps the connection up, and its state known, while nobody publishes.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            let pause = match self.ping().await {
                Ok(()) => self.options.ping_interval,
                Err(Unavailable(_)) => self.options.backoff.cap,
            };
            tokio::time::sleep(pause).await;
        }
    }

    pub(super) async fn publish<P: Borrow<Publication>>(&self, batch: &[P]) -> Result<Vec<Sent>, Unavailable> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(pipeline_length(rest));
            match self.pipeline(chunk).await {
                Ok(results) => outcomes.extend(results),
                Err(Failure::Closed) => outcomes.extend(self.one_by_one(chunk).await?),
                Err(Failure::Away(reason)) => return Err(Unavailable(reason)),
            }
            rest = after;
        }
        Ok(outcomes)
    }

    /// Finds out which message it is on which Redis closes the connection, if it is a message at all.
    async fn one_by_one<P: Borrow<Publication>>(&self, chunk: &[P]) -> Result<Vec<Sent>, Unavailable> {
        let mut outcomes = Vec::with_capacity(chunk.len());
        for publication in chunk {
            let mut strikes = 0;
            let outcome = loop {
                match self.pipeline(std::slice::from_ref(publication)).await {
                    Ok(results) => break results,
                    Err(Failure::Away(reason)) => return Err(Unavailable(reason)),
                    Err(Failure::Closed) => strikes += 1,
                }
                // Without this message Redis has to work.
                self.ping().await?;
                if strikes == STRIKES {
                    break vec![Sent::Refused(Refused("Redis closes the connection on this message".to_owned()))];
                }
            };
            outcomes.extend(outcome);
        }
        Ok(outcomes)
    }

    async fn pipeline<P: Borrow<Publication>>(&self, chunk: &[P]) -> Result<Vec<Sent>, Failure> {
        let away = |Unavailable(reason)| Failure::Away(reason);
        let (mut connection, number) = match self.flavour {
            Flavour::Plain => self.link.connection().await,
            Flavour::Sharded => self.link.connection_at_hand().await,
        }
        .map_err(away)?;
        let command = match self.flavour {
            Flavour::Plain => "PUBLISH",
            Flavour::Sharded => "SPUBLISH",
        };
        let mut pipeline = redis::Pipeline::with_capacity(chunk.len());
        for publication in chunk {
            let Publication { channel, payload } = publication.borrow();
            pipeline.cmd(command).arg(channel).arg(payload.as_ref());
        }
        let answers = match connection.send_packed_commands(&pipeline, 0, chunk.len()).await {
            Ok(answers) => answers,
            Err(error) => return Err(self.failed(number, &error).await),
        };
        match judge(answers, chunk.len()) {
            Ok(results) => {
                self.link.works();
                Ok(results)
            }
            Err(reason) => {
                // After a failover the address may lead to another server.
                self.link.lost(number, &reason).await;
                Err(Failure::Away(reason))
            }
        }
    }

    async fn ping(&self) -> Result<(), Unavailable> {
        let (mut connection, number) = self.link.connection().await?;
        match redis::cmd("PING").query_async::<Value>(&mut connection).await {
            Ok(_) => {
                self.link.works();
                Ok(())
            }
            Err(error) => {
                let reason = describe(&error);
                self.link.lost(number, &reason).await;
                Err(Unavailable(reason))
            }
        }
    }

    async fn failed(&self, number: u64, error: &RedisError) -> Failure {
        let reason = describe(error);
        self.link.lost(number, &reason).await;
        if error.is_connection_dropped() { Failure::Closed } else { Failure::Away(reason) }
    }
}

/// How many of these make one pipeline: at least one.
fn pipeline_length<P: Borrow<Publication>>(batch: &[P]) -> usize {
    let mut bytes = 0;
    let fitting = batch.iter().take_while(|publication| {
        bytes += (*publication).borrow().payload.len();
        bytes <= PIPELINE_BYTES
    });
    fitting.count().max(1)
}

/// A result for each message, or why Redis cannot serve.
fn judge(answers: Vec<Value>, expected: usize) -> Result<Vec<Sent>, String> {
    if answers.len() != expected {
        return Err(format!("Redis gave {} answers to {expected} messages", answers.len()));
    }
    let judge_one = |answer| match answer {
        Value::Int(_) => Ok(Sent::Published),
        Value::ServerError(error) => match blame(&error) {
            Blame::Message => Ok(Sent::Refused(Refused(answer_text(&error)))),
            Blame::Address => Ok(Sent::Moved(error)),
            Blame::Redis => Err(answer_text(&error)),
        },
        _ => Err("Redis gave an answer that is none to PUBLISH".to_owned()),
    };
    answers.into_iter().map(judge_one).collect()
}

fn answer_text(error: &ServerError) -> String {
    format!("Redis answered {} {}", error.code(), error.details().unwrap_or_default()).trim_end().to_owned()
}

/// Whether another try will help, whatever the message. Only a plain `ERR` speaks of the message: everything else
/// (`LOADING`, `READONLY`, `MASTERDOWN`, `CLUSTERDOWN`, `OOM`, `NOAUTH`, `NOPERM`, `MISCONF`, …) tells of a server that
/// cannot serve now, or is set up wrongly, and would hit every message alike.
fn blame(error: &ServerError) -> Blame {
    let for_all = ["unknown command", "max number of clients", "Can't execute", "DENIED", "unauthenticated"];
    let details = error.details().unwrap_or_default();
    match error.kind() {
        Some(ServerErrorKind::Moved | ServerErrorKind::Ask) => Blame::Address,
        Some(ServerErrorKind::ResponseError) if !for_all.iter().any(|text| details.contains(text)) => Blame::Message,
        _ => Blame::Redis,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;

    fn answer(line: &str) -> Value {
        redis::parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn a_plain_error_blames_the_message_and_every_other_the_server() {
        let results = judge(vec![answer(":1"), answer("-ERR bad payload"), answer(":0")], 3).unwrap();
        let refused = Sent::Refused(Refused("Redis answered ERR bad payload".to_owned()));
        assert_eq!(results, [Sent::Published, refused, Sent::Published]);
        for line in [
            "-LOADING Redis is loading the dataset in memory",
            "-READONLY You can't write against a read only replica.",
            "-MASTERDOWN Link with MASTER is down",
            "-CLUSTERDOWN The cluster is down",
            "-OOM command not allowed when used memory > 'maxmemory'.",
            "-NOAUTH Authentication required.",
            "-WRONGPASS invalid username-password pair",
            "-NOPERM this user has no permissions to access one of the channels",
            "-MISCONF Redis is configured to save RDB snapshots",
            "-ERR unknown command 'PUBLISH'",
            "-CROSSSLOT Keys in request don't hash to the same slot",
        ] {
            assert!(judge(vec![answer(":1"), answer(line)], 2).is_err(), "{line}");
        }
    }

    #[test]
    fn a_message_for_another_node_is_told_apart() {
        let results = judge(vec![answer(":1"), answer("-MOVED 1 127.0.0.1:7001")], 2).unwrap();
        assert!(
            matches!(&results[..], [Sent::Published, Sent::Moved(answer)] if answer.details() == Some("1 127.0.0.1:7001"))
        );
    }

    #[test]
    fn pipelines_are_cut_by_size_and_never_empty() {
        let of = |size: usize| Publication { channel: "c".to_owned(), payload: Bytes::from(vec![b'x'; size]) };
        assert_eq!(pipeline_length(&[of(PIPELINE_BYTES * 2), of(1)]), 1);
        assert_eq!(pipeline_length(&[of(PIPELINE_BYTES - 1), of(1), of(1)]), 2);
        assert_eq!(pipeline_length(&vec![of(10); 500]), 500);
    }
}
