//! How much each kind of stranger may use of a gateway, so that none can shut the others out. A limit of one socket
//! alone is none for whoever opens another. [`connections`] is about sockets: who may open one, and what becomes of it
//! when its token is accepted. Below it, [`addresses`] counts what an address has open, [`trusted_proxies`] tells whose
//! address that is, [`refused_secrets`] bounds guessing, and [`refusals`] tells operators. [`users`] bounds what one
//! user does over all sockets, and [`kept`] how many connections a service keeps.

pub mod addresses;
pub mod connections;
pub mod kept;
pub mod refusals;
pub mod refused_secrets;
pub mod trusted_proxies;
pub mod users;
