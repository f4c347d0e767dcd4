//! Goal: whatever interrupts a save that overwrites, and wherever, the file is complete old or complete new after a
//! recovery, and an error says which. Method: strace kills a child at each of its system calls, or makes each fail.

use std::path::Path;

use crate::overwrite::world::{USER, World};
use crate::support::strace::{Call, Trace, run, traced, works};
use crate::support::{as_user, is_root, job, long, skip, this_test};

/// Several writes long.
const LONG: usize = 150_000;
const SHORT: usize = 70_000;

fn content(byte: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| byte + (at / 4096) as u8).collect()
}

struct Case {
    name: &'static str,
    mode: u32,
    old: Vec<u8>,
    new: Vec<u8>,
}

fn cases() -> [Case; 2] {
    [
        Case { name: "grows beside", mode: 0o1777, old: content(1, SHORT), new: content(101, LONG) },
        Case { name: "shrinks, undo_dir", mode: 0o755, old: content(1, LONG), new: content(101, SHORT) },
    ]
}

/// In the child.
fn save(dir: &Path, name: &str) {
    let case = cases().into_iter().find(|case| case.name == name).unwrap();
    let world = World::make(dir, case.mode, &case.old);
    as_user(USER, USER, || traced(|| world.options().write(world.file(), &case.new)));
}

/// What only reads the process, or gives back what it has.
const OF_NO_INTEREST: [&str; 8] =
    ["geteuid", "getpid", "uname", "close", "clock_nanosleep", "getrandom", "futex", "fcntl"];

fn calls(test: &str, case: &Case) -> Option<Vec<Call>> {
    if job(test).is_none() && (!works() || !is_root()) {
        skip("only root can become the user whom the directory is closed to");
        return None;
    }
    let whole = run(test, case.name, &[], &save)?;
    assert!(whole.outcome.as_ref().unwrap().starts_with("Ok"), "{whole:?}");
    let of_interest = whole.calls.into_iter().filter(|call| !OF_NO_INTEREST.contains(&&*call.name));
    Some(of_interest.collect())
}

fn with_fault(test: &str, case: &Case, call: &Call, what: &str) -> Option<Trace> {
    let inject = format!("inject={}:{what}:when={}", call.name, call.nth);
    run(test, case.name, &["-e", &inject], &save)
}

/// Recovers, and says whether the file holds the new content.
#[track_caller]
fn recovered(trace: &Trace, case: &Case, at: &str) -> bool {
    let world = World::at(trace.path());
    let recovery = world.recover();
    let odd =
        [recovery.quarantined(), recovery.unreadable(), recovery.untrusted(), recovery.in_use()].concat();
    assert!(odd.is_empty(), "{at}: {recovery:?}");
    let now = world.content();
    assert!(now == case.old || now == case.new, "{at}: torn");
    assert!(world.left().is_empty(), "{at}: {:?}", world.left());
    assert!(world.recover().is_clean(), "{at}");
    now == case.new
}

#[test]
fn killed_at_any_system_call_the_file_is_old_or_new_once_recovered() {
    let test = this_test!();
    for case in cases() {
        let Some(all) = calls(&test, &case) else { return };
        let (mut old, mut new, mut torn) = (0, 0, 0);
        let matters = |call: &&Call| call.args.contains("data/file") && call.name != "statx";
        let (core, rest): (Vec<_>, Vec<_>) = all.iter().partition(matters);
        for call in core.into_iter().chain(long::each(5, rest, "system calls")) {
            let at = format!("{}, killed at {} {}", case.name, call.short(), call.nth);
            let Some(killed) = with_fault(&test, &case, call, "signal=KILL") else { return };
            assert_eq!(killed.outcome, None, "{at}: it survived");
            let left = World::at(killed.path()).content();
            torn += usize::from(left != case.old && left != case.new);
            match recovered(&killed, &case, &at) {
                true => new += 1,
                false => old += 1,
            }
        }
        assert!(old > 0 && torn > 0, "{}: {old} old, {new} new, {torn} torn", case.name);
    }
}

#[test]
fn an_error_at_any_system_call_says_what_the_file_holds() {
    let test = this_test!();
    for case in cases() {
        let Some(all) = calls(&test, &case) else { return };
        let (mut restored, mut pending) = (0, 0);
        let changes =
            |call: &&Call| ["pwrite64", "fallocate", "ftruncate", "fsync", "unlinkat"].contains(&&*call.name);
        let (core, rest): (Vec<_>, Vec<_>) = all.iter().partition(changes);
        for call in core.into_iter().chain(long::each(5, rest, "system calls")) {
            for errno in ["EIO", "ENOSPC"] {
                let at = format!("{}, {errno} at {} {}", case.name, call.short(), call.nth);
                let Some(failed) = with_fault(&test, &case, call, &format!("error={errno}")) else { return };
                let (world, outcome) = (World::at(failed.path()), failed.outcome.clone().unwrap());
                let (now, left) = (world.content(), world.left());
                let is_overwriting = call.args.contains("data/file") && call.name == "pwrite64";
                match outcome.split(' ').nth(1) {
                    _ if outcome.starts_with("Ok") => assert_eq!(now, case.new, "{at}"),
                    Some("Unchanged") => {
                        assert!(now == case.old, "{at}: {outcome}");
                        assert!(left.is_empty() || call.name == "unlinkat", "{at}: {left:?}");
                        restored += usize::from(is_overwriting);
                    }
                    Some("Replaced") => assert!(now == case.new, "{at}: {outcome}"),
                    Some("Pending") => {
                        pending += 1;
                        assert!(!recovered(&failed, &case, &at), "{at}: undone");
                    }
                    _ => panic!("{at}: {outcome}"),
                }
                let _ = recovered(&failed, &case, &at);
            }
        }
        assert!(restored > 0 && pending > 0, "{}: {restored} restored, {pending} pending", case.name);
    }
}

#[test]
fn the_sequence_of_a_save_that_overwrites() {
    let test = this_test!();
    let [_, case] = cases();
    let Some(all) = calls(&test, &case) else { return };
    let count = |name: &str| all.iter().filter(|call| call.name == name).count();
    // The new content, the copy, its name, the file, the removal of the copy.
    assert_eq!(count("fsync"), 5, "{:#?}", all.iter().map(Call::short).collect::<Vec<_>>());
    assert_eq!((count("fallocate"), count("ftruncate"), count("unlinkat")), (1, 1, 1));
}
