//! The ledger's rows: their keys, and their bytes. Pure.
//!
//! ```text
//! job/JOB                what was asked for, and how it stands
//! plan/JOB               how far planning came
//! shard/JOB/SHARD        what a shard is; never changes
//! attempts/JOB/SHARD     an open shard: who holds it, what it lost, verdicts so far; gone once it is recorded
//! done/JOB/SHARD         recorded, once
//! event/JOB/SEQUENCE     the job's log
//! idempotency/KEY        the job that this key made
//! ```
//!
//! Numbers are written in 20 digits, so that rows sort as they do. Every row begins with a version, and one from the
//! future is refused rather than guessed at.

use bytes::Bytes;
use prost::Message;
use sr3_proto::{
    Digest, ItemTask, JobId, Key, OnExisting, OutputFormat, ShardId,
    wire::ledger::{
        AttemptsRow, DoneRow, EventRow, IdempotencyRow, ItemRow, JobRow, PlanRow, SettledRow, ShardRow,
    },
};

use crate::{ledger::LedgerError, scheduler::OpenShard};

/// The version of every row that this program writes.
pub const VERSION: u32 = 1;

/// A row with a version.
pub(crate) trait Row: Message + Default {
    /// The version that was read.
    fn version(&self) -> u32;
    /// Sets [`VERSION`].
    fn stamp(&mut self);
}

macro_rules! rows {
    ($($row:ident),*) => {$(
        impl Row for $row {
            fn version(&self) -> u32 {
                self.version
            }

            fn stamp(&mut self) {
                self.version = VERSION;
            }
        }
    )*};
}

rows!(JobRow, PlanRow, ShardRow, AttemptsRow, DoneRow, EventRow, IdempotencyRow);

/// A row's bytes.
pub(crate) fn write(mut row: impl Row) -> Bytes {
    row.stamp();
    row.encode_to_vec().into()
}

/// The row in these bytes, which lie at `key`.
pub(crate) fn read<R: Row>(key: &str, bytes: &[u8]) -> Result<R, LedgerError> {
    let corrupt = |reason: String| LedgerError::Corrupt { location: format!("row `{key}`"), reason };
    let row = R::decode(bytes).map_err(|e| corrupt(e.to_string()))?;
    match row.version() {
        VERSION => Ok(row),
        other => Err(corrupt(format!(
            "it has version {other}, and this program reads version {VERSION}: use the sr3 that wrote it"
        ))),
    }
}

pub(crate) const JOBS: &str = "job/";

pub(crate) fn job(job: JobId) -> String {
    format!("job/{:020}", job.get())
}

pub(crate) fn plan(job: JobId) -> String {
    format!("plan/{:020}", job.get())
}

pub(crate) fn shards(job: JobId) -> String {
    format!("shard/{:020}/", job.get())
}

pub(crate) fn shard(job: JobId, shard: ShardId) -> String {
    format!("shard/{:020}/{:020}", job.get(), shard.get())
}

pub(crate) fn all_attempts(job: JobId) -> String {
    format!("attempts/{:020}/", job.get())
}

pub(crate) fn attempts(job: JobId, shard: ShardId) -> String {
    format!("attempts/{:020}/{:020}", job.get(), shard.get())
}

pub(crate) fn all_done(job: JobId) -> String {
    format!("done/{:020}/", job.get())
}

pub(crate) fn done(job: JobId, shard: ShardId) -> String {
    format!("done/{:020}/{:020}", job.get(), shard.get())
}

pub(crate) fn events(job: JobId) -> String {
    format!("event/{:020}/", job.get())
}

pub(crate) fn event(job: JobId, sequence: u64) -> String {
    format!("event/{:020}/{sequence:020}", job.get())
}

pub(crate) fn idempotency(key: &str) -> String {
    format!("idempotency/{key}")
}

