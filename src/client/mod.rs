//! Running jobs from the command: on a cluster through its coordinator ([`remote`]), or in this process ([`local`]), with
//! checks of where inputs and outputs lie ([`places`]).

pub mod local;
pub mod places;
pub mod remote;
pub mod streams;
mod target;

use sr3_proto::net::Address;

/// Addresses of coordinators: those that are named, or those that the environment names.
///
/// # Errors
/// There are none, or one is no address.
pub(crate) fn addresses(named: &[String]) -> Result<Vec<Address>, remote::ClientError> {
    let environment: Vec<_> = std::env::var("SR3_COORDINATOR").into_iter().collect();
    let given = if named.is_empty() { &environment } else { named };
    let parts = given.iter().flat_map(|text| text.split(',')).filter(|part| !part.trim().is_empty());
    let addresses = parts.map(Address::parse).collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() { Err(remote::ClientError::NoAddress) } else { Ok(addresses) }
}
