//! A member that is played. A step is finished when all members of a generation have said so, over the simulated network; in a new
//! generation all go on at the largest step that one of them has.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use sr3::{
    proto::{
        Grant, Order,
        gang::{GangState, Generation, Membership},
        session::UnitResult,
    },
    worker::{Attempt, Failure, OpenOrder, Pipeline, Runner, Seat, Stop, Stores, UnitWork},
};
use tokio::time::{Instant, sleep, timeout_at};
use turmoil::net::UdpSocket;

use super::kind::{DRILL, SEAT};

/// Steps of a run.
pub(crate) const STEPS: u64 = 150;
/// A step is said again after so long.
const AGAIN: Duration = Duration::from_millis(200);
/// Nothing of a member for so long, and it cannot be reached.
const SILENT: Duration = Duration::from_secs(2);
/// Where members hear each other.
const PORT: u16 = 9090;

/// Everything that members say of themselves, and what of it must not be.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// Of each process, the newest generation that it worked in.
    newest: HashMap<String, Generation>,
    /// Of each generation, who is in it and at which step it begins.
    begun: BTreeMap<Generation, (Vec<String>, u64)>,
    /// Processes with a seat at work.
    seated: HashMap<String, u32>,
    pub(crate) wrong: Vec<String>,
}

impl Witness {
    fn works(&mut self, me: &str, membership: &Membership) {
        let generation = membership.generation;
        let newest = self.newest.entry(me.to_string()).or_default();
        if generation < *newest {
            self.wrong.push(format!("{me} went back from {newest:?} to {generation:?}"));
        }
        *newest = generation.max(*newest);
        let mut members: Vec<_> = membership.members.iter().map(|peer| peer.instance.clone()).collect();
        let (known, _) = self.begun.entry(generation).or_insert_with(|| (members.clone(), u64::MAX));
        if *known != members {
            self.wrong.push(format!("{generation:?} is of {known:?} and of {members:?}"));
        }
        if !members.iter().any(|member| member == me) {
            self.wrong.push(format!("{me} is told of {generation:?}, and is not in it"));
        }
        members.sort_unstable();
        members.dedup();
        if members.len() != membership.members.len() {
            self.wrong.push(format!("somebody is in {generation:?} twice"));
        }
    }

    /// All members of a generation begin at the same step.
    fn begins(&mut self, me: &str, generation: Generation, step: u64) {
        let Some((_, at)) = self.begun.get_mut(&generation) else { return };
        if *at != u64::MAX && *at != step {
            self.wrong.push(format!("{me} begins {generation:?} at step {step}, others at {at}"));
        }
        *at = step;
    }

    /// Generations that somebody worked in.
    pub(crate) fn generations(&self) -> usize {
        self.begun.len()
    }
}

/// The runner of a process.
#[derive(Clone)]
pub(crate) struct Drilling(pub(crate) Arc<Mutex<Witness>>);

#[tonic::async_trait]
impl Runner for Drilling {
    fn kind(&self) -> &'static str {
        DRILL
    }

    async fn open(&self, _: &Arc<Order>, _: &Arc<Stores>) -> Result<Arc<dyn OpenOrder>, Failure> {
        Ok(Arc::new(self.clone()))
    }
}

impl OpenOrder for Drilling {
    fn unit(self: Arc<Self>, grant: &Grant) -> Result<Arc<dyn UnitWork>, Failure> {
        Ok(Arc::new(Unit { witness: Arc::clone(&self.0), is_seat: grant.unit == SEAT }))
    }
}

struct Unit {
    witness: Arc<Mutex<Witness>>,
    is_seat: bool,
}

#[tonic::async_trait]
impl UnitWork for Unit {
    fn items(&self) -> usize {
        1
    }

    async fn item(&self, _: usize, attempt: &Arc<Attempt>, _: &Pipeline) -> Result<Bytes, Stop> {
        if !self.is_seat {
            sleep(Duration::from_millis(300)).await;
            return Ok(Bytes::new());
        }
        let me = attempt.seat().me().to_string();
        self.take_seat(&me, 1);
        let member = Member { witness: &self.witness, seat: attempt.seat(), step: 0, farewells: 0 };
        let ended = tokio::select! {
            biased;
            () = attempt.cancel().cancelled() => Err(Stop::Cancelled),
            ended = member.take_part() => ended,
        };
        self.take_seat(&me, -1);
        ended
    }

    async fn finish(&self, _: Vec<Bytes>) -> Result<UnitResult, Failure> {
        Ok(UnitResult { done: 1, ..UnitResult::default() })
    }
}

impl Unit {
    fn take_seat(&self, me: &str, change: i32) {
        let mut witness = self.witness.lock().unwrap();
        let seats = witness.seated.entry(me.to_string()).or_default();
        *seats = seats.saturating_add_signed(change);
        if *seats > 1 {
            witness.wrong.push(format!("{me} works at two seats"));
        }
    }
}

