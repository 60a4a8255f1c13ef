//! From a decoded reading to its verdict, on the thread that read it.
//!
//! [`hot_path`] drives the engine, [`shift`] runs the models and relieves a
//! thread that is stuck in one, [`bundle`] loads them, [`withheld`] keeps those from it
//! that cost a reset, [`report`] hands over
//! what leaves. Where readings come from is a [`Feed`], which the links bring.

pub mod bundle;
pub mod fault;
mod feed;
pub mod hot_path;
pub mod report;
pub mod shift;
pub mod withheld;

pub use feed::{Fed, Feed, NodeRequest};
