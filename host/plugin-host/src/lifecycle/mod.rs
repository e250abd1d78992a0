//! Plugins over time. The [`host`] loads them. [`supervise`] reloads them when their files change ([`watch`]:
//! [`fingerprint`] is how it knows, [`way`] what leads there) or on `SIGHUP`, and reports their state. [`versions`]
//! replaces one chain by another, and returns to the version before when a new one fails; the rules for that are in
//! [`rollback`]. A directory that cannot be loaded leaves a [`refusal`].

mod fingerprint;
pub(crate) mod host;
pub(crate) mod refusal;
pub(crate) mod rollback;
pub(crate) mod supervise;
pub(crate) mod versions;
pub(crate) mod watch;
mod way;
