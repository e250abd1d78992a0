//! Runs plugins. The [`engine`] executes them, and the [`ticker`] measures their time. An [`instance`] is started
//! within [`limits`], its [`memory`] included. A call passes an [`input`] to one of its [`exports`], and returns a
//! judgement or a [`fault`].

pub(crate) mod cpu_deadline;
pub(crate) mod crash_mark;
pub(crate) mod engine;
pub(crate) mod exports;
pub(crate) mod fault;
pub(crate) mod input;
pub(crate) mod instance;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod ticker;
