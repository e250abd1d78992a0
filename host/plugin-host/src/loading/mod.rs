//! Loading: from a directory to a chain of running plugins. For each file, the [`loader`] reads its entry and its
//! bytes, takes compiled code from the [`cache`] or has the [`compiler`] compile it, reads the author's [`version`],
//! starts the plugin, and runs the [`cases`] beside the file. The [`error`] says why one
//! cannot be loaded.

pub(crate) mod cache;
pub(crate) mod cases;
pub(crate) mod compiler;
pub(crate) mod complexity;
pub(crate) mod error;
pub(crate) mod loader;
pub(crate) mod version;
