//! A kind of job whose only work is to be a gang: a stage with one unit, one with seats, one with two units.

use std::sync::Arc;

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use sr3::{
    coordinator::{
        JobError,
        core::view::Phase,
        kind::{
            Begin, Begun, Check, Doubt, EndedUnit, Kind, Known, Ordered, Outcome, Planned, Reported, Seat,
            SetAside, SoFar,
        },
    },
    proto::{Head, Order, RunId, SpecError, UnitId, job_spec::Document, session::UnitResult},
};

/// What its specs and orders say.
pub(crate) const DRILL: &str = "drill";
/// The payload of a seat.
pub(crate) const SEAT: &[u8] = b"seat";
/// Of any other unit.
pub(crate) const PLAIN: &[u8] = b"plain";

/// The kind, for gangs of at least `min` and at most `seats`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drill {
    pub(crate) min: u32,
    pub(crate) seats: usize,
}

impl Drill {
    /// The units of a stage.
    fn units(self, stage: u32) -> Vec<Planned> {
        let seat = (stage == 1).then_some(Seat { min: self.min });
        let unit = Bytes::from_static(if seat.is_some() { SEAT } else { PLAIN });
        let count = [1, self.seats, 2][stage as usize];
        (0..count)
            .map(|n| Planned {
                unit: unit.clone(),
                items: 1,
                planned: 1,
                cursor: (n + 1).to_string(),
                seat,
                ..Planned::default()
            })
            .collect()
    }
}

#[tonic::async_trait]
impl Kind for Drill {
    fn name(&self) -> &'static str {
        DRILL
    }

    async fn order(&self, _: &Document, _: &Known) -> Result<Ordered, SpecError> {
        let head = Head { priority: 1, ..Head::default() };
        let order = Order { kind: DRILL.into(), head, payload: Bytes::new() };
        Ok(Ordered { spec: format!("kind: {DRILL}\n"), order })
    }

    async fn begin(&self, _: Arc<Order>, _: Begin) -> Result<Box<dyn Begun>, JobError> {
        Ok(Box::new(*self))
    }

    fn set_aside(&self, _: &Order, _: &Bytes, _: &[Bytes], _: &str) -> Option<SetAside> {
        None
    }
}

#[tonic::async_trait]
impl Begun for Drill {
    fn run(&self) -> RunId {
        RunId::new(1)
    }

    fn check(&self) -> Arc<dyn Check> {
        Arc::new(*self)
    }

    fn stages(&self) -> u32 {
        3
    }

    fn plan<'a>(&'a self, stage: u32, so_far: SoFar<'a>) -> BoxStream<'a, Result<Planned, JobError>> {
        let planned = so_far.cursor.parse().unwrap_or(0);
        stream::iter(self.units(stage).into_iter().skip(planned).map(Ok)).boxed()
    }

    /// Every unit is recorded, but for seats: of these one at least.
    async fn end<'a>(
        &'a self,
        phase: Phase,
        units: BoxStream<'a, Result<EndedUnit, JobError>>,
    ) -> Result<Reported, JobError> {
        let units: Vec<EndedUnit> = units.try_collect().await?;
        let open = |unit: &&EndedUnit| matches!(unit.outcome, Outcome::Open(_));
        let (seats, others): (Vec<_>, Vec<_>) = units.iter().partition(|unit| unit.unit == SEAT);
        let whole = seats.len() == self.seats
            && others.len() == 3
            && others.iter().all(|unit| !open(unit))
            && seats.iter().any(|unit| !open(unit));
        match whole || phase != Phase::Succeeded {
            true => Ok(Reported {
                done: units.iter().filter(|unit| !open(unit)).count() as u64,
                ..Reported::default()
            }),
            false => Err(JobError::Kind(format!("this is no end: {units:?}").into())),
        }
    }
}

#[tonic::async_trait]
impl Check for Drill {
    async fn check(&self, _: UnitId, _: &Bytes, _: &UnitResult) -> Result<(), Doubt> {
        Ok(())
    }
}
