//! Publishers that race each other, on every store; and a store on which they would lose versions, which must be found out.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use durafile_publish::object_store::ObjectStore;
use durafile_publish::object_store::memory::InMemory;
use durafile_publish::{ErrorKind, PublishOptions, Published, PullOptions};
use futures_util::future::join_all;

use crate::common::{Site, commit, server};
use crate::wrapped::{Mood, Wrapped};

const RACERS: usize = 4;

/// Publishers that expect the same version: how many are told in each round that they have won.
async fn race(site: &Site, rounds: u64) -> Vec<usize> {
    let dirs: Vec<_> = (0..RACERS).map(|racer| site.path(&format!("racer-{racer}"))).collect();
    let mut wins = Vec::new();
    for round in 0..rounds {
        for (racer, dir) in dirs.iter().enumerate() {
            commit(dir, &[("who", format!("{racer} in {round}").as_bytes())]);
        }
        let newest = site.place.latest().await.unwrap().map_or(0, |version| version.number);
        let options = PublishOptions::new().expect(newest);
        let results = join_all(dirs.iter().map(|dir| site.place.publish(dir, &options))).await;
        for result in &results {
            assert!(
                result.as_ref().is_ok_and(|done| !done.unchanged)
                    || result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Conflict)
            );
        }
        wins.push(results.iter().filter(|result| result.is_ok()).count());
        if wins.last() == Some(&1) {
            let winner = results.iter().position(|result| result.is_ok()).unwrap();
            let to = site.path("to");
            site.place.pull(&to, &PullOptions::new()).await.unwrap();
            assert_eq!(fs::read_to_string(to.join("who")).unwrap(), format!("{winner} in {round}"));
        }
    }
    wins
}

/// Publishers that take any base: each version that was acknowledged is there, and is what was published.
async fn rebase(site: &Site, each: usize) {
    let work = (0..RACERS).map(|racer| async move {
        let dir = site.path(&format!("racer-{racer}"));
        let mut versions = Vec::new();
        for number in 0..each {
            commit(&dir, &[("who", format!("{racer}, {number}").as_bytes())]);
            let done = site.place.publish(&dir, &PublishOptions::new()).await.unwrap();
            assert!(!done.unchanged);
            versions.push((done.version, format!("{racer}, {number}")));
        }
        versions
    });
    let acknowledged: Vec<_> = join_all(work).await.into_iter().flatten().collect();
    let numbers: BTreeSet<u64> = acknowledged.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers.len(), RACERS * each, "two publishers were told of one version");
    for (number, content) in acknowledged {
        let to = site.path("to");
        site.place.pull(&to, &PullOptions::new().version(number)).await.unwrap();
        assert_eq!(fs::read_to_string(to.join("who")).unwrap(), content);
    }
}

async fn one_winner_and_nothing_lost(site: Site) {
    assert_eq!(race(&site, 50).await, [1; 50]);
    rebase(&site, 25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_one_wins_and_nothing_is_lost() {
    one_winner_and_nothing_lost(Site::in_memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_local_file_system_one_wins_and_nothing_is_lost() {
    one_winner_and_nothing_lost(Site::local()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_moto_one_wins_and_nothing_is_lost() {
    let Some(store) = server("MOTO") else { return };
    one_winner_and_nothing_lost(Site::on(store, "race")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_ceph_one_wins_and_nothing_is_lost() {
    let Some(store) = server("CEPH") else { return };
    one_winner_and_nothing_lost(Site::on(store, "race")).await;
}

#[tokio::test]
async fn when_answers_are_lost_nothing_else_is() {
    let wrapped = Wrapped::new(Arc::new(InMemory::new()), Mood::LosesAnswers);
    one_winner_and_nothing_lost(Site::on(wrapped, "site")).await;
}

/// The control: both the check and the race see that a store's Create is broken.
#[tokio::test]
async fn a_store_on_which_several_win_is_found_out() {
    let broken = || -> Arc<dyn ObjectStore> { Wrapped::new(Arc::new(InMemory::new()), Mood::BrokenCreate) };
    let error = Published::new(broken(), "check").check_store().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("writers were told that they created the same object"), "{error}");
    // No look at the store tells a publisher that he overwrote another: so the store is what must be checked.
    let wins = race(&Site::on(broken(), "race"), 20).await;
    assert!(wins.iter().any(|&winners| winners != 1), "{wins:?}");
}
