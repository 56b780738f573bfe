//! The gate before every call: who is it, and may they?
//!
//! Which role a call wants stands in one table; a call that is not in it wants an admin. A process that listens on loopback, or
//! was started with `--insecure`, asks nobody. It never looks into a message.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures::future::Either;
use sr3_proto::{
    access::{Role, Token},
    net::{Peer, Tls},
};
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use super::{Active, Audit};
use crate::{
    caller::{Caller, Proof},
    clock::Clock,
};

/// The role that a call wants. Health wants none: probes have no names.
const WANTED: [(&str, Role); 16] = [
    ("/sr3.v1.JobService/SubmitJob", Role::Submit),
    ("/sr3.v1.JobService/GetJob", Role::Read),
    ("/sr3.v1.JobService/ListJobs", Role::Read),
    ("/sr3.v1.JobService/WatchJob", Role::Read),
    ("/sr3.v1.JobService/JobLogs", Role::Read),
    ("/sr3.v1.JobService/CancelJob", Role::Submit),
    ("/sr3.v1.JobService/PauseJob", Role::Submit),
    ("/sr3.v1.JobService/ResumeJob", Role::Submit),
    ("/sr3.v1.JobService/ListWorkers", Role::Read),
    ("/sr3.v1.JobService/DrainWorker", Role::Admin),
    ("/sr3.v1.WorkerSessionService/Session", Role::Work),
    // Workers serve it, each other.
    ("/sr3.v1.PeerService/Link", Role::Work),
    ("/sr3.v1.AccessService/CreateToken", Role::Admin),
    ("/sr3.v1.AccessService/ListTokens", Role::Admin),
    ("/sr3.v1.AccessService/RevokeToken", Role::Admin),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Role::Read),
];
const HEALTH: &str = "/grpc.health.v1.Health/";

/// Whom a process lets in.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everybody, who may do everything.
    Anybody {
        /// Although others than this machine can reach it.
        insecure: bool,
    },
    /// Those with a certificate of a role, or with a token.
    Known(Tls),
}

/// The gate. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(super) access: Access,
    pub(super) active: Active,
    pub(super) audit: Audit,
    pub(super) clock: Clock,
}

impl Gate {
    /// Lets a call in, or says why not.
    fn admit(
        &self,
        path: &str,
        authorization: Option<&str>,
        peer: Option<&Peer>,
    ) -> Result<Option<Caller>, Status> {
        let from = peer.map(|peer| peer.address);
        let tls = match &self.access {
            Access::Anybody { .. } => {
                if let Some(peer) = peer {
                    peer.admit();
                }
                return Ok(Some(Caller::anybody(from)));
            }
            Access::Known(tls) => tls,
        };
        if path.starts_with(HEALTH) {
            return Ok(None);
        }
        let caller = self.caller(authorization, peer, tls).inspect_err(|status| {
            let stranger = Caller { from, ..Caller::anybody(None) };
            if status.code() != tonic::Code::Unavailable {
                self.audit.refused(Some(&stranger).filter(|c| c.from.is_some()), path, status.message());
            }
        })?;
        let wanted = WANTED.iter().find(|(call, _)| *call == path).map_or(Role::Admin, |(_, role)| *role);
        if !caller.role.allows(wanted) {
            let text = format!("{caller} has the role {}, and this wants {wanted}", caller.role);
            self.audit.refused(Some(&caller), path, &text);
            return Err(Status::permission_denied(text));
        }
        if let Some(peer) = peer {
            peer.admit();
        }
        Ok(Some(caller))
    }

