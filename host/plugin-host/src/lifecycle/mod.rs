//! Plugins over time: the [`host`] reloads them when their files change ([`watch`]) or on a signal ([`supervise`]),
//! puts one chain in the place of another ([`versions`]), and a version that fails back ([`rollback`]).

pub(crate) mod host;
pub(crate) mod rollback;
pub(crate) mod supervise;
pub(crate) mod versions;
pub(crate) mod watch;
