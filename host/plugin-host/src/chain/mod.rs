//! The chain of plugins, which judges messages and joins.
//!
//! A message enters the [`pipeline`], which calls one [`plugin`] after the other. The [`evaluation`] says which plugin
//! comes next, and what their judgements come to. A call is made behind the plugin's [`breaker`], within its time, and
//! off the threads of sockets if the plugin is slow ([`blocking`]). The result names a plugin by its [`provenance`].
//!
//! Each call is counted ([`counters`], [`plugin_metrics`]), shown to operators ([`status`]), and reported to an
//! [`observer`] while the plugin is on probation. The inputs of failed calls are recorded ([`record`]).
//!
//! A [`dry_run`] judges messages that nobody sent, and shows the result as a [`preview`].

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
