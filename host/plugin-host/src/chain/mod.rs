//! Judging: each message is asked about plugin by plugin. [`evaluation`] says whom to ask next and what the answers
//! come to; a [`plugin`] is asked within its time, behind its [`breaker`], and beside the threads of sockets if it is
//! slow ([`blocking`]). What plugins do is counted ([`counters`], [`plugin_metrics`]) and shown ([`status`]); what they fail on
//! is kept ([`record`]). A [`dry_run`] asks about messages that nobody sent.

pub(crate) mod blocking;
pub(crate) mod breaker;
pub(crate) mod counters;
pub(crate) mod dry_run;
pub(crate) mod evaluation;
pub(crate) mod observer;
pub(crate) mod pipeline;
pub(crate) mod plugin;
pub(crate) mod plugin_metrics;
pub(crate) mod preview;
pub(crate) mod provenance;
pub(crate) mod record;
pub(crate) mod status;
