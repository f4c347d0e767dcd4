//! What an actor does, by the answers that it got: nothing else decides it.
//!
//! So each sequence of answers is tried with the shipped code once, however many states of the whole it is part of.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_util::future::BoxFuture;

use super::actors::{self, Verdict};
use super::explore::Scenario;
use super::store::{Op, Reply, Scripted};
use crate::keys::Session;

/// Values that are kept once each, and known by their number.
#[derive(Debug)]
pub(super) struct Numbered<T> {
    numbers: HashMap<Rc<T>, u32>,
    all: Vec<Rc<T>>,
}

impl<T: Hash + Eq> Numbered<T> {
    pub(super) fn new() -> Numbered<T> {
        Numbered { numbers: HashMap::new(), all: Vec::new() }
    }

    pub(super) fn number(&mut self, value: T) -> u32 {
        if let Some(&number) = self.numbers.get(&value) {
            return number;
        }
        let (value, number) = (Rc::new(value), self.all.len() as u32);
        self.all.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    pub(super) fn get(&self, number: u32) -> Rc<T> {
        self.all[number as usize].clone()
    }
}

/// What an actor does next.
#[derive(Clone)]
pub(super) enum Next {
    /// It waits for this request's answer.
    Asks(Rc<Op>),
    Ended(Rc<Verdict>),
}

struct Node {
    /// The answer that led here, and where from.
    from: Option<(u32, Rc<Reply>)>,
    next: Next,
    after: HashMap<u32, u32>,
}

/// All that one actor does, as far as it was asked about.
pub(super) struct Behaviour {
    scenario: Scenario,
    actor: usize,
    /// How the names of its sessions begin.
    number: usize,
    nodes: Vec<Node>,
    /// The last one that ran, and where it is now.
    live: Option<(u32, Live)>,
}

impl Behaviour {
    /// Before the first answer it is at node 0.
    pub(super) fn new(scenario: &Scenario, actor: usize, number: usize) -> Result<Behaviour, String> {
        let mut behaviour =
            Behaviour { scenario: scenario.clone(), actor, number, nodes: Vec::new(), live: None };
        let mut live = behaviour.start();
        let next = live.run(scenario.hint)?;
        behaviour.nodes.push(Node { from: None, next, after: HashMap::new() });
        behaviour.live = Some((0, live));
        Ok(behaviour)
    }

    pub(super) fn next(&self, node: u32) -> &Next {
        &self.nodes[node as usize].next
    }

    /// Where an answer leads.
    pub(super) fn after(&mut self, node: u32, answer: u32, reply: &Rc<Reply>) -> Result<u32, String> {
        if let Some(&known) = self.nodes[node as usize].after.get(&answer) {
            return Ok(known);
        }
        let mut live = match self.live.take() {
            Some((at, live)) if at == node => live,
            _ => self.reach(node)?,
        };
        live.answer(reply);
        let next = live.run(self.scenario.hint)?;
        let new = self.nodes.len() as u32;
        self.nodes.push(Node { from: Some((node, reply.clone())), next, after: HashMap::new() });
        self.nodes[node as usize].after.insert(answer, new);
        self.live = Some((new, live));
        Ok(new)
    }

    fn start(&self) -> Live {
        let (scenario, store) = (&self.scenario, Scripted::default());
        let role = &scenario.actors[self.actor];
        let future = actors::run(role.clone(), actors::place(store.clone(), scenario.flaw));
        Live { store, future, sessions: actors::sessions(scenario.naming, self.number, role) }
    }

    /// Runs it again, with the same answers.
    fn reach(&self, node: u32) -> Result<Live, String> {
        let mut answers = Vec::new();
        let mut at = node;
        while let Some((before, reply)) = &self.nodes[at as usize].from {
            answers.push(reply);
            at = *before;
        }
        let mut live = self.start();
        live.run(self.scenario.hint)?;
        for reply in answers.into_iter().rev() {
            live.answer(reply);
            live.run(self.scenario.hint)?;
        }
        Ok(live)
    }
}

struct Live {
    store: Scripted,
    future: BoxFuture<'static, Verdict>,
    sessions: Vec<Session>,
}

impl Live {
    fn answer(&mut self, reply: &Reply) {
        self.store.desk().answer(reply.clone());
    }

    /// Until it asks the store for something that counts, or ends.
    fn run(&mut self, hint: bool) -> Result<Next, String> {
        loop {
            actors::set_sessions(&mut self.sessions);
            let polled = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            actors::set_sessions(&mut self.sessions);
            if let Poll::Ready(verdict) = polled {
                return Ok(Next::Ended(Rc::new(verdict)));
            }
            let mut desk = self.store.desk();
            let reply = match &desk.pending {
                Some(Op::Get(name, _)) if name == "p/hint" && !hint => Reply::NotFound,
                Some(Op::Put(name, _)) if name == "p/hint" && !hint => Reply::Done,
                Some(op) => return Ok(Next::Asks(Rc::new(op.clone()))),
                None => return Err("an actor waits for nothing".to_owned()),
            };
            desk.answer(reply);
        }
    }
}
