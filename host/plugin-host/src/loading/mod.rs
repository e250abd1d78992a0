//! From a directory to plugins that work: the [`loader`] reads the manifest and the files, whose [`version`] it tells,
//! takes compiled code from the [`cache`] or has it made by the [`compiler`], starts each plugin and holds it to its
//! [`cases`].

pub(crate) mod cache;
pub(crate) mod cases;
pub(crate) mod compiler;
pub(crate) mod loader;
pub(crate) mod version;
