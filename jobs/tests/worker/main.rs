//! The cluster's worker against a played coordinator, joined by channels and by gRPC.
#![allow(clippy::unwrap_used)] // helpers of tests, too

mod channels;
mod leaving;
mod network;
mod pipeline;
mod played;
mod sessions;
mod units;
