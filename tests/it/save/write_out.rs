//! Goal: a save never piles up so much unwritten data that its sync, which nothing can interrupt, takes long,
//! and never waits for the disk more often than that needs; in whatever order the data comes. Method: the calls
//! that start writing, and those that wait for it, under strace.

use std::io::{Seek, SeekFrom, Write};

use durafile::AtomicFile;

use crate::support::strace::{run, traced, works};
use crate::support::{job, this_test};

const MIB: usize = 1 << 20;

#[test]
fn write_out_begins_every_eight_mebibytes_that_were_written_in_any_order() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    // 64 MiB, and 2,000 pages far apart, which are less than 8 MiB.
    for (case, started, waits) in
        [("forwards", 8, 7), ("backwards", 8, 7), ("sparse", 0, 0), ("specks", 1, 0)]
    {
        let Some(trace) = run(&test, case, &[], &|dir, case| {
            durafile::write(dir.join("warm"), "").unwrap();
            traced(|| {
                let mut file = AtomicFile::create(dir.join("file"))?;
                let mut put = |at: usize, bytes: &[u8]| {
                    file.seek(SeekFrom::Start(at as u64)).and_then(|_| file.write_all(bytes)).unwrap();
                };
                match case {
                    "forwards" => (0..64).for_each(|n| put(n * MIB, &[1; MIB])),
                    "backwards" => (0..64).rev().for_each(|n| put(n * MIB, &[1; MIB])),
                    "sparse" => (0..2000).for_each(|n| put(n * 16 * MIB, &[1; 4096])),
                    // A page is dirty as a whole.
                    _ => (0..2100).for_each(|n| put(n * MIB, &[1])),
                }
                file.commit()
            });
        }) else {
            return;
        };
        let calls = || trace.calls.iter().filter(|call| call.name == "sync_file_range");
        let waiting = calls().filter(|call| call.args.contains("WAIT_AFTER")).count();
        assert_eq!((calls().count() - waiting, waiting), (started, waits), "{case}");
    }
}
