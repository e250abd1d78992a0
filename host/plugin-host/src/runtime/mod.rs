//! Running plugins: the [`engine`], [`instance`]s within their [`limits`] and their [`memory`], time counted by a
//! [`ticker`], hooks called through their [`exports`] with an [`input`], and the [`fault`]s that come of it.

pub(crate) mod engine;
pub(crate) mod exports;
pub(crate) mod fault;
pub(crate) mod input;
pub(crate) mod instance;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod ticker;
