//! What is to be done with one input, and the units that inputs come in.

use bytes::Bytes;
use prost::Message;
use sr3_proto::{Digest, Key, store::ObjectInfo};

use super::record::ItemRecord;
use crate::images::OutputFormat;

/// Version of a unit's bytes.
const VERSION: u32 = 1;

/// What to do when something already lies at an output's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnExisting {
    /// Never replace it. If it holds the very bytes of the new result the item is fine, otherwise it is quarantined.
    Keep,
    /// Replace it if it is the earlier result with this digest, otherwise as [`OnExisting::Keep`].
    ReplaceOwn(Digest),
    /// Replace it, whatever it is.
    Replace,
}

/// One item of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemTask {
    /// Key relative to the source; also what the item's noise is keyed by.
    pub input: Key,
    /// Encoded length as listed.
    pub input_bytes: u64,
    /// The store's tag of the input as listed.
    pub input_etag: Option<String>,
    /// What somebody else has made of it, where no model enlarges.
    pub enlarged: Option<ObjectInfo>,
    /// Key of the output.
    pub output: Key,
    /// Format of the output.
    pub format: OutputFormat,
    /// What to do if the output exists.
    pub on_existing: OnExisting,
}

/// The items of a unit, each with its place among the entries that the unit stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items(pub Vec<(u32, ItemTask)>);

/// The verdicts that planning made, each with its place among those entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settled(pub Vec<(u32, ItemRecord)>);

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
    #[prost(string, tag = "2")]
    input: String,
    #[prost(uint64, tag = "3")]
    input_bytes: u64,
    #[prost(string, tag = "4")]
    etag: String,
    #[prost(string, tag = "5")]
    output: String,
    #[prost(string, tag = "6")]
    format: String,
    /// One of [`KEEP`], [`REPLACE_OWN`] and [`REPLACE`].
    #[prost(uint32, tag = "7")]
    on_existing: u32,
    #[prost(string, tag = "8")]
    own_sha256: String,
    /// Empty for none.
    #[prost(string, tag = "9")]
    enlarged: String,
    #[prost(uint64, tag = "10")]
    enlarged_bytes: u64,
    #[prost(string, tag = "11")]
    enlarged_etag: String,
}

const KEEP: u32 = 0;
const REPLACE_OWN: u32 = 1;
const REPLACE: u32 = 2;

#[derive(Clone, PartialEq, Message)]
struct SettledBytes {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint32, repeated, tag = "2")]
    places: Vec<u32>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    records: Vec<Bytes>,
}

/// Bytes that are no unit of this version.
#[derive(Debug, thiserror::Error)]
#[error("the unit of kind `upscale` cannot be read by this sr3 ({}): {reason}", env!("CARGO_PKG_VERSION"))]
pub struct UnitError {
    /// Why not.
    pub reason: String,
}

fn wrong(reason: impl ToString) -> UnitError {
    UnitError { reason: reason.to_string() }
}

fn check_version(version: u32) -> Result<(), UnitError> {
    match version {
        VERSION => Ok(()),
        other => Err(wrong(format!(
            "it has version {other}, and version {VERSION} is read: run the same sr3 everywhere"
        ))),
    }
}

impl Items {
    /// Their bytes, in the ledger and on the wire.
    pub fn to_bytes(&self) -> Bytes {
        let items = self.0.iter().map(|(place, item)| item_bytes(*place, item)).collect();
        ItemsBytes { version: VERSION, items }.encode_to_vec().into()
    }

    /// And back. What a stranger sent is checked.
    ///
    /// # Errors
    /// [`UnitError`].
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, UnitError> {
        let ItemsBytes { version, items } = ItemsBytes::decode(bytes.clone()).map_err(wrong)?;
        check_version(version)?;
        items.into_iter().map(item).collect::<Result<_, _>>().map(Self)
    }
}

impl Settled {
    /// Their bytes, in the ledger; none for none.
    pub fn to_bytes(&self) -> Bytes {
        if self.0.is_empty() {
            return Bytes::new();
        }
        let (places, records) = self.0.iter().map(|(place, record)| (*place, record.to_bytes())).unzip();
        SettledBytes { version: VERSION, places, records }.encode_to_vec().into()
    }

    /// And back.
    ///
    /// # Errors
    /// [`UnitError`].
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, UnitError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let SettledBytes { version, places, records } = SettledBytes::decode(bytes.clone()).map_err(wrong)?;
        check_version(version)?;
        let read = |(place, record)| Ok((place, ItemRecord::from_bytes(record).map_err(wrong)?));
        places.into_iter().zip(&records).map(read).collect::<Result<_, _>>().map(Self)
    }
}

