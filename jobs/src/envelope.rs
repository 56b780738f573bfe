//! Payloads of orders: JSON with a version before it, so that a program says which it cannot read.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sr3_proto::{Location, Order};

#[derive(Serialize)]
struct Written<'a, O> {
    version: u32,
    order: &'a O,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
struct Read<O> {
    order: O,
}

/// An order's bytes.
pub(crate) fn write<O: Serialize>(version: u32, order: &O) -> Vec<u8> {
    // Strings, numbers and lists of them always have a JSON form.
    serde_json::to_vec(&Written { version, order }).unwrap_or_default()
}

/// And back.
///
/// # Errors
/// One line: it is of another version, or damaged.
pub(crate) fn read<O: DeserializeOwned>(kind: &str, version: u32, payload: &[u8]) -> Result<O, String> {
    let wrong = |e: serde_json::Error| format!("the order of kind `{kind}` cannot be read: {e}");
    let Version { version: found } = serde_json::from_slice(payload).map_err(wrong)?;
    if found != version {
        return Err(format!(
            "the order of kind `{kind}` has version {found}, and this sr3 ({}) reads version {version}: run the same sr3 \
             on every machine",
            env!("CARGO_PKG_VERSION")
        ));
    }
    Ok(serde_json::from_slice::<Read<O>>(payload).map_err(wrong)?.order)
}

/// The place of an order that is `what` to its job: the field of the spec that names it.
pub(crate) fn place<'a>(order: &'a Order, what: &str) -> Option<&'a Location> {
    order.head.places.iter().find(|place| place.what == what).map(|place| &place.location)
}
