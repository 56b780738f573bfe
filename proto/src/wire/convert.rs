//! Between the session's values and its messages. Pure. What a stranger sent is checked here: a message that cannot be
//! read is an error that names the field, never a panic and never a default that nobody meant.

use std::{sync::Arc, time::Duration};

use super::v1;
use crate::{
    Digest, FailureKind, FromWorker, Grant, Head, Hello, JobId, Lease, LeaseProgress, Location, Needs, Offer,
    Order, RunId, ToWorker, UnitId, WorkerId,
    gang::{GangState, Generation, MEMBERS_MAX, Membership, Peer},
    order::{ModelName, Place},
    session::UnitResult,
};

/// Longest name or address of a peer.
const NAME_BYTES_MAX: usize = 1024;

/// A message that breaks the protocol.
#[derive(Debug, thiserror::Error)]
#[error("the message's `{field}` cannot be used: {reason}")]
pub struct WireError {
    /// Which part.
    pub field: &'static str,
    /// Why.
    pub reason: String,
}

fn bad(field: &'static str, reason: impl ToString) -> WireError {
    WireError { field, reason: reason.to_string() }
}

fn need<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or_else(|| bad(field, "it is missing"))
}

impl From<Lease> for v1::Lease {
    fn from(lease: Lease) -> Self {
        let Lease { epoch, job, unit, attempt, token } = lease;
        Self { epoch, job: job.get(), unit: unit.get(), attempt, token }
    }
}

impl From<v1::Lease> for Lease {
    fn from(lease: v1::Lease) -> Self {
        let v1::Lease { epoch, job, unit, attempt, token } = lease;
        Self { epoch, job: JobId::new(job), unit: UnitId::new(unit), attempt, token }
    }
}

fn lease(lease: Option<v1::Lease>) -> Result<Lease, WireError> {
    need("lease", lease).map(Lease::from)
}

fn digest(field: &'static str, text: String) -> Result<Digest, WireError> {
    Digest::try_from(text).map_err(|e| bad(field, e))
}

fn digests(field: &'static str, texts: Vec<String>) -> Result<Vec<Digest>, WireError> {
    texts.into_iter().map(|text| digest(field, text)).collect()
}

fn texts(digests: Vec<Digest>) -> Vec<String> {
    digests.into_iter().map(String::from).collect()
}

impl From<&Order> for v1::Order {
    fn from(order: &Order) -> Self {
        let Order { kind, head, payload } = order.clone();
        let Head { name, priority, places, models, needs: Needs { class, memory_bytes }, bad_items_max } =
            head;
        Self {
            kind,
            name: name.unwrap_or_default(),
            priority,
            places: places.into_iter().map(v1::Place::from).collect(),
            models: models.into_iter().map(v1::ModelName::from).collect(),
            class,
            bad_items_max,
            payload,
            memory_bytes,
        }
    }
}

impl TryFrom<v1::Order> for Order {
    type Error = WireError;

    fn try_from(order: v1::Order) -> Result<Self, WireError> {
        let v1::Order { kind, name, priority, places, models, class, bad_items_max, payload, memory_bytes } =
            order;
        let head = Head {
            name: Some(name).filter(|name| !name.is_empty()),
            priority,
            places: places.into_iter().map(Place::try_from).collect::<Result<_, _>>()?,
            models: models.into_iter().map(ModelName::try_from).collect::<Result<_, _>>()?,
            needs: Needs { class, memory_bytes },
            bad_items_max,
        };
        Ok(Self { kind, head, payload })
    }
}

impl From<Place> for v1::Place {
    fn from(place: Place) -> Self {
        let Place { what, location, writes } = place;
        Self { what, location: location.to_string(), writes }
    }
}

impl TryFrom<v1::Place> for Place {
    type Error = WireError;

    fn try_from(place: v1::Place) -> Result<Self, WireError> {
        let v1::Place { what, location, writes } = place;
        let location = location.parse::<Location>().map_err(|e| bad("places", e))?;
        Ok(Self { what, location, writes })
    }
}