/// The number that a key ends with.
pub(crate) fn last_number(key: &str) -> Result<u64, LedgerError> {
    key.rsplit('/').next().and_then(|digits| digits.parse().ok()).ok_or_else(|| LedgerError::Corrupt {
        location: format!("row `{key}`"),
        reason: "its name does not end with a number".into(),
    })
}

/// What is kept of an open shard.
pub(crate) fn attempts_row(open: &OpenShard) -> AttemptsRow {
    let (instance, epoch, token) = open.holder.clone().unwrap_or_default();
    AttemptsRow {
        version: VERSION,
        attempts: open.attempts,
        failures: open.failures,
        lost: open.lost.clone(),
        records: open.records.clone(),
        item_lost: open.item_lost.clone(),
        instance,
        epoch,
        token,
    }
}

/// And back.
pub(crate) fn open_shard(row: AttemptsRow) -> OpenShard {
    let AttemptsRow { attempts, failures, lost, records, item_lost, instance, epoch, token, .. } = row;
    let holder = Some((instance, epoch, token)).filter(|(instance, ..)| !instance.is_empty());
    OpenShard { attempts, failures, lost, records, item_lost, holder }
}

/// An item at its place among its shard's entries.
pub(crate) fn item_row(place: u32, item: ItemTask) -> ItemRow {
    let ItemTask { input, input_bytes, input_etag, output, format, on_existing } = item;
    let (on_existing, own_sha256) = match on_existing {
        OnExisting::Keep => (0, String::new()),
        OnExisting::ReplaceOwn(own) => (1, own.into()),
        OnExisting::Replace => (2, String::new()),
    };
    ItemRow {
        input: input.into(),
        input_bytes,
        output: output.into(),
        format: format.name().to_string(),
        on_existing,
        own_sha256,
        etag: input_etag.unwrap_or_default(),
        place,
    }
}

/// And back; None for a row that this program cannot have written.
pub(crate) fn item(row: ItemRow) -> Option<ItemTask> {
    let ItemRow { input, input_bytes, output, format, on_existing, own_sha256, etag, place: _ } = row;
    Some(ItemTask {
        input: Key::new(input).ok()?,
        input_bytes,
        input_etag: Some(etag).filter(|etag| !etag.is_empty()),
        output: Key::new(output).ok()?,
        format: OutputFormat::from_name(&format)?,
        on_existing: match on_existing {
            0 => OnExisting::Keep,
            1 => OnExisting::ReplaceOwn(Digest::try_from(own_sha256).ok()?),
            2 => OnExisting::Replace,
            _ => return None,
        },
    })
}

/// A settled entry at its place.
pub(crate) fn settled_row(place: u32, record: Bytes) -> SettledRow {
    SettledRow { place, record }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_from_the_future_is_refused_and_an_old_one_reads_back() {
        let bytes = write(PlanRow { shards: 3, ..PlanRow::default() });
        assert_eq!(read::<PlanRow>("plan/1", &bytes).unwrap().shards, 3);
        let future = PlanRow { version: 2, ..PlanRow::default() }.encode_to_vec();
        assert!(read::<PlanRow>("plan/1", &future).unwrap_err().to_string().contains("version 2"));
        assert!(read::<PlanRow>("plan/1", &[0xff; 7]).is_err());
    }

    #[test]
    fn keys_sort_as_their_numbers_do() {
        assert!(job(JobId::new(9)) < job(JobId::new(10)));
        assert_eq!(last_number(&done(JobId::new(1), ShardId::new(77))).unwrap(), 77);
        assert!(last_number("done/x").is_err());
    }

    #[test]
    fn an_open_shard_survives_a_restart() {
        let open = OpenShard {
            attempts: 3,
            failures: 1,
            lost: vec!["a".into(), "b".into()],
            item_lost: vec!["b".into()],
            records: vec![Bytes::from_static(b"{}")],
            holder: Some(("i".into(), 4, 5)),
        };
        assert_eq!(open_shard(attempts_row(&open)), open);
        assert_eq!(open_shard(attempts_row(&OpenShard::default())), OpenShard::default());
    }
}
