//! Running jobs from the command: on a cluster through its coordinator ([`remote`]), or in this process ([`local`]), with
//! checks of where inputs and outputs lie ([`places`]).

mod address;
pub mod local;
pub mod places;
pub mod remote;
pub mod streams;
