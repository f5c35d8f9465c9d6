//! One client connection: hello, control, produce, subscribe, read, admin, credit.
//!
//! Knows neither how a record is stored nor how a frame travels. Holds no records beyond the
//! batch that is being appended and the page that is being sent.

mod admin;
mod connection;
mod control;
mod credit;
mod cursor;
mod deadline;
mod greet;
mod hello;
mod leaders;
mod lifetime;
mod open;
mod page;
mod produce;
mod read;
mod requests;
mod service;
mod stream;
mod subscribe;
mod topology;

pub use crate::session::service::Parts;
pub use crate::session::service::Service;
