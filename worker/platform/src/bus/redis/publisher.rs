//! Publishing to one Redis: pipelined, over a connection that is replaced when it dies, every wait with a time-out.

use std::borrow::Borrow;
use std::sync::Arc;

use redis::{RedisError, ServerError, ServerErrorKind, Value};

use super::connection::SharedConnection;
use super::describe::{DENIED, describe, describe_answer};
use super::options::RedisOptions;
use super::server::Server;
use super::status::StatusReporter;
use crate::bus::interface::{BusUnavailable, MessageRejected, Publication};

/// The most payload bytes of a pipeline, so that Redis answers each well within the time-out.
const MAX_PIPELINE_BYTES: usize = 1024 * 1024;
/// If Redis closes the connection this many times in a row on a message, and otherwise works, the message is rejected.
const MAX_CLOSED_CONNECTIONS: u32 = 2;

pub(super) struct Publisher {
    options: RedisOptions,
    channels: ChannelKind,
    connection: SharedConnection,
}

/// Which kind of channel messages are published on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelKind {
    /// `PUBLISH` to the only Redis: callers wait for it.
    Plain,
    /// `SPUBLISH` to one node of several. A caller also has messages for other nodes, so while this node is unavailable
    /// it does not wait, and [`Publisher::keep_connected`] reconnects.
    Sharded,
}

/// What became of one message.
#[derive(Debug, PartialEq)]
pub(super) enum PublishOutcome {
    Published,
    Rejected(MessageRejected),
    /// Another node has the channel; the answer names it.
    Moved(ServerError),
}

/// Why one pipeline failed.
enum PipelineError {
    /// Redis closed the connection: an outage, or a message that it does not accept.
    Closed,
    /// Redis cannot be reached, or answered that it cannot serve.
    Unavailable(String),
}

/// Why Redis cannot serve.
#[derive(Debug)]
struct Refusal {
    reason: String,
    /// The user's ACL does not allow it.
    denied: bool,
}

/// What an error answer is about.
#[derive(Debug, PartialEq, Eq)]
enum ErrorCause {
    /// The server: every message would fail.
    Server,
    Message,
    /// The message was sent to the wrong node.
    Node,
}

impl Publisher {
    pub(super) fn new(
        server: Server,
        options: RedisOptions,
        channels: ChannelKind,
        status: Box<dyn StatusReporter>,
    ) -> Self {
        Self { options, channels, connection: SharedConnection::new(server, options, status) }
    }

