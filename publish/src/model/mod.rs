//! The protocol, tried exhaustively.
//!
//! Goal: no order of requests, no crash and no lost answer breaks what is promised. Method: two publishers, a collector and a reader run
//! the shipped code over a store that carries out one request at a time, in every order there is, and with every fault that a request
//! may meet; every state that can be reached is visited, and in each everything that must hold is checked from outside. Nothing is
//! cut off: neither depth nor the number of states is bounded. What is: one fault in a run, one collector, and one request of an
//! actor at a time. That the test can find faults is shown by known-wrong variants of the protocol, each of which it must refute.

mod actors;
mod behaviour;
mod explore;
mod rules;
mod store;

use actors::{Naming, Role, files};
use explore::{Scenario, explore};

use crate::flaw::Flaw;

fn publish(all: &[(&str, &str)]) -> Role {
    Role::Publish { files: files(all), expect: None }
}

fn expecting(version: u64, all: &[(&str, &str)]) -> Role {
    Role::Publish { files: files(all), expect: Some(version) }
}

fn scenario(before: Vec<Role>, actors: Vec<Role>) -> Scenario {
    Scenario { before, actors, faults: 0, hint: false, naming: Naming::Unique, flaw: None }
}

fn holds(scenario: Scenario) {
    let began = std::time::Instant::now();
    let explored = explore(&scenario);
    println!("{} states, {} steps at most, in {:?}", explored.states, explored.longest, began.elapsed());
    if let Some(breach) = &explored.breach {
        panic!("{}", rules::story(breach));
    }
}

fn refuted(scenario: Scenario, because: &str) {
    let explored = explore(&scenario);
    let breach = explored.breach.expect("the model test is toothless");
    println!("{} states: {}", explored.states, rules::story(&breach));
    assert!(breach.0.contains(because), "{}", rules::story(&breach));
}

/// One version that is kept, and one before it whose content is not needed any more.
fn two_versions() -> Vec<Role> {
    vec![publish(&[("a", "1"), ("old", "0")]), publish(&[("a", "1")])]
}

fn everybody() -> Scenario {
    let one = publish(&[("a", "1"), ("b", "2")]);
    let two = publish(&[("a", "1"), ("c", "3")]);
    scenario(two_versions(), vec![one, two, Role::Collect { keep: 1 }, Role::Read])
}

#[test]
fn two_publishers_and_a_reader_with_any_fault() {
    let actors = vec![publish(&[("a", "1"), ("b", "2")]), expecting(1, &[("c", "3")]), Role::Read];
    holds(Scenario { faults: 1, ..scenario(vec![publish(&[("a", "1")])], actors) });
}

#[test]
fn two_publishers_and_a_collector() {
    let Scenario { before, mut actors, .. } = everybody();
    actors.pop();
    holds(scenario(before, actors));
}

#[test]
fn a_publisher_a_collector_and_a_reader() {
    let Scenario { before, mut actors, .. } = everybody();
    actors.remove(0);
    holds(scenario(before, actors));
}

#[test]
fn a_publisher_and_a_collector_with_any_fault() {
    let Scenario { before, mut actors, .. } = everybody();
    actors.truncate(3);
    actors.remove(0);
    holds(Scenario { faults: 1, ..scenario(before, actors) });
}

#[test]
fn two_publishers_a_collector_and_a_reader() {
    holds(everybody());
}

/// Each request of each of the four may be lost, its answer may, or it may be carried out late.
#[test]
fn two_publishers_a_collector_and_a_reader_with_any_fault() {
    holds(Scenario { faults: 1, ..everybody() });
}

#[test]
fn two_publishers_a_collector_and_a_reader_who_keep_the_hint() {
    holds(Scenario { hint: true, ..everybody() });
}

#[test]
fn every_known_wrong_variant_is_refuted() {
    let wrong = |flaw| Scenario { flaw: Some(flaw), ..everybody() };
    refuted(wrong(Flaw::NoFence), "is damaged");
    refuted(wrong(Flaw::FenceInNewestOnly), "is gone");
}

#[test]
fn deleted_records_are_refuted() {
    let one = publish(&[("a", "1"), ("b", "2")]);
    let two = publish(&[("a", "1"), ("c", "3")]);
    refuted(scenario(two_versions(), vec![one, two, Role::CollectRecords]), "was created twice");
}

#[test]
fn equal_content_that_is_taken_for_one_s_own_is_refuted() {
    let same = publish(&[("a", "1"), ("b", "2")]);
    let by_content = Scenario {
        naming: Naming::ByContent,
        ..scenario(vec![publish(&[("a", "1")])], vec![same.clone(), same])
    };
    refuted(by_content, "which another did");
}

#[test]
fn keys_that_are_used_again_are_refuted() {
    let before = vec![publish(&[("old", "0")]), publish(&[("a", "1")])];
    let again = vec![publish(&[("old", "0")]), Role::Collect { keep: 1 }];
    refuted(Scenario { naming: Naming::ByContent, ..scenario(before, again) }, "is gone");
}