    fn caller(&self, authorization: Option<&str>, peer: Option<&Peer>, tls: &Tls) -> Result<Caller, Status> {
        let from = peer.map(|peer| peer.address);
        if let Some(written) = authorization {
            let token = written.strip_prefix("Bearer ").and_then(Token::parse);
            let token =
                token.ok_or_else(|| Status::unauthenticated("the token is not written like one of sr3"))?;
            let checked = super::active(&self.active)?.tokens().check(&token, self.clock.wall_ms());
            let (name, role) = checked.map_err(|e| Status::unauthenticated(e.to_string()))?;
            return Ok(Caller { name, role, proof: Proof::Token { id: token.id().to_string() }, from });
        }
        let nobody = "this cluster wants to know who calls: pass a certificate with a role (--tls) or a token \
                      (--token-file)";
        let shown = peer.and_then(|peer| peer.certificate.as_deref());
        let shown = shown.ok_or_else(|| Status::unauthenticated(nobody))?;
        let role = shown.role.ok_or_else(|| {
            let text =
                "the certificate names no role: its organizational unit is to be read, submit, work or admin";
            Status::unauthenticated(text)
        })?;
        let proof = Proof::Certificate { serial: shown.serial.clone(), not_after: shown.not_after };
        let caller = Caller { name: shown.name.clone(), role, proof, from };
        self.check(&caller, tls)?;
        Ok(caller)
    }

    /// Whether a caller who was let in still would be: streams last longer than calls.
    pub(super) fn still_admits(&self, caller: &Caller) -> Result<(), Status> {
        match &self.access {
            Access::Anybody { .. } => Ok(()),
            Access::Known(tls) => self.check(caller, tls),
        }
    }

    fn check(&self, caller: &Caller, tls: &Tls) -> Result<(), Status> {
        let now_ms = self.clock.wall_ms();
        match &caller.proof {
            Proof::None => Ok(()),
            Proof::Certificate { serial, .. } if tls.is_revoked(serial) => {
                Err(Status::unauthenticated(format!("{caller} was revoked")))
            }
            Proof::Certificate { not_after, .. }
                if *not_after < i64::try_from(now_ms / 1000).unwrap_or(i64::MAX) =>
            {
                Err(Status::unauthenticated(format!("{caller} has expired")))
            }
            Proof::Certificate { .. } => Ok(()),
            Proof::Token { id } => match super::active(&self.active)?.tokens().still_holds(id, now_ms) {
                true => Ok(()),
                false => Err(Status::unauthenticated(format!("{caller} does not hold any more"))),
            },
        }
    }

    pub(super) fn is_insecure(&self) -> bool {
        matches!(self.access, Access::Anybody { insecure: true })
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S, B> Service<http::Request<B>> for Gated<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Self::Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let authorization = request.headers().get(http::header::AUTHORIZATION);
        // One that is no text is none that was issued.
        let authorization = authorization.map(|value| value.to_str().unwrap_or_default());
        let admitted =
            self.gate.admit(request.uri().path(), authorization, request.extensions().get::<Peer>());
        match admitted {
            Ok(caller) => {
                request.extensions_mut().insert(caller.unwrap_or_else(|| Caller::anybody(None)));
                Either::Left(self.inner.call(request))
            }
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

/// Who made a request that the gate let in.
pub(super) fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::internal("a call came around the gate; please report it"))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use sr3_proto::wire::DESCRIPTORS;

    use super::*;

    /// Names of services and methods in a set of descriptors, as far as is needed here.
    #[derive(Clone, PartialEq, Message)]
    struct Set {
        #[prost(message, repeated, tag = "1")]
        files: Vec<Descriptor>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Descriptor {
        #[prost(string, tag = "2")]
        package: String,
        #[prost(message, repeated, tag = "6")]
        services: Vec<ServiceNames>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ServiceNames {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, repeated, tag = "2")]
        methods: Vec<MethodName>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct MethodName {
        #[prost(string, tag = "1")]
        name: String,
    }

    #[test]
    fn every_call_of_the_protocol_is_in_the_table() {
        let set = Set::decode(DESCRIPTORS).unwrap();
        let mut count = 0;
        for file in set.files {
            for service in file.services {
                for method in service.methods {
                    let path = format!("/{}.{}/{}", file.package, service.name, method.name);
                    assert!(WANTED.iter().any(|(call, _)| *call == path), "{path}");
                    count += 1;
                }
            }
        }
        assert_eq!(count + 1, WANTED.len(), "a call in the table is gone");
    }
}
