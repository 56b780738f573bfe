//! The loop of a cluster's worker: sessions come and go, units go on.

use std::{sync::Arc, time::Duration};

use sr3_proto::{Cancel, FromWorker, Grant, Hello, Offer, ToWorker, WorkerEnd};
use tokio::{
    pin, select,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    ClusterWorkerConfig, Connect, ConnectError, Runners, WorkerFailure,
    backoff::Backoff,
    device,
    holdings::{Answered, Holding, Holdings, Report},
    orders::Orders,
    pipeline::Pipeline,
    seat::{Accusation, seat},
    session::{Next, Session},
    stores::Stores,
    unit::{Unit, Workshop},
    work::UnitProgress,
};

/// How long a worker that leaves waits for its last reports to be durable.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A worker that leaves.
struct Leaving {
    /// When what is unfinished is given back; none once it is.
    finish_until: Option<Instant>,
    /// When it goes, whatever is not committed; none while something is worked on.
    go_at: Option<Instant>,
}

/// Something that happens whether there is a session or not.
enum Local {
    Reported(Holding, Report),
    Accused(Holding, Accusation),
    StopAsked,
    Alarm,
}

/// How a session ended.
enum Ended {
    Left,
    Broken { welcomed_for: Duration },
}

/// A worker of a cluster.
pub(crate) struct Member {
    config: ClusterWorkerConfig,
    runners: Runners,
    stop: Cancel,
    workshop: Arc<Workshop>,
    device: device::Running,
    reports: mpsc::UnboundedReceiver<(Holding, Report)>,
    /// What seats have to say, and where they say it.
    accusations: mpsc::UnboundedReceiver<(Holding, Accusation)>,
    accuse: mpsc::UnboundedSender<(Holding, Accusation)>,
    units: JoinSet<()>,
    holdings: Holdings,
    leaving: Option<Leaving>,
}

impl Member {
    pub(crate) fn start(
        runners: Runners,
        config: ClusterWorkerConfig,
        stop: Cancel,
    ) -> Result<Self, WorkerFailure> {
        let (pipeline, device) =
            Pipeline::start(config.pipeline).map_err(|source| WorkerFailure::Device { source })?;
        let (sender, reports) = mpsc::unbounded_channel();
        let workshop = Arc::new(Workshop {
            orders: Orders::new(runners.clone(), config.orders_max),
            stores: Stores::new(Arc::clone(&config.stores)),
            read_attempts: config.read_attempts,
            pipeline,
            reports: sender,
        });
        let (accuse, accusations) = mpsc::unbounded_channel();
        let (units, holdings, leaving) = (JoinSet::new(), Holdings::default(), None);
        Ok(Self {
            config,
            runners,
            stop,
            workshop,
            device,
            reports,
            accusations,
            accuse,
            units,
            holdings,
            leaving,
        })
    }