fn item_bytes(place: u32, item: &ItemTask) -> ItemBytes {
    let ItemTask { input, input_bytes, input_etag, enlarged, output, format, on_existing } = item.clone();
    let (on_existing, own_sha256) = match on_existing {
        OnExisting::Keep => (KEEP, String::new()),
        OnExisting::ReplaceOwn(own) => (REPLACE_OWN, own.into()),
        OnExisting::Replace => (REPLACE, String::new()),
    };
    let (enlarged, enlarged_bytes, enlarged_etag) =
        enlarged.map_or_else(Default::default, |e| (e.key.into(), e.bytes, e.etag.unwrap_or_default()));
    ItemBytes {
        place,
        input: input.into(),
        input_bytes,
        etag: input_etag.unwrap_or_default(),
        enlarged,
        enlarged_bytes,
        enlarged_etag,
        output: output.into(),
        format: format.name().to_string(),
        on_existing,
        own_sha256,
    }
}

fn item(bytes: ItemBytes) -> Result<(u32, ItemTask), UnitError> {
    let ItemBytes { place, input, input_bytes, etag, output, format, on_existing, own_sha256, .. } = bytes;
    let enlarged = match bytes.enlarged.is_empty() {
        true => None,
        false => Some(ObjectInfo {
            key: Key::new(bytes.enlarged).map_err(wrong)?,
            bytes: bytes.enlarged_bytes,
            etag: Some(bytes.enlarged_etag).filter(|etag| !etag.is_empty()),
        }),
    };
    let task = ItemTask {
        input: Key::new(input).map_err(wrong)?,
        input_bytes,
        input_etag: Some(etag).filter(|etag| !etag.is_empty()),
        enlarged,
        output: Key::new(output).map_err(wrong)?,
        format: OutputFormat::from_name(&format)
            .ok_or_else(|| wrong(format!("the format `{format}` is none of ours")))?,
        on_existing: match on_existing {
            KEEP => OnExisting::Keep,
            REPLACE_OWN => OnExisting::ReplaceOwn(Digest::try_from(own_sha256).map_err(wrong)?),
            REPLACE => OnExisting::Replace,
            other => return Err(wrong(format!("what to do with what exists is none of ours: {other}"))),
        },
    };
    Ok((place, task))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_read_back_as_they_were() {
        let item = |on_existing| ItemTask {
            input: Key::new("a/é#.gif").unwrap(),
            input_bytes: 5,
            input_etag: Some("e".into()),
            enlarged: None,
            output: Key::new("a/é#.gif.png").unwrap(),
            format: OutputFormat::Png,
            on_existing,
        };
        let items = Items(vec![
            (0, item(OnExisting::Keep)),
            (2, item(OnExisting::Replace)),
            (7, item(OnExisting::ReplaceOwn(Digest::of(b"own")))),
        ]);
        assert_eq!(Items::from_bytes(&items.to_bytes()).unwrap(), items);
        let enlarged = ObjectInfo { key: Key::new("b/é.png").unwrap(), bytes: 9, etag: Some("f".into()) };
        let pair = Items(vec![(1, ItemTask { enlarged: Some(enlarged), ..item(OnExisting::Keep) })]);
        assert_eq!(Items::from_bytes(&pair.to_bytes()).unwrap(), pair);
        assert!(Settled::default().to_bytes().is_empty());
    }

    #[test]
    fn bytes_of_strangers_are_refused_with_the_reason() {
        let bytes = |change: fn(&mut ItemsBytes)| {
            let item = ItemBytes {
                input: "a".into(),
                output: "a".into(),
                format: "png".into(),
                ..ItemBytes::default()
            };
            let mut unit = ItemsBytes { version: VERSION, items: vec![item] };
            change(&mut unit);
            Items::from_bytes(&unit.encode_to_vec().into()).map_err(|e| e.to_string())
        };
        assert_eq!(bytes(|_| ()).unwrap().0.len(), 1);
        assert!(bytes(|unit| unit.version = 9).unwrap_err().contains("version 9"));
        assert!(bytes(|unit| unit.items[0].input = "../a".into()).unwrap_err().contains("../a"));
        assert!(bytes(|unit| unit.items[0].format = "gif".into()).unwrap_err().contains("`gif`"));
        assert!(bytes(|unit| unit.items[0].on_existing = 3).is_err());
        assert!(Items::from_bytes(&Bytes::from_static(b"{}")).is_err());
    }
}
