//! How much each kind of stranger may use of a gateway, so that none can shut the others out. [`connections`] is the
//! whole: who may open a socket, and what becomes of it when its token is accepted. Below it, [`addresses`] counts what
//! an address has open, [`trusted_proxies`] tells whose address that is, [`refused_tokens`] bounds guessing, and
//! [`refusals`] tells operators. Who has authenticated is no stranger: [`users`] bounds what one user does over all
//! sockets.

pub mod addresses;
pub mod connections;
pub mod refusals;
pub mod refused_tokens;
pub mod trusted_proxies;
pub mod users;