    /// Keeps the connection open and its reported state current while nothing is published. Never returns.
    pub(super) async fn keep_connected(self: Arc<Self>) {
        loop {
            let pause = match self.ping().await {
                Ok(()) => self.options.ping_interval,
                Err(BusUnavailable(_)) => self.options.backoff.cap,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Publishes in order; one outcome for each message.
    pub(super) async fn publish<P: Borrow<Publication>>(
        &self,
        batch: &[P],
    ) -> Result<Vec<PublishOutcome>, BusUnavailable> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(pipeline_length(rest));
            match self.pipeline(chunk).await {
                Ok(published) => outcomes.extend(published),
                Err(PipelineError::Closed) => outcomes.extend(self.one_by_one(chunk).await?),
                Err(PipelineError::Unavailable(reason)) => return Err(BusUnavailable(reason)),
            }
            rest = after;
        }
        Ok(outcomes)
    }

    /// Finds the message on which Redis closes the connection, if a message is the cause.
    async fn one_by_one<P: Borrow<Publication>>(&self, chunk: &[P]) -> Result<Vec<PublishOutcome>, BusUnavailable> {
        let mut outcomes = Vec::with_capacity(chunk.len());
        for publication in chunk {
            let mut closed_connections = 0;
            let outcome = loop {
                match self.pipeline(std::slice::from_ref(publication)).await {
                    Ok(results) => break results,
                    Err(PipelineError::Unavailable(reason)) => return Err(BusUnavailable(reason)),
                    Err(PipelineError::Closed) => closed_connections += 1,
                }
                // Fails if Redis does not work without this message either.
                self.ping().await?;
                if closed_connections == MAX_CLOSED_CONNECTIONS {
                    let reason = "Redis closes the connection on this message".to_owned();
                    break vec![PublishOutcome::Rejected(MessageRejected(reason))];
                }
            };
            outcomes.extend(outcome);
        }
        Ok(outcomes)
    }

    async fn pipeline<P: Borrow<Publication>>(&self, chunk: &[P]) -> Result<Vec<PublishOutcome>, PipelineError> {
        let unavailable = |BusUnavailable(reason)| PipelineError::Unavailable(reason);
        let (mut connection, generation) = match self.channels {
            ChannelKind::Plain => self.connection.get().await,
            ChannelKind::Sharded => self.connection.get_promptly().await,
        }
        .map_err(unavailable)?;
        let command = match self.channels {
            ChannelKind::Plain => "PUBLISH",
            ChannelKind::Sharded => "SPUBLISH",
        };
        let mut pipeline = redis::Pipeline::with_capacity(chunk.len());
        for publication in chunk {
            let Publication { channel, payload } = publication.borrow();
            pipeline.cmd(command).arg(channel).arg(payload.as_ref());
        }
        let answers = match connection.send_packed_commands(&pipeline, 0, chunk.len()).await {
            Ok(answers) => answers,
            Err(error) => return Err(self.failed(generation, &error).await),
        };
        match outcomes_of(answers, chunk.len()) {
            Ok(results) => {
                self.connection.mark_allowed();
                Ok(results)
            }
            Err(Refusal { reason, denied: true }) => {
                self.connection.mark_denied(&reason);
                Err(PipelineError::Unavailable(reason))
            }
            Err(Refusal { reason, denied: false }) => {
                // After a failover the address may lead to another server.
                self.connection.discard(generation, &reason).await;
                self.connection.mark_refused(&reason);
                Err(PipelineError::Unavailable(reason))
            }
        }
    }

    async fn ping(&self) -> Result<(), BusUnavailable> {
        self.connection.leave_if_another_leads().await;
        let (mut connection, generation) = self.connection.get().await?;
        match redis::cmd("PING").query_async::<Value>(&mut connection).await {
            Ok(_) => {
                self.connection.mark_up();
                Ok(())
            }
            Err(error) => {
                let reason = describe(&error);
                self.connection.discard(generation, &reason).await;
                Err(BusUnavailable(reason))
            }
        }
    }

    async fn failed(&self, generation: u64, error: &RedisError) -> PipelineError {
        let reason = describe(error);
        self.connection.discard(generation, &reason).await;
        if error.is_connection_dropped() { PipelineError::Closed } else { PipelineError::Unavailable(reason) }
    }
}

/// How many of these messages fit into one pipeline; at least one.
fn pipeline_length<P: Borrow<Publication>>(batch: &[P]) -> usize {
    let mut bytes = 0;
    let fitting = batch.iter().take_while(|publication| {
        bytes += (*publication).borrow().payload.len();
        bytes <= MAX_PIPELINE_BYTES
    });
    fitting.count().max(1)
}

/// An outcome for each message, or why Redis cannot serve.
fn outcomes_of(answers: Vec<Value>, expected: usize) -> Result<Vec<PublishOutcome>, Refusal> {
    let refused = |reason| Refusal { reason, denied: false };
    if answers.len() != expected {
        return Err(refused(format!("Redis gave {} answers to {expected} messages", answers.len())));
    }
    let outcome = |answer| match answer {
        Value::Int(_) => Ok(PublishOutcome::Published),
        Value::ServerError(error) => match cause_of(&error) {
            ErrorCause::Message => Ok(PublishOutcome::Rejected(MessageRejected(answer_text(&error)))),
            ErrorCause::Node => Ok(PublishOutcome::Moved(error)),
            ErrorCause::Server => Err(Refusal { reason: answer_text(&error), denied: error.code() == DENIED }),
        },
        _ => Err(refused("Redis gave an unexpected answer to PUBLISH".to_owned())),
    };
    answers.into_iter().map(outcome).collect()
}

fn answer_text(error: &ServerError) -> String {
    describe_answer(error.code(), error.details())
}

/// What an error answer is about. Only a plain `ERR` is about the message. Everything else (`LOADING`, `READONLY`,
/// `MASTERDOWN`, `CLUSTERDOWN`, `OOM`, `NOAUTH`, `NOPERM`, `MISCONF`, …) means that the server cannot serve now or is
/// set up wrongly, so every message would fail.
fn cause_of(error: &ServerError) -> ErrorCause {
    let server_wide = ["unknown command", "max number of clients", "Can't execute", "DENIED", "unauthenticated"];
    let details = error.details().unwrap_or_default();
    match error.kind() {
        Some(ServerErrorKind::Moved | ServerErrorKind::Ask) => ErrorCause::Node,
        Some(ServerErrorKind::ResponseError) if !server_wide.iter().any(|text| details.contains(text)) => {
            ErrorCause::Message
        }
        _ => ErrorCause::Server,
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
    fn a_plain_error_is_about_the_message_and_every_other_about_the_server() {
        let outcomes = outcomes_of(vec![answer(":1"), answer("-ERR bad payload"), answer(":0")], 3).unwrap();
        let rejected = PublishOutcome::Rejected(MessageRejected("Redis answered ERR bad payload".to_owned()));
        assert_eq!(outcomes, [PublishOutcome::Published, rejected, PublishOutcome::Published]);
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
            assert!(outcomes_of(vec![answer(":1"), answer(line)], 2).is_err(), "{line}");
        }
    }

    #[test]
    fn a_message_for_another_node_is_recognised() {
        let outcomes = outcomes_of(vec![answer(":1"), answer("-MOVED 1 127.0.0.1:7001")], 2).unwrap();
        let [PublishOutcome::Published, PublishOutcome::Moved(answer)] = &outcomes[..] else {
            panic!("unexpected: {outcomes:?}")
        };
        assert_eq!(answer.details(), Some("1 127.0.0.1:7001"));
    }

    #[test]
    fn pipelines_are_cut_by_size_and_never_empty() {
        let of = |size: usize| Publication { channel: "c".to_owned(), payload: Bytes::from(vec![b'x'; size]) };
        assert_eq!(pipeline_length(&[of(MAX_PIPELINE_BYTES * 2), of(1)]), 1);
        assert_eq!(pipeline_length(&[of(MAX_PIPELINE_BYTES - 1), of(1), of(1)]), 2);
        assert_eq!(pipeline_length(&vec![of(10); 500]), 500);
    }
}