    /// One session after the other, until the worker has left.
    pub(crate) async fn attend_sessions(&mut self, connect: &mut impl Connect) -> Result<(), WorkerFailure> {
        let mut backoff = Backoff::new(&self.config.instance);
        // Of one outage one line is enough.
        let mut told = false;
        loop {
            let hello = self.hello();
            let Some(tried) = self.meanwhile(connect.connect(hello)).await else { return Ok(()) };
            match tried {
                Ok((welcome, end)) => match self.attend(welcome, end, &mut told).await {
                    Ended::Left => return Ok(()),
                    // One that ends every session at once is not to be asked without pause.
                    Ended::Broken { welcomed_for } if welcomed_for > Duration::from_secs(1) => {
                        backoff.reset()
                    }
                    Ended::Broken { .. } => {}
                },
                Err(ConnectError::Refused { reason }) => return Err(WorkerFailure::Refused { reason }),
                Err(error @ ConnectError::Unreachable { .. }) if told => tracing::debug!(%error),
                Err(error @ ConnectError::Unreachable { .. }) => {
                    told = true;
                    tracing::warn!(%error, "trying again until one does");
                }
            }
            let wait = sleep(backoff.wait());
            if self.meanwhile(wait).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Lets go of the device; nothing is written any more when this returns, unless a store does not answer.
    pub(crate) async fn end(mut self) {
        self.holdings.stop_all();
        let finished = async { while self.units.join_next().await.is_some() {} };
        if timeout(LAST_WORDS, finished).await.is_err() {
            return tracing::warn!("a store does not answer: its writes are abandoned");
        }
        // The last sender of commands: the device ends.
        drop(self.workshop);
        if !self.device.ended().await {
            tracing::error!("the device's thread broke down");
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            name: self.config.name.clone(),
            version: self.config.version.clone(),
            device: self.config.device.clone(),
            offer: Offer { kinds: self.runners.kinds(), ..self.config.offer.clone() },
            instance: self.config.instance.clone(),
            held: self.holdings.leases(),
            credits: self.credits(),
            models: self.workshop.orders.loaded(),
            peer_address: self.config.peer_address.clone(),
        }
    }

    fn heartbeat(&self) -> FromWorker {
        FromWorker::Heartbeat {
            credits: self.credits(),
            leases: self.holdings.progress(),
            models: self.workshop.orders.loaded(),
            draining: self.leaving.is_some(),
        }
    }

    fn credits(&self) -> u32 {
        match self.leaving {
            Some(_) => 0,
            None => u32::try_from(self.config.credits.max(1).saturating_sub(self.holdings.len()))
                .unwrap_or(u32::MAX),
        }
    }

    /// Waits for `future` without a session. None if the worker may go instead.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        pin!(future);
        while !self.may_go() {
            select! {
                biased;
                done = &mut future => return Some(done),
                local = self.local() => {
                    // What is to be said is kept for the next session.
                    let _ = self.on_local(local);
                }
            }
        }
        None
    }

    async fn attend(&mut self, welcome: ToWorker, end: WorkerEnd, told_of_outage: &mut bool) -> Ended {
        let begun = Instant::now();
        let ToWorker::Welcome { worker, epoch, heartbeat_every, renewed, .. } = welcome else {
            tracing::error!("the coordinator broke the protocol: its first word was no welcome");
            return Ended::Broken { welcomed_for: Duration::ZERO };
        };
        if std::mem::take(told_of_outage) {
            tracing::warn!("a coordinator answers again");
        }
        tracing::info!(%worker, epoch, held = self.holdings.len(), renewed = renewed.len(), "joined");
        let _attending = self.config.sessions.begin();
        let mut session = Session::new(end, heartbeat_every);
        session.say(self.holdings.renew(&renewed));
        // A new coordinator asks first of all where members of a gang are.
        if self.leaving.is_some() || self.holdings.len() > 0 {
            session.beat_soon();
        }
        while !self.may_go() {
            select! {
                biased;
                local = self.local() => {
                    if matches!(local, Local::StopAsked | Local::Reported(_, Report::Failed(..))) {
                        session.beat_soon();
                    }
                    session.say(self.on_local(local));
                }
                next = session.next() => match next {
                    Next::Heard(message) => self.on_message(message, &mut session),
                    Next::Beat => {
                        session.beat(self.heartbeat());
                        session.say(self.holdings.accusations());
                    }
                    Next::Over => {
                        tracing::info!("the session ended");
                        return Ended::Broken { welcomed_for: begun.elapsed() };
                    }
                },
            }
        }
        session.goodbye().await;
        Ended::Left
    }

    /// The next thing that happens here. May be dropped and called again.
    async fn local(&mut self) -> Local {
        let alarm = self.leaving.as_ref().and_then(|leaving| leaving.finish_until.or(leaving.go_at));
        select! {
            biased;
            Some((holding, report)) = self.reports.recv() => Local::Reported(holding, report),
            Some((holding, accusation)) = self.accusations.recv() => Local::Accused(holding, accusation),
            () = self.stop.cancelled(), if self.leaving.is_none() => Local::StopAsked,
            () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => Local::Alarm,
        }
    }

    /// What is to be said about it.
    fn on_local(&mut self, local: Local) -> Option<FromWorker> {
        let said = match local {
            Local::Reported(holding, report) => self.holdings.report(holding, report),
            Local::Accused(holding, accusation) => self.holdings.accuse(holding, accusation),
            Local::StopAsked => {
                self.leave();
                None
            }
            Local::Alarm => {
                self.holdings.stop_all();
                if let Some(leaving) = &mut self.leaving {
                    leaving.finish_until = None;
                    leaving.go_at = leaving.go_at.or(Some(Instant::now() + LAST_WORDS));
                }
                None
            }
        };
        self.look_at_the_clock();
        said
    }

    fn on_message(&mut self, message: ToWorker, session: &mut Session) {
        let answered = match message {
            ToWorker::Grant(grant) => return session.say(self.take(*grant)),
            ToWorker::Committed { lease } => self.holdings.committed(lease),
            ToWorker::Revoke { lease, reason } => {
                tracing::info!(?lease, reason, "a lease is void");
                self.holdings.revoke(lease)
            }
            ToWorker::Drain => {
                self.leave();
                return session.beat_soon();
            }
            // One that leaves does, whatever others do.
            ToWorker::Gang { .. } if self.leaving.is_some() => return,
            ToWorker::Gang { lease, state } => return self.holdings.tell_seat(lease, state),
            ToWorker::Welcome { .. } => return tracing::warn!("a second welcome is ignored"),
        };
        match answered {
            Answered::Unknown => {}
            Answered::Next(next) => session.say(next),
            Answered::Released => session.beat_soon(),
        }
    }

    /// Begins a unit. What is granted to a worker that leaves is given back.
    fn take(&mut self, grant: Grant) -> Option<FromWorker> {
        while self.units.try_join_next().is_some() {}
        let (cancel, progress) = (Cancel::new(), Arc::<UnitProgress>::default());
        let (accuse, mut accusations) = mpsc::unbounded_channel();
        let (seat, held) = seat(self.config.instance.clone(), accuse);
        let holding = self.holdings.add(grant.lease, cancel.clone(), Arc::clone(&progress), held)?;
        let all = self.accuse.clone();
        self.units.spawn(async move {
            while let Some(accusation) = accusations.recv().await {
                // Nobody listens: the worker leaves.
                let _ = all.send((holding, accusation));
            }
        });
        if self.leaving.is_some() {
            return self.holdings.report(holding, Report::Returned(Vec::new()));
        }
        let unit = Unit { workshop: Arc::clone(&self.workshop), holding, cancel, progress, seat };
        self.units.spawn(unit.run(grant));
        None
    }

    fn leave(&mut self) {
        if self.leaving.is_none() {
            let finish_until = Some(Instant::now() + self.config.drain_timeout);
            self.leaving = Some(Leaving { finish_until, go_at: None });
            self.holdings.leave_seats("this worker was asked to stop");
            self.look_at_the_clock();
        }
    }

    /// A worker that leaves and works on nothing any more only waits for answers, and not for long.
    fn look_at_the_clock(&mut self) {
        let idle = self.holdings.working() == 0;
        if let Some(leaving) = &mut self.leaving
            && idle
            && leaving.go_at.is_none()
        {
            *leaving = Leaving { finish_until: None, go_at: Some(Instant::now() + LAST_WORDS) };
        }
    }

    fn may_go(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| {
            self.holdings.len() == 0 || leaving.go_at.is_some_and(|at| at <= Instant::now())
        })
    }
}
