//! The disks that a crash may leave: all of them, or a sample.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::crash_testing::content::{Choice, apply, choices};
use crate::crash_testing::disk::{Disk, Entries, Inode, ROOT};
use crate::crash_testing::model::{Model, Standing, Standings, points, standings};
use crate::crash_testing::random::Random;
use crate::crash_testing::trace::Trace;
use crate::crash_testing::units::{Kind, Units};
use crate::sys::recorder::Node;

/// The outcome of each unit before the crash.
pub(crate) type Choices = Vec<Choice>;

/// The states of one trace.
#[derive(Debug)]
pub(crate) struct States<'t> {
    trace: &'t Trace,
    pub(crate) units: Units,
    model: Model,
    /// Beyond so many states of one crash point, a sample is taken.
    limit: usize,
    seed: u64,
}

/// The states of one crash point.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) all: Vec<Choices>,
    /// Not all of them.
    pub(crate) sampled: bool,
}

type Variant = Vec<(usize, Choice)>;

impl<'t> States<'t> {
    pub(crate) fn new(trace: &'t Trace, model: Model, limit: usize, seed: u64) -> States<'t> {
        let units = Units::of(&trace.initial, &trace.log);
        States { trace, units, model, limit: limit.max(1), seed }
    }

    pub(crate) fn points(&self) -> Vec<usize> {
        points(self.model, &self.trace.log)
    }

    /// The states of a crash right after the first `point` operations.
    pub(crate) fn at(&self, point: usize) -> Point {
        let mut all = Vec::new();
        let mut sampled = false;
        for standing in standings(self.model, &self.units, &self.trace.log, point) {
            match self.enumerate(&standing) {
                Some(states) => all.extend(states),
                None => {
                    sampled = true;
                    all.extend(self.sample(&standing, point));
                }
            }
        }
        Point { all, sampled }
    }

    pub(crate) fn units_before(&self, point: usize) -> usize {
        self.units.all.partition_point(|unit| unit.op < point)
    }

    /// All disks that a crash leaves, each with what had been acknowledged.
    pub(crate) fn disks(&self) -> HashSet<(u64, Vec<String>)> {
        let mut disks = HashSet::new();
        for point in self.points() {
            let acked = self.trace.acked(point);
            let states = self.at(point).all;
            disks.extend(states.iter().map(|choices| (self.disk(choices).digest(), acked.clone())));
        }
        disks
    }

    /// The disk that these choices leave.
    pub(crate) fn disk(&self, choices: &[Choice]) -> Disk {
        let entries = self.entries(choices);
        let mut inodes = HashMap::new();
        for node in reachable(&entries) {
            if let Some(inode) = self.inode_at_birth(node) {
                inodes.insert(node, inode);
            }
        }
        for (unit, choice) in self.units.all.iter().zip(choices) {
            if let Some(inode) = inodes.get_mut(&unit.node()) {
                apply(unit, *choice, inode);
            }
        }
        Disk { origin: Arc::clone(&self.trace.initial.origin), inodes, entries }
    }

    fn inode_at_birth(&self, node: Node) -> Option<Inode> {
        self.trace.initial.inodes.get(&node).or_else(|| self.units.born.get(&node)).cloned()
    }

    fn entries(&self, choices: &[Choice]) -> HashMap<Node, Entries> {
        let mut entries = self.trace.initial.entries.clone();
        for (unit, choice) in self.units.all.iter().zip(choices) {
            let (Kind::Entry { dir, now, .. }, Choice::Whole) = (&unit.kind, choice) else { continue };
            let names = entries.entry(*dir).or_default();
            for (name, node) in now {
                match node {
                    Some(node) => names.insert(name.clone(), *node),
                    None => names.remove(name),
                };
            }
        }
        entries
    }

    /// All states, each disk once; none if there are too many.
    fn enumerate(&self, standings: &Standings) -> Option<Vec<Choices>> {
        let trees = self.trees(standings)?;
        let mut known: BTreeMap<Node, Vec<Variant>> = BTreeMap::new();
        let mut all = Vec::new();
        for tree in trees {
            let mut states = vec![tree];
            for node in reachable(&self.entries(&states[0])) {
                if let std::collections::btree_map::Entry::Vacant(vacant) = known.entry(node) {
                    vacant.insert(self.variants(node, standings)?);
                }
                let variants = known.get(&node).map(Vec::as_slice).unwrap_or_default();
                if states.len() * variants.len() + all.len() > self.limit {
                    return None;
                }
                states = states.iter().flat_map(|state| variants.iter().map(|v| with(state, v))).collect();
            }
            all.extend(states);
        }
        Some(all)
    }

    /// All ways in which the open changes of names survive, closed under dependency. The
    /// content of files is not chosen yet.
    fn trees(&self, standings: &Standings) -> Option<Vec<Choices>> {
        let mut trees = vec![settled(standings)];
        for (number, unit) in self.units.all.iter().enumerate().take(standings.len()) {
            if !unit.is_entry() || standings.get(number) != Some(&Standing::Open) {
                continue;
            }
            let able: Vec<Choices> = trees
                .iter()
                .filter(|tree| has_all(tree, unit.needs()))
                .map(|tree| with(tree, &[(number, Choice::Whole)]))
                .collect();
            trees.extend(able);
            if trees.len() > self.limit {
                return None;
            }
        }
        Some(trees)
    }

    /// All different things that an inode may hold; none if there are too many ways.
    fn variants(&self, node: Node, standings: &Standings) -> Option<Vec<Variant>> {
        let Some(birth) = self.inode_at_birth(node) else { return Some(vec![Variant::new()]) };
        let mut reached: Vec<(Inode, Variant)> = vec![(birth, Variant::new())];
        for (number, (unit, standing)) in self.units.all.iter().zip(standings).enumerate() {
            if unit.is_entry() || unit.node() != node {
                continue;
            }
            let options = match standing {
                Standing::Kept => vec![Choice::Whole],
                Standing::Lost => vec![Choice::Absent],
                Standing::Open => choices(unit),
            };
            let mut seen = HashSet::new();
            let mut next = Vec::new();
            for (inode, variant) in &reached {
                for &choice in &options {
                    let mut inode = inode.clone();
                    apply(unit, choice, &mut inode);
                    if seen.insert(inode.clone()) {
                        let mut variant = variant.clone();
                        variant.push((number, choice));
                        next.push((inode, variant));
                    }
                }
            }
            if next.len() > self.limit {
                return None;
            }
            reached = next;
        }
        Some(reached.into_iter().map(|(_, variant)| variant).collect())
    }

    /// The extremes, each unit lost alone and kept alone, and random ones in between.
    fn sample(&self, standings: &Standings, point: usize) -> Vec<Choices> {
        let open: Vec<usize> =
            (0..standings.len()).filter(|&unit| standings.get(unit) == Some(&Standing::Open)).collect();
        let mut random = Random::new(self.seed ^ (point as u64) << 32);
        let mut wishes = vec![HashMap::new()];
        wishes.push(open.iter().map(|&unit| (unit, Choice::Whole)).collect());
        for &unit in &open {
            let mut all_but: HashMap<usize, Choice> = open.iter().map(|&o| (o, Choice::Whole)).collect();
            all_but
                .insert(unit, *random.pick(&choices(&self.units.all[unit])[..]).unwrap_or(&Choice::Absent));
            wishes.push(all_but.clone());
            all_but.insert(unit, Choice::Absent);
            wishes.push(all_but);
        }
        random.shuffle(&mut wishes[2..]);
        wishes.truncate(self.limit.div_ceil(2));
        while wishes.len() < self.limit {
            let eagerness = *random.pick(&[8, 64, 128, 192, 248]).unwrap_or(&128);
            wishes.push(open.iter().filter_map(|&unit| self.wish(unit, eagerness, &mut random)).collect());
        }
        wishes.into_iter().map(|wish| self.grant(standings, &wish)).collect()
    }

    fn wish(&self, unit: usize, eagerness: u64, random: &mut Random) -> Option<(usize, Choice)> {
        let options = choices(&self.units.all[unit]);
        let choice = if random.below(256) < eagerness { Choice::Whole } else { *random.pick(&options)? };
        Some((unit, if random.below(256) < 8 { Choice::Absent } else { choice }))
    }

    /// The wish, as far as dependencies allow.
    fn grant(&self, standings: &Standings, wish: &HashMap<usize, Choice>) -> Choices {
        let mut granted = settled(standings);
        for (number, unit) in self.units.all.iter().enumerate().take(standings.len()) {
            if standings.get(number) == Some(&Standing::Open) && has_all(&granted, unit.needs()) {
                let choice = wish.get(&number).copied().unwrap_or(Choice::Absent);
                granted = with(&granted, &[(number, choice)]);
            }
        }
        granted
    }
}

/// The units that are certain; open ones count as absent.
fn settled(standings: &Standings) -> Choices {
    let certain = |standing: &Standing| match standing {
        Standing::Kept => Choice::Whole,
        Standing::Lost | Standing::Open => Choice::Absent,
    };
    standings.iter().map(certain).collect()
}

fn has_all(choices: &Choices, needs: &[usize]) -> bool {
    needs.iter().all(|&need| choices.get(need) == Some(&Choice::Whole))
}

fn with(choices: &Choices, changes: &[(usize, Choice)]) -> Choices {
    let mut changed = choices.clone();
    for &(number, choice) in changes {
        if let Some(place) = changed.get_mut(number) {
            *place = choice;
        }
    }
    changed
}

/// The nodes that a path from the root leads to.
fn reachable(entries: &HashMap<Node, Entries>) -> Vec<Node> {
    let mut found = vec![ROOT];
    let mut known = HashSet::from([ROOT]);
    let mut next = 0;
    while let Some(node) = found.get(next).copied() {
        next += 1;
        for &child in entries.get(&node).into_iter().flatten().map(|(_, child)| child) {
            if known.insert(child) {
                found.push(child);
            }
        }
    }
    found
}

impl Trace {
    /// The disk as the running system shows it: everything done.
    pub(crate) fn live(&self) -> Disk {
        let states = States::new(self, Model::ProcessDeath, 1, 0);
        states.disk(&vec![Choice::Whole; states.units.all.len()])
    }
}
