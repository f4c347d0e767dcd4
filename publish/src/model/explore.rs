//! Every order in which the store may carry out the actors' requests, and everything that may become of each.
//!
//! An actor's state follows from the answers that it got ([`Behaviour`]). So the state of the whole is what the store holds,
//! where each actor is, and what was promised so far. One that was seen before is not looked at again; that of an
//! actor that has ended is forgotten, for it does nothing any more.
//!
//! A crash needs no step of its own: in every state, each actor may never move again. What must hold, holds in every state.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::actors::{Naming, Role};
use super::behaviour::{Behaviour, Next, Numbered};
use super::rules::{self, Ledger};
use super::store::{Objects, Op, Reply};
use crate::flaw::Flaw;

/// Who takes part, and what may go wrong.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// Versions that were published before.
    pub(super) before: Vec<Role>,
    pub(super) actors: Vec<Role>,
    /// How many requests may meet a fault.
    pub(super) faults: u32,
    /// Whether the hint is kept at all.
    pub(super) hint: bool,
    pub(super) naming: Naming,
    pub(super) flaw: Option<Flaw>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Served,
    /// Carried out; the answer is lost.
    AnswerLost,
    /// Not carried out.
    Dropped,
    /// The answer is lost, and it will be carried out some time later, or never.
    Late,
    /// Carried out; a repetition by the client then finds it there.
    OwnSuccessExists,
    /// Not carried out, and "exists" all the same: two requests met.
    NobodyWon,
}

/// One step: an actor's request meets its fate, or a late request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Of(usize, Fate),
    Late(usize),
}

/// Where an actor is that has ended.
const ENDED: u32 = u32::MAX;

/// The whole, in numbers.
#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// What the store holds.
    objects: u32,
    /// Where each actor is.
    actors: Vec<u32>,
    /// Requests that are still under way, each with its actor.
    late: Vec<(usize, u32)>,
    faults: u32,
    /// What was promised.
    ledger: u32,
}

/// What was found, and how much was looked at.
#[derive(Debug)]
pub(super) struct Explored {
    pub(super) states: usize,
    /// Steps in the longest run.
    pub(super) longest: usize,
    /// The first breach, with the steps that led to it.
    pub(super) breach: Option<(String, Vec<Step>)>,
}

/// Visits every state that can be reached.
pub(super) fn explore(scenario: &Scenario) -> Explored {
    let (mut explorer, start) = Explorer::begin(scenario).unwrap();
    let mut seen = HashSet::from([fingerprint(&start)]);
    let mut longest = 0;
    let steps = explorer.steps(&start).into_iter();
    let mut path: Vec<Step> = Vec::new();
    let mut pending = vec![(start, steps)];
    while let Some((state, steps)) = pending.last_mut() {
        let Some(step) = steps.next() else {
            pending.pop();
            path.pop();
            continue;
        };
        match explorer.after(state, step) {
            Err(breach) => {
                path.push(step);
                return Explored { states: seen.len(), longest, breach: Some((breach, path)) };
            }
            Ok(next) if seen.insert(fingerprint(&next)) => {
                path.push(step);
                longest = longest.max(path.len());
                let steps = explorer.steps(&next).into_iter();
                pending.push((next, steps));
            }
            Ok(_) => {}
        }
    }
    Explored { states: seen.len(), longest, breach: None }
}

/// Among some millions of states, the chance that two have the same is one in a million.
fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// What is known so far of the scenario.
struct Explorer {
    actors: Vec<Behaviour>,
    collects: Vec<bool>,
    /// Whether the protocol keeps what `is_independent` takes for granted.
    reduced: bool,
    objects: Numbered<Objects>,
    ops: Numbered<Op>,
    replies: Numbered<Reply>,
    ledgers: Numbered<Ledger>,
    /// What each actor asks for, by where it is.
    asked: HashMap<(usize, u32), u32>,
    /// What a request makes of the store, and its answer.
    applied: HashMap<(u32, u32), (u32, u32)>,
    /// What a change of the store makes of the ledger.
    changed: HashMap<(u32, usize, u32, u32, bool), u32>,
    /// What an actor's end makes of the ledger.
    ended: HashMap<(u32, usize, u32), u32>,
    /// Stores in which every version that is kept is whole.
    whole: HashSet<u32>,
}

