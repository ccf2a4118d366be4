//! Who may call: tokens and keys against everything that has gone wrong elsewhere. Keys come from a double of the network
//! that counts, and both clocks are turned by hand.

#[path = "../support/gitlab.rs"]
mod gitlab;
mod network;
mod stage;

mod bypass;
mod forgeries;
mod headers;
mod issuers;
mod own_keys;
mod rights;
mod rotation;
mod wire;
