//! The curve as TensorBoard reads it: event files beside the segments, one a checkpoint.
//!
//! They say what the rows say and nothing else; the rows are what a run goes on from. A file is a list of records (length,
//! masked CRC-32C of the length, an `Event` message, masked CRC-32C of it), as `TFRecord` has them.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use sr3_proto::{Store, StoreError, store::PutMode};

use super::{
    curve::{QUARTILES, Row},
    index::key,
};

/// `tensorflow.Event`, as far as it is written.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    value: f32,
}

/// Writes the rows that came after the checkpoint before, up to that of `step`.
pub(super) async fn write(store: &Store, step: u64, rows: &[Row]) -> Result<(), StoreError> {
    // Files are read in the order of their names.
    let name = key(&format!("tensorboard/events.out.tfevents.step-{step:012}"));
    #[expect(
        clippy::disallowed_methods,
        reason = "an event says when it was; the rows, which are the record, do not"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    store.put(&name, encode(rows, now), PutMode::Replace).await
}

/// The rows' events, the last of which was at `now`, in seconds since 1970.
fn encode(rows: &[Row], now: f64) -> Bytes {
    let mut bytes = BytesMut::new();
    let mut left: f64 = rows.iter().map(|row| row.time.all).sum();
    let version = Some("brain.Event:2".to_string());
    record(&mut bytes, &Event { wall_time: now - left, file_version: version, ..Event::default() });
    for row in rows {
        left -= row.time.all;
        let summary = Some(Summary { values: scalars(row) });
        record(
            &mut bytes,
            &Event { wall_time: now - left, step: row.step as i64, file_version: None, summary },
        );
    }
    bytes.freeze()
}

fn record(bytes: &mut BytesMut, event: &Event) {
    let event = event.encode_to_vec();
    let length = (event.len() as u64).to_le_bytes();
    bytes.put_slice(&length);
    bytes.put_u32_le(masked(&length));
    bytes.put_slice(&event);
    bytes.put_u32_le(masked(&event));
}

/// A checksum that may itself be summed up.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// What a row says, in groups.
fn scalars(row: &Row) -> Vec<Scalar> {
    const LEVELS: [&str; QUARTILES] = ["1 (noisiest)", "2", "3", "4 (cleanest)"];
    let Row { loss, loss_by_level, gradient_norm, learning_rate, time, validation, .. } = row;
    let mut all = vec![
        ("train/loss".to_string(), *loss),
        ("train/gradient_norm".to_string(), *gradient_norm),
        ("train/learning_rate".to_string(), *learning_rate),
        ("speed/samples_per_second".to_string(), time.samples_per_second),
        ("speed/members".to_string(), f64::from(time.members)),
    ];
    let by_level = LEVELS.iter().zip(loss_by_level);
    all.extend(by_level.filter_map(|(name, loss)| Some((format!("loss_by_noise/{name}"), (*loss)?))));
    for (name, part) in [
        ("data", time.data),
        ("gradient", time.gradient),
        ("exchange", time.exchange),
        ("optimizer", time.optimizer),
    ] {
        all.push((format!("time_percent/{name}"), 100.0 * part / time.all.max(1e-9)));
    }
    if let Some(v) = validation {
        all.push(("validation/loss".to_string(), v.loss));
        all.push(("validation/loss_averaged".to_string(), v.loss_averaged));
        if let Some(s) = &v.samples {
            all.extend([
                ("validation/psnr".to_string(), s.psnr),
                ("validation/psnr_bicubic".to_string(), s.psnr_bicubic),
                ("validation/ssim".to_string(), s.ssim),
                ("validation/consistency".to_string(), s.consistency),
            ]);
        }
    }
    all.into_iter().map(|(tag, value)| Scalar { tag, value: value as f32 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::curve::Time;

    #[test]
    fn a_record_is_the_one_that_tensorflow_writes() {
        // The first record of every file of TensorFlow 2, but for its time, which is 0 here.
        let mut bytes = BytesMut::new();
        let version = Some("brain.Event:2".to_string());
        record(&mut bytes, &Event { file_version: version, ..Event::default() });
        assert_eq!(bytes[..8], 15u64.to_le_bytes());
        assert_eq!(bytes[12..27], *b"\x1a\x0dbrain.Event:2");
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked(&[0; 32]), 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn a_row_lies_where_its_step_and_time_say() {
        let time = Time { all: 2.0, data: 0.5, ..Time::default() };
        let row = |step, loss| Row {
            step,
            samples: 8 * step,
            loss,
            loss_by_level: [None, Some(0.5), None, None],
            gradient_norm: 1.0,
            learning_rate: 1e-4,
            skipped: 0,
            validation: None,
            time,
        };
        let bytes = encode(&[row(10, 0.25), row(20, 0.125)], 100.0);
        let mut rest = &bytes[..];
        let mut events = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<8>() {
            let length = u64::from_le_bytes(*length) as usize;
            events.push(Event::decode(&after[4..4 + length]).unwrap());
            rest = &after[4 + length + 4..];
        }
        let times: Vec<_> = events.iter().map(|event| (event.wall_time, event.step)).collect();
        assert_eq!(times, [(96.0, 0), (98.0, 10), (100.0, 20)]);
        let of = |tag: &str| {
            let values = &events[2].summary.as_ref().unwrap().values;
            values.iter().find(|value| value.tag == tag).map(|value| value.value)
        };
        assert_eq!(of("train/loss"), Some(0.125));
        assert_eq!(of("loss_by_noise/2"), Some(0.5));
        assert_eq!(of("loss_by_noise/1 (noisiest)"), None);
        assert_eq!(of("time_percent/data"), Some(25.0));
    }
}