impl Explorer {
    fn begin(scenario: &Scenario) -> Result<(Explorer, State), String> {
        let (mut objects, mut ledger) = (Objects::new(), Ledger::default());
        for (number, role) in scenario.before.iter().enumerate() {
            let alone = Scenario { actors: vec![role.clone()], faults: 0, flaw: None, ..scenario.clone() };
            let (mut explorer, mut state) = Explorer::of(&alone, 100 + number, objects, ledger)?;
            while state.actors != [ENDED] {
                state = explorer.after(&state, Step::Of(0, Fate::Served))?;
            }
            objects = Objects::clone(&explorer.objects.get(state.objects));
            ledger = explorer.ledgers.get(state.ledger).begun_again();
        }
        Explorer::of(scenario, 0, objects, ledger)
    }

    fn of(
        scenario: &Scenario,
        first: usize,
        objects: Objects,
        ledger: Ledger,
    ) -> Result<(Explorer, State), String> {
        let roles = &scenario.actors;
        let actors = (0..roles.len()).map(|actor| Behaviour::new(scenario, actor, first + actor));
        let collects = |role: &Role| matches!(role, Role::Collect { .. } | Role::CollectRecords);
        // Known-wrong variants use keys again, or delete records.
        let deletes = roles.iter().any(|role| matches!(role, Role::CollectRecords));
        let mut explorer = Explorer {
            actors: actors.collect::<Result<_, _>>()?,
            collects: roles.iter().map(collects).collect(),
            reduced: scenario.naming == Naming::Unique && !deletes,
            objects: Numbered::new(),
            ops: Numbered::new(),
            replies: Numbered::new(),
            ledgers: Numbered::new(),
            asked: HashMap::new(),
            applied: HashMap::new(),
            changed: HashMap::new(),
            ended: HashMap::new(),
            whole: HashSet::new(),
        };
        let state = State {
            objects: explorer.objects.number(objects),
            actors: vec![0; roles.len()],
            late: Vec::new(),
            faults: scenario.faults,
            ledger: explorer.ledgers.number(ledger.for_actors(roles, first)),
        };
        Ok((explorer, state))
    }

    /// The request that an actor waits for.
    fn pending(&self, state: &State, actor: usize) -> Option<Rc<Op>> {
        match state.actors[actor] {
            ENDED => None,
            node => match self.actors[actor].next(node) {
                Next::Asks(op) => Some(op.clone()),
                Next::Ended(_) => None,
            },
        }
    }

    /// The number of the request that an actor waits for.
    fn asked(&mut self, state: &State, actor: usize) -> u32 {
        let key = (actor, state.actors[actor]);
        if let Some(&known) = self.asked.get(&key) {
            return known;
        }
        let op = self.pending(state, actor).expect("only requests meet a fate");
        let number = self.ops.number(Op::clone(&op));
        self.asked.insert(key, number);
        number
    }

    /// All that may happen next. A request that nothing that others may still do can affect, nor be affected by, comes
    /// first: all orders with it are one.
    fn steps(&self, state: &State) -> Vec<Step> {
        let ops: Vec<_> = (0..state.actors.len()).map(|actor| self.pending(state, actor)).collect();
        let alone = (0..ops.len()).find(|&actor| {
            ops[actor].as_ref().is_some_and(|op| self.reduced && self.is_independent(state, &ops, actor, op))
        });
        let mut steps = Vec::new();
        for (actor, op) in ops.iter().enumerate() {
            if let Some(op) = op.as_ref().filter(|_| alone.is_none_or(|alone| alone == actor)) {
                let fates = fates(op).iter().take(if state.faults == 0 { 1 } else { usize::MAX });
                steps.extend(fates.map(|&fate| Step::Of(actor, fate)));
            }
        }
        if alone.is_none() {
            steps.extend((0..state.late.len()).map(Step::Late));
        }
        steps
    }

    fn is_independent(&self, state: &State, ops: &[Option<Rc<Op>>], actor: usize, op: &Op) -> bool {
        let others = || (0..ops.len()).filter(|&other| other != actor && ops[other].is_some());
        let mut collecting = others().filter(|&other| self.collects[other]);
        let is_there = |name| self.objects.get(state.objects).contains_key(name);
        let is_doomed = |name: &String| {
            let doom =
                |&(_, op): &(usize, u32)| matches!(&*self.ops.get(op), Op::Delete(doomed) if doomed == name);
            state.late.iter().any(doom)
        };
        match op {
            // Records that are there stay as they are.
            Op::Get(name, _) if name.starts_with("p/versions/") => is_there(name),
            // Other objects are written by one actor, and only a collector lists or deletes them.
            Op::Get(name, _) if name.starts_with("p/data/") => {
                collecting.next().is_none() && is_there(name) && !is_doomed(name)
            }
            // A collector that deletes has listed before, and knows nothing of this one.
            Op::Put(name, _) if name.starts_with("p/data/") => {
                collecting.all(|other| matches!(ops[other].as_deref(), Some(Op::Delete(_))))
            }
            Op::List(below, _) if below == "p/data" => others().next().is_none() && state.late.is_empty(),
            _ => false,
        }
    }

