//! The units that pictures come in.

use bytes::Bytes;
use prost::Message;
use sr3_proto::{Key, store::ObjectInfo};

/// Version of a unit's bytes.
const VERSION: u32 = 1;

/// A picture to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Place among the entries that the unit stands for.
    pub(super) place: u32,
    /// What it should be: of the reference, or of the source where there is none.
    pub(super) truth: ObjectInfo,
    /// What is compared with it; none where it is made of the truth.
    pub(super) result: Option<ObjectInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct ItemsBytes {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    items: Vec<ItemBytes>,
}

#[derive(Clone, PartialEq, Message)]
struct ItemBytes {
    #[prost(uint32, tag = "1")]
    place: u32,
    #[prost(message, optional, tag = "2")]
    truth: Option<ObjectBytes>,
    #[prost(message, optional, tag = "3")]
    result: Option<ObjectBytes>,
}

#[derive(Clone, PartialEq, Message)]
struct ObjectBytes {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(string, tag = "3")]
    etag: String,
}

/// A unit's bytes.
pub(super) fn to_bytes(items: &[Item]) -> Bytes {
    let object = |info: &ObjectInfo| ObjectBytes {
        key: info.key.to_string(),
        bytes: info.bytes,
        etag: info.etag.clone().unwrap_or_default(),
    };
    let items = items.iter().map(|item| ItemBytes {
        place: item.place,
        truth: Some(object(&item.truth)),
        result: item.result.as_ref().map(object),
    });
    ItemsBytes { version: VERSION, items: items.collect() }.encode_to_vec().into()
}

/// And back. What a stranger sent is checked.
pub(super) fn from_bytes(bytes: &Bytes) -> Result<Vec<Item>, String> {
    let wrong = |reason: String| {
        format!(
            "the unit of kind `{}` cannot be read by this sr3 ({}): {reason}",
            super::NAME,
            env!("CARGO_PKG_VERSION")
        )
    };
    let ItemsBytes { version, items } =
        ItemsBytes::decode(bytes.clone()).map_err(|e| wrong(e.to_string()))?;
    if version != VERSION {
        return Err(wrong(format!(
            "it has version {version}, and version {VERSION} is read: run the same sr3 everywhere"
        )));
    }
    let object = |bytes: ObjectBytes| {
        let key = Key::new(bytes.key).map_err(|e| wrong(e.to_string()))?;
        Ok::<_, String>(ObjectInfo {
            key,
            bytes: bytes.bytes,
            etag: Some(bytes.etag).filter(|e| !e.is_empty()),
        })
    };
    items
        .into_iter()
        .map(|item| {
            let truth = item.truth.ok_or_else(|| wrong("a picture has no name".into()))?;
            let result = item.result.map(object).transpose()?;
            Ok(Item { place: item.place, truth: object(truth)?, result })
        })
        .collect()
}
