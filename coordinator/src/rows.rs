//! The ledger's rows: their keys, and their bytes. Pure.
//!
//! ```text
//! job/JOB                what was asked for, and how it stands
//! plan/JOB               how far planning came
//! unit/JOB/UNIT          what a unit is; never changes
//! attempts/JOB/UNIT      an open unit: who holds it, what it lost, verdicts so far; gone once it is recorded
//! done/JOB/UNIT          recorded, once
//! event/JOB/SEQUENCE     the job's log
//! token/ID               a bearer token, by its hash
//! idempotency/KEY        the job that this key made
//! ```
//!
//! Of a job that has ended only its own row and its events stay, and of these only the latest thousand jobs'.
//!
//! Numbers are written in 20 digits, so that rows sort as they do. Every row begins with a version, and one from the
//! future is refused rather than guessed at.

use bytes::Bytes;
use prost::Message;
use sr3_proto::{
    JobId, UnitId,
    wire::ledger::{AttemptsRow, DoneRow, EventRow, IdempotencyRow, JobRow, PlanRow, TokenRow, UnitRow},
};

use crate::{ledger::LedgerError, scheduler::OpenUnit};

/// The version of every row that this program writes.
pub const VERSION: u32 = 2;

/// What every row of every version begins with.
#[derive(Clone, PartialEq, Message)]
struct Versioned {
    #[prost(uint32, tag = "1")]
    version: u32,
}

/// A row with a version.
pub(crate) trait Row: Message + Default {
    /// Sets [`VERSION`].
    fn stamp(&mut self);
}

macro_rules! rows {
    ($($row:ident),*) => {$(
        impl Row for $row {
            fn stamp(&mut self) {
                self.version = VERSION;
            }
        }
    )*};
}

rows!(JobRow, PlanRow, UnitRow, AttemptsRow, DoneRow, EventRow, IdempotencyRow, TokenRow);

/// A row's bytes.
pub(crate) fn write(mut row: impl Row) -> Bytes {
    row.stamp();
    row.encode_to_vec().into()
}

/// The row in these bytes, which lie at `key`.
pub(crate) fn read<R: Row>(key: &str, bytes: &[u8]) -> Result<R, LedgerError> {
    let corrupt = |reason: String| LedgerError::Corrupt { location: format!("row `{key}`"), reason };
    // First of all: in another version the rest may mean anything.
    let Versioned { version } = Versioned::decode(bytes).map_err(|e| corrupt(e.to_string()))?;
    match version {
        VERSION => R::decode(bytes).map_err(|e| corrupt(e.to_string())),
        other => Err(corrupt(format!(
            "it has version {other}, and this program reads version {VERSION}: use the sr3 that wrote it, or begin with an empty --state"
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

pub(crate) fn units(job: JobId) -> String {
    format!("unit/{:020}/", job.get())
}

pub(crate) fn unit(job: JobId, unit: UnitId) -> String {
    format!("unit/{:020}/{:020}", job.get(), unit.get())
}

pub(crate) fn all_attempts(job: JobId) -> String {
    format!("attempts/{:020}/", job.get())
}

pub(crate) fn attempts(job: JobId, unit: UnitId) -> String {
    format!("attempts/{:020}/{:020}", job.get(), unit.get())
}

pub(crate) fn all_done(job: JobId) -> String {
    format!("done/{:020}/", job.get())
}

pub(crate) fn done(job: JobId, unit: UnitId) -> String {
    format!("done/{:020}/{:020}", job.get(), unit.get())
}

pub(crate) fn events(job: JobId) -> String {
    format!("event/{:020}/", job.get())
}

pub(crate) fn event(job: JobId, sequence: u64) -> String {
    format!("event/{:020}/{sequence:020}", job.get())
}

pub(crate) const TOKENS: &str = "token/";

pub(crate) fn token(id: &str) -> String {
    format!("token/{id}")
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

/// What is kept of an open unit.
pub(crate) fn attempts_row(open: &OpenUnit) -> AttemptsRow {
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
pub(crate) fn open_unit(row: AttemptsRow) -> OpenUnit {
    let AttemptsRow { attempts, failures, lost, records, item_lost, instance, epoch, token, .. } = row;
    let holder = Some((instance, epoch, token)).filter(|(instance, ..)| !instance.is_empty());
    OpenUnit { attempts, failures, lost, records, item_lost, holder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_from_the_future_is_refused_and_an_old_one_reads_back() {
        let bytes = write(PlanRow { units: 3, ..PlanRow::default() });
        assert_eq!(read::<PlanRow>("plan/1", &bytes).unwrap().units, 3);
        let future = PlanRow { version: 3, ..PlanRow::default() }.encode_to_vec();
        assert!(read::<PlanRow>("plan/1", &future).unwrap_err().to_string().contains("version 3"));
        assert!(read::<PlanRow>("plan/1", &[0xff; 7]).is_err());
    }

    #[test]
    fn a_job_of_the_version_before_is_refused_with_the_way_out_whatever_its_fields_meant() {
        #[derive(Clone, PartialEq, Message)]
        struct Before {
            #[prost(uint32, tag = "1")]
            version: u32,
            /// Where an order is now.
            #[prost(string, tag = "4")]
            resolved: String,
        }
        let row = Before { version: 1, resolved: "{\"source\": \"in\"}".into() }.encode_to_vec();
        let error = read::<JobRow>("job/1", &row).unwrap_err().to_string();
        assert!(error.contains("version 1") && error.contains("begin with an empty --state"), "{error}");
    }

    #[test]
    fn keys_sort_as_their_numbers_do() {
        assert!(job(JobId::new(9)) < job(JobId::new(10)));
        assert_eq!(last_number(&done(JobId::new(1), UnitId::new(77))).unwrap(), 77);
        assert!(last_number("done/x").is_err());
    }

    #[test]
    fn an_open_unit_survives_a_restart() {
        let open = OpenUnit {
            attempts: 3,
            failures: 1,
            lost: vec!["a".into(), "b".into()],
            item_lost: vec!["b".into()],
            records: vec![Bytes::from_static(b"{}")],
            holder: Some(("i".into(), 4, 5)),
        };
        assert_eq!(open_unit(attempts_row(&open)), open);
        assert_eq!(open_unit(attempts_row(&OpenUnit::default())), OpenUnit::default());
    }
}