struct Member<'a> {
    witness: &'a Mutex<Witness>,
    seat: &'a Seat,
    step: u64,
    /// How often the others were told of the last step.
    farewells: u32,
}

/// How a generation ended.
enum Ended {
    Finished,
    Changed,
}

impl Member<'_> {
    async fn take_part(mut self) -> Result<Bytes, Stop> {
        // A seat that was here a moment ago may not have let go of it yet.
        let socket = loop {
            match UdpSocket::bind(("0.0.0.0", PORT)).await {
                Ok(socket) => break socket,
                Err(_) => sleep(AGAIN).await,
            }
        };
        let mut states = self.seat.states();
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                Some(GangState::Together(membership)) => {
                    self.seat.working_in(Some(membership.generation));
                    self.witness.lock().unwrap().works(self.seat.me(), &membership);
                    let changed = tokio::select! {
                        biased;
                        changed = states.changed() => changed.map(|()| Ended::Changed).map_err(|_| Stop::Cancelled),
                        ended = self.generation(&membership, &socket) => ended,
                    };
                    match changed? {
                        Ended::Finished => return Ok(Bytes::new()),
                        Ended::Changed => continue,
                    }
                }
                Some(GangState::Leave { .. }) => {
                    sleep(Duration::from_millis(100)).await;
                    return Err(Stop::Cancelled);
                }
                _ => {}
            }
            states.changed().await.map_err(|_| Stop::Cancelled)?;
        }
    }

    async fn generation(&mut self, membership: &Membership, socket: &UdpSocket) -> Result<Ended, Stop> {
        let generation = membership.generation;
        let peers: Vec<_> =
            membership.members.iter().filter(|peer| peer.instance != self.seat.me()).collect();
        let mut heard: HashMap<String, Heard> = HashMap::new();
        let (came, begun) = (self.step, Instant::now());
        let mut together = false;
        loop {
            let at = together.then_some(self.step);
            let message = Said { generation, came, at }.write(self.seat.me());
            for peer in &peers {
                // What is lost is said again.
                drop(socket.send_to(&message, (peer.address.as_str(), PORT)).await);
            }
            if self.step >= STEPS && together {
                self.farewells += 1;
                if self.farewells > 3 {
                    return Ok(Ended::Finished);
                }
            }
            let until = Instant::now() + AGAIN;
            // All have come; and when they have, all are at this step.
            let ready = |heard: &HashMap<String, Heard>| {
                heard.len() == peers.len() && heard.values().all(|heard| heard.at >= at)
            };
            while !ready(&heard) {
                let mut buffer = [0; 512];
                let received = timeout_at(until, socket.recv_from(&mut buffer)).await;
                let Ok(Ok((length, _))) = received else { break };
                if let Some((said, who)) = Said::read(&buffer[..length])
                    && said.generation == generation
                    && peers.iter().any(|peer| peer.instance == who)
                {
                    let at = said.at.max(heard.get(&who).and_then(|heard| heard.at));
                    heard.insert(who, Heard { came: said.came, at, when: Instant::now() });
                }
            }
            if !ready(&heard) {
                for peer in &peers {
                    let last = heard.get(&peer.instance).map_or(begun, |heard| heard.when);
                    if last.elapsed() > SILENT {
                        self.seat.accuse(generation, &peer.instance);
                    }
                }
            } else if !together {
                together = true;
                self.step = heard.values().map(|heard| heard.came).fold(came, u64::max);
                self.witness.lock().unwrap().begins(self.seat.me(), generation, self.step);
            } else if self.step < STEPS {
                sleep(Duration::from_millis(50)).await;
                self.step += 1;
            } else {
                sleep(AGAIN).await;
            }
        }
    }
}

/// What was heard of a member in this generation.
struct Heard {
    came: u64,
    at: Option<u64>,
    when: Instant,
}

/// What members say.
struct Said {
    generation: Generation,
    /// The step at which this one came to the generation.
    came: u64,
    /// The step at which it is, once it knows where all begin.
    at: Option<u64>,
}

impl Said {
    fn write(&self, me: &str) -> Vec<u8> {
        let Generation { epoch, number } = self.generation;
        let words = [epoch, number, self.came, self.at.map_or(0, |at| at + 1)];
        let mut message: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        message.extend_from_slice(me.as_bytes());
        message
    }

    fn read(message: &[u8]) -> Option<(Self, String)> {
        let (words, name) = message.split_at_checked(32)?;
        let word = |at: usize| words[8 * at..8 * at + 8].try_into().map(u64::from_le_bytes).ok();
        let generation = Generation { epoch: word(0)?, number: word(1)? };
        let said = Self { generation, came: word(2)?, at: word(3)?.checked_sub(1) };
        Some((said, String::from_utf8(name.to_vec()).ok()?))
    }
}
