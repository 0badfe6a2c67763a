//! The floor of files: random reads of 4 KiB with the same system call that Cloverleaf makes, and nothing else.

use std::fs::File;
use std::io::IoSliceMut;
use std::time::Duration;

use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

use crate::clock::{cpu_time, now};
use crate::error::Error;

const PIECE: u64 = 4096;

/// Reads `count` pieces, and says in JSON what one took.
pub(crate) fn read(path: &str, count: u64) -> Result<String, Error> {
    let file = File::open(path)?;
    let pieces = (file.metadata()?.len() / PIECE).max(1);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut buffer = vec![0; 4096];
    let (began, used) = (now(), cpu_time());
    for _ in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let offset = state % pieces * PIECE;
        let mut room = [IoSliceMut::new(&mut buffer)];
        let read = match preadv2(&file, &mut room, offset, ReadWriteFlags::NOWAIT) {
            // The system takes a page out of memory now and then.
            Err(Errno::AGAIN) => pread(&file, &mut buffer[..], offset),
            other => other,
        };
        if read? != 4096 {
            return Err(Error::Usage(
                "a file that is cached and large enough".into(),
            ));
        }
    }
    let (wall, cpu) = (began.elapsed(), cpu_time().saturating_sub(used));
    let operations = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let each = |time: Duration| time.as_secs_f64() * 1e6 / operations;
    Ok(format!(
        r#"{{"operations": {count}, "wall_us": {}, "cpu_us": {}}}"#,
        each(wall),
        each(cpu)
    ))
}