impl From<ModelName> for v1::ModelName {
    fn from(model: ModelName) -> Self {
        let ModelName { name, sha256 } = model;
        Self { name, sha256: sha256.into() }
    }
}

impl TryFrom<v1::ModelName> for ModelName {
    type Error = WireError;

    fn try_from(model: v1::ModelName) -> Result<Self, WireError> {
        let v1::ModelName { name, sha256 } = model;
        Ok(Self { name, sha256: digest("models", sha256)? })
    }
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        let Hello { name, version, device, offer, instance, held, credits, models, peer_address } = hello;
        let Offer { kinds, classes, memory_bytes, threads } = offer;
        Self {
            protocol: super::PROTOCOL,
            name,
            version,
            device,
            instance,
            held: held.into_iter().map(v1::Lease::from).collect(),
            credits,
            models: texts(models),
            kinds,
            classes,
            memory_bytes,
            threads,
            peer_address,
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = WireError;

    fn try_from(hello: v1::Hello) -> Result<Self, WireError> {
        let v1::Hello {
            protocol,
            name,
            version,
            device,
            instance,
            held,
            credits,
            models,
            kinds,
            classes,
            memory_bytes,
            threads,
            peer_address,
        } = hello;
        if protocol != super::PROTOCOL {
            return Err(bad(
                "protocol",
                format!(
                    "the worker speaks version {protocol} (sr3 {version}) and this coordinator version {}: run the \
                     same sr3 on both",
                    super::PROTOCOL
                ),
            ));
        }
        if instance.is_empty() {
            return Err(bad("instance", "it is empty"));
        }
        let held = held.into_iter().map(Lease::from).collect();
        let offer = Offer { kinds, classes, memory_bytes, threads };
        if peer_address.len() > NAME_BYTES_MAX {
            return Err(bad("peer_address", "it is longer than any address"));
        }
        let models = digests("models", models)?;
        Ok(Self { name, version, device, offer, instance, held, credits, models, peer_address })
    }
}

impl From<FromWorker> for v1::SessionRequest {
    fn from(message: FromWorker) -> Self {
        use v1::session_request::Message;
        let message = match message {
            FromWorker::Heartbeat { credits, leases, models, draining } => {
                let leases = leases.into_iter().map(v1::LeaseProgress::from).collect();
                Message::Heartbeat(v1::Heartbeat { credits, leases, models: texts(models), draining })
            }
            FromWorker::ItemDone { lease, record } => {
                Message::ItemDone(v1::ItemDone { lease: Some(lease.into()), record })
            }
            FromWorker::UnitDone { lease, result: UnitResult { done, quarantined, reasons, payload } } => {
                Message::UnitDone(v1::UnitDone {
                    lease: Some(lease.into()),
                    done,
                    quarantined,
                    payload,
                    reasons,
                })
            }
            FromWorker::UnitFailed { lease, reason, kind, records } => Message::UnitFailed(v1::UnitFailed {
                lease: Some(lease.into()),
                reason,
                kind: v1::FailureKind::from(kind).into(),
                records,
            }),
            FromWorker::UnitReturned { lease, records } => {
                Message::UnitReturned(v1::UnitReturned { lease: Some(lease.into()), records })
            }
            FromWorker::Accuse { lease, generation, of } => Message::Accuse(v1::Accuse {
                lease: Some(lease.into()),
                generation: Some(generation.into()),
                of,
            }),
            FromWorker::Goodbye => Message::Goodbye(v1::Goodbye {}),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::SessionRequest> for FromWorker {
    type Error = WireError;

    fn try_from(request: v1::SessionRequest) -> Result<Self, WireError> {
        use v1::session_request::Message;
        Ok(match need("message", request.message)? {
            Message::Hello(_) => return Err(bad("hello", "it was said before")),
            Message::Heartbeat(v1::Heartbeat { credits, leases, models, draining }) => Self::Heartbeat {
                credits,
                leases: leases.into_iter().map(LeaseProgress::try_from).collect::<Result<_, _>>()?,
                models: digests("models", models)?,
                draining,
            },
            Message::ItemDone(v1::ItemDone { lease: held, record }) => {
                Self::ItemDone { lease: lease(held)?, record }
            }
            Message::UnitDone(v1::UnitDone { lease: held, done, quarantined, payload, reasons }) => {
                let result = UnitResult { done, quarantined, reasons, payload };
                Self::UnitDone { lease: lease(held)?, result }
            }
            Message::UnitFailed(failed) => Self::UnitFailed {
                kind: failed.kind().into(),
                lease: lease(failed.lease)?,
                records: failed.records,
                reason: failed.reason,
            },
            Message::UnitReturned(v1::UnitReturned { lease: held, records }) => {
                Self::UnitReturned { lease: lease(held)?, records }
            }
            Message::Accuse(v1::Accuse { of, .. }) if of.len() > NAME_BYTES_MAX => {
                return Err(bad("of", "it is longer than any name"));
            }
            Message::Accuse(v1::Accuse { lease: held, generation, of }) => {
                Self::Accuse { lease: lease(held)?, generation: need("generation", generation)?.into(), of }
            }
            Message::Goodbye(v1::Goodbye {}) => Self::Goodbye,
        })
    }
}

impl From<Generation> for v1::Generation {
    fn from(generation: Generation) -> Self {
        let Generation { epoch, number } = generation;
        Self { epoch, number }
    }
}

impl From<v1::Generation> for Generation {
    fn from(generation: v1::Generation) -> Self {
        let v1::Generation { epoch, number } = generation;
        Self { epoch, number }
    }
}

impl From<Membership> for v1::Membership {
    fn from(membership: Membership) -> Self {
        let Membership { job, generation, members } = membership;
        let peer = |Peer { instance, name, address }| v1::Peer { instance, name, address };
        Self {
            job: job.get(),
            generation: Some(generation.into()),
            members: members.into_iter().map(peer).collect(),
        }
    }
}

impl TryFrom<v1::Membership> for Membership {
    type Error = WireError;

    fn try_from(membership: v1::Membership) -> Result<Self, WireError> {
        let v1::Membership { job, generation, members } = membership;
        if members.len() > MEMBERS_MAX {
            return Err(bad("members", format!("more than {MEMBERS_MAX}")));
        }
        let peer = |v1::Peer { instance, name, address }| {
            let whole = [&instance, &name, &address].iter().all(|text| text.len() <= NAME_BYTES_MAX);
            if whole {
                Ok(Peer { instance, name, address })
            } else {
                Err(bad("members", "a name is too long"))
            }
        };
        Ok(Self {
            job: JobId::new(job),
            generation: need("generation", generation)?.into(),
            members: members.into_iter().map(peer).collect::<Result<_, _>>()?,
        })
    }
}

fn gang_state(state: Option<v1::gang::State>) -> Result<GangState, WireError> {
    Ok(match need("state", state)? {
        v1::gang::State::Together(membership) => GangState::Together(membership.try_into()?),
        v1::gang::State::Waiting(reason) => GangState::Waiting { reason },
        v1::gang::State::Leave(reason) => GangState::Leave { reason },
    })
}

impl From<LeaseProgress> for v1::LeaseProgress {
    fn from(progress: LeaseProgress) -> Self {
        let LeaseProgress { lease, items_done, current, share, generation } = progress;
        let generation = generation.map(v1::Generation::from);
        let current = current.unwrap_or_default();
        Self { lease: Some(lease.into()), items_done, current, share, generation }
    }
}

impl TryFrom<v1::LeaseProgress> for LeaseProgress {
    type Error = WireError;

    fn try_from(progress: v1::LeaseProgress) -> Result<Self, WireError> {
        let v1::LeaseProgress { lease: held, items_done, current, share, generation } = progress;
        let current = Some(current).filter(|c| !c.is_empty());
        let generation = generation.map(Generation::from);
        Ok(Self { lease: lease(held)?, items_done, current, share, generation })
    }
}

impl From<FailureKind> for v1::FailureKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Transient => Self::Transient,
            FailureKind::Worker => Self::Worker,
            FailureKind::Job => Self::Job,
        }
    }
}

impl From<v1::FailureKind> for FailureKind {
    fn from(kind: v1::FailureKind) -> Self {
        match kind {
            v1::FailureKind::Unspecified | v1::FailureKind::Transient => Self::Transient,
            v1::FailureKind::Worker => Self::Worker,
            v1::FailureKind::Job => Self::Job,
        }
    }
}

impl From<ToWorker> for v1::SessionResponse {
    fn from(message: ToWorker) -> Self {
        use v1::session_response::Message;
        let message = match message {
            ToWorker::Welcome { worker, epoch, lease_ttl, heartbeat_every, renewed } => {
                Message::Welcome(v1::Welcome {
                    worker: worker.get(),
                    epoch,
                    lease_ttl_ms: millis(lease_ttl),
                    heartbeat_every_ms: millis(heartbeat_every),
                    renewed: renewed
                        .into_iter()
                        .map(|(old, new)| v1::Renewed { old: Some(old.into()), new: Some(new.into()) })
                        .collect(),
                })
            }
            ToWorker::Grant(grant) => Message::Grant((*grant).into()),
            ToWorker::Committed { lease } => Message::Committed(v1::Committed { lease: Some(lease.into()) }),
            ToWorker::Revoke { lease, reason } => {
                Message::Revoke(v1::Revoke { lease: Some(lease.into()), reason })
            }
            ToWorker::Drain => Message::Drain(v1::Drain {}),
            ToWorker::Gang { lease, state } => {
                use v1::gang::State;
                let state = match state {
                    GangState::Together(membership) => State::Together(membership.into()),
                    GangState::Waiting { reason } => State::Waiting(reason),
                    GangState::Leave { reason } => State::Leave(reason),
                };
                Message::Gang(v1::Gang { lease: Some(lease.into()), state: Some(state) })
            }
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::SessionResponse> for ToWorker {
    type Error = WireError;

    fn try_from(response: v1::SessionResponse) -> Result<Self, WireError> {
        use v1::session_response::Message;
        Ok(match need("message", response.message)? {
            Message::Welcome(welcome) => {
                let renewed = welcome
                    .renewed
                    .into_iter()
                    .map(|v1::Renewed { old, new }| Ok((lease(old)?, lease(new)?)));
                Self::Welcome {
                    worker: WorkerId::new(welcome.worker),
                    epoch: welcome.epoch,
                    lease_ttl: Duration::from_millis(welcome.lease_ttl_ms.into()),
                    heartbeat_every: Duration::from_millis(welcome.heartbeat_every_ms.max(1).into()),
                    renewed: renewed.collect::<Result<_, WireError>>()?,
                }
            }
            Message::Grant(grant) => Self::Grant(Box::new(Grant::try_from(grant)?)),
            Message::Committed(v1::Committed { lease: held }) => Self::Committed { lease: lease(held)? },
            Message::Revoke(v1::Revoke { lease: held, reason }) => {
                Self::Revoke { lease: lease(held)?, reason }
            }
            Message::Drain(v1::Drain {}) => Self::Drain,
            Message::Gang(v1::Gang { lease: held, state }) => {
                Self::Gang { lease: lease(held)?, state: gang_state(state)? }
            }
        })
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl From<Grant> for v1::Grant {
    fn from(grant: Grant) -> Self {
        let Grant { lease, order, run, unit, records, isolated } = grant;
        let order = Some(v1::Order::from(&*order));
        Self { lease: Some(lease.into()), order, run: run.get(), unit, records, isolated }
    }
}

impl TryFrom<v1::Grant> for Grant {
    type Error = WireError;

    fn try_from(grant: v1::Grant) -> Result<Self, WireError> {
        let v1::Grant { lease: held, order, run, unit, records, isolated } = grant;
        let order = Arc::new(Order::try_from(need("order", order)?)?);
        Ok(Self { lease: lease(held)?, order, run: RunId::new(run), unit, records, isolated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn order() -> Order {
        let place = |what: &str, location: &str, writes| Place {
            what: what.into(),
            location: location.parse().unwrap(),
            writes,
        };
        let head = Head {
            name: Some("holidays".into()),
            priority: 3,
            places: vec![place("source", "s3://a/in", false), place("destination", "/out", true)],
            models: vec![ModelName { name: "photo-4x".into(), sha256: Digest::of(b"m") }],
            needs: Needs { class: "f32".into(), memory_bytes: 7 },
            bad_items_max: Some(0),
        };
        Order { kind: "upscale".into(), head, payload: "{}".into() }
    }

    fn held() -> Lease {
        Lease { epoch: 3, job: JobId::new(1), unit: UnitId::new(0), attempt: 2, token: 9 }
    }

    #[test]
    fn what_is_sent_arrives() {
        let grant = Grant {
            lease: held(),
            order: Arc::new(order()),
            run: RunId::new(4),
            unit: "unit".into(),
            records: vec!["record".into()],
            isolated: true,
        };
        for message in [
            ToWorker::Welcome {
                worker: WorkerId::new(2),
                epoch: 3,
                lease_ttl: Duration::from_secs(30),
                heartbeat_every: Duration::from_secs(5),
                renewed: vec![(held(), Lease { token: 10, ..held() })],
            },
            ToWorker::Grant(Box::new(grant)),
            ToWorker::Committed { lease: held() },
            ToWorker::Revoke { lease: held(), reason: "r".into() },
            ToWorker::Drain,
            ToWorker::Gang { lease: held(), state: GangState::Waiting { reason: "r".into() } },
            ToWorker::Gang {
                lease: held(),
                state: GangState::Together(Membership {
                    job: JobId::new(1),
                    generation: Generation { epoch: 3, number: 4 },
                    members: vec![Peer { instance: "i".into(), name: "n".into(), address: "a".into() }],
                }),
            },
        ] {
            let wire = v1::SessionResponse::from(message.clone());
            assert_eq!(ToWorker::try_from(wire).unwrap(), message);
        }
        let progress = LeaseProgress {
            lease: held(),
            items_done: 1,
            current: Some("a".into()),
            share: 0.5,
            generation: Some(Generation { epoch: 3, number: 4 }),
        };
        for message in [
            FromWorker::Heartbeat {
                credits: 2,
                leases: vec![progress],
                models: vec![Digest::of(b"m")],
                draining: true,
            },
            FromWorker::ItemDone { lease: held(), record: "record".into() },
            FromWorker::UnitDone {
                lease: held(),
                result: UnitResult {
                    done: 1,
                    quarantined: 2,
                    payload: "x".into(),
                    reasons: vec!["r".into()],
                },
            },
            FromWorker::UnitFailed {
                lease: held(),
                reason: "r".into(),
                kind: FailureKind::Worker,
                records: vec!["record".into()],
            },
            FromWorker::UnitReturned { lease: held(), records: vec!["record".into()] },
            FromWorker::Accuse {
                lease: held(),
                generation: Generation { epoch: 3, number: 4 },
                of: "i".into(),
            },
            FromWorker::Goodbye,
        ] {
            let wire = v1::SessionRequest::from(message.clone());
            assert_eq!(FromWorker::try_from(wire).unwrap(), message);
        }
    }

    #[test]
    fn another_protocol_is_refused_with_both_versions() {
        let hello = v1::Hello { protocol: 99, version: "9.0".into(), ..v1::Hello::default() };
        let text = Hello::try_from(hello).unwrap_err().to_string();
        assert!(text.contains("99") && text.contains("9.0") && text.contains("version 3"), "{text}");
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_field() {
        assert!(FromWorker::try_from(v1::SessionRequest { message: None }).is_err());
        let mut wire = v1::Order::from(&order());
        wire.places[0].location = "http://elsewhere/".into();
        assert_eq!(Order::try_from(wire).unwrap_err().field, "places");
        let mut wire = v1::Order::from(&order());
        wire.models[0].sha256 = "short".into();
        assert_eq!(Order::try_from(wire).unwrap_err().field, "models");
        let grant = v1::Grant { lease: Some(held().into()), ..v1::Grant::default() };
        assert_eq!(Grant::try_from(grant).unwrap_err().field, "order");
    }
}