    /// Takes a step.
    fn after(&mut self, state: &State, step: Step) -> Result<State, String> {
        let mut next = state.clone();
        let (by, op, fate) = match step {
            Step::Late(number) => {
                let (by, op) = next.late.remove(number);
                (by, op, None)
            }
            Step::Of(actor, fate) => (actor, self.asked(state, actor), Some(fate)),
        };
        let faulty = fate.is_some_and(|fate| fate != Fate::Served);
        next.faults -= u32::from(faulty);
        if fate == Some(Fate::Late) {
            next.late.push((by, op));
            next.late.sort_unstable();
        }
        let answer = match fate {
            Some(Fate::Dropped | Fate::Late) => self.replies.number(Reply::Lost),
            Some(Fate::NobodyWon) => self.replies.number(Reply::Exists),
            fate => {
                let (objects, answer) = self.apply(state.objects, op);
                next.objects = objects;
                match fate {
                    Some(Fate::AnswerLost) => self.replies.number(Reply::Lost),
                    Some(Fate::OwnSuccessExists) => self.replies.number(Reply::Exists),
                    _ => answer,
                }
            }
        };
        next.ledger = self.judge(state, by, next.objects, faulty)?;
        if fate.is_some() {
            let reply = self.replies.get(answer);
            next.actors[by] = self.actors[by].after(state.actors[by], answer, &reply)?;
            self.end(&mut next, by)?;
        }
        Ok(next)
    }

    fn apply(&mut self, objects: u32, op: u32) -> (u32, u32) {
        if let Some(&known) = self.applied.get(&(objects, op)) {
            return known;
        }
        let mut now = Objects::clone(&self.objects.get(objects));
        let reply = self.ops.get(op).apply(&mut now);
        let made = (self.objects.number(now), self.replies.number(reply));
        self.applied.insert((objects, op), made);
        made
    }

    /// Judges what a step made of the store.
    fn judge(&mut self, state: &State, by: usize, now: u32, faulty: bool) -> Result<u32, String> {
        let key = (state.ledger, by, state.objects, now, faulty);
        if let Some(&known) = self.changed.get(&key) {
            return Ok(known);
        }
        let mut ledger = Ledger::clone(&self.ledgers.get(state.ledger));
        ledger.moves(by, &self.objects.get(state.objects));
        if state.objects != now {
            let objects = self.objects.get(now);
            ledger.changed(by, &objects)?;
            if !self.whole.contains(&now) {
                rules::all_kept_are_whole(&objects)?;
                self.whole.insert(now);
            }
        }
        ledger.fault(faulty);
        let ledger = self.ledgers.number(ledger);
        self.changed.insert(key, ledger);
        Ok(ledger)
    }

    /// Judges what an actor was told, if it has ended.
    fn end(&mut self, state: &mut State, actor: usize) -> Result<(), String> {
        let node = state.actors[actor];
        let Next::Ended(verdict) = self.actors[actor].next(node).clone() else { return Ok(()) };
        state.actors[actor] = ENDED;
        let key = (state.ledger, actor, node);
        if let Some(&known) = self.ended.get(&key) {
            state.ledger = known;
            return Ok(());
        }
        let mut ledger = Ledger::clone(&self.ledgers.get(state.ledger));
        ledger.ended(actor, &verdict)?;
        state.ledger = self.ledgers.number(ledger);
        self.ended.insert(key, state.ledger);
        Ok(())
    }
}

/// What may become of a request; served, it is not a fault.
fn fates(op: &Op) -> &'static [Fate] {
    use Fate::{AnswerLost, Dropped, Late, NobodyWon, OwnSuccessExists, Served};
    match op {
        Op::Create(..) => &[Served, Dropped, AnswerLost, Late, OwnSuccessExists, NobodyWon],
        Op::Put(..) | Op::Delete(_) => &[Served, Dropped, AnswerLost, Late],
        Op::Get(..) | Op::List(..) => &[Served, Dropped],
    }
}
