//! What the kernel complained about, read from `/dev/kmsg`.

use evidence::Stage0Record;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

/// The mildest level that is sent home: warning.
const MILDEST: u8 = 4;
/// The kernel hands out one record a read, at most this long (Kernel: printk CONSOLE_EXT_LOG_MAX).
const RECORD_BYTES: usize = 8192;

/// All records so far at level *warning* or worse, oldest first.
pub(crate) fn complaints() -> Vec<Stage0Record> {
    let kmsg = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg");
    let Ok(mut kmsg) = kmsg else {
        return Vec::new();
    };
    let mut records = Vec::new();
    let mut buffer = vec![0; RECORD_BYTES];
    loop {
        match kmsg.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => records.extend(parse(&String::from_utf8_lossy(&buffer[..n]))),
            // EPIPE: records were overwritten before we read them; the next read goes on.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    records
}

/// `<facility*8+level>,<seq>,<time µs>,<flags>;<text>\n` (Documentation/ABI/testing/dev-kmsg).
fn parse(record: &str) -> Option<Stage0Record> {
    let (prefix, text) = record.split_once(';')?;
    let mut fields = prefix.split(',');
    let facility_and_level: u64 = fields.next()?.parse().ok()?;
    let time_us = fields.nth(1)?.parse().ok()?;
    let level = u8::try_from(facility_and_level & 7).ok()?;
    let text = text.lines().next()?.to_owned();
    (level <= MILDEST).then_some(Stage0Record::Kmsg {
        level,
        time_us,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::{Stage0Record, parse};

    /// Check that level, time and text come out, and that mild lines are left out.
    #[test]
    fn kmsg_record_parsed_keeps_warnings_only() {
        let warning = "4,339,5140900,-;NET: Registered PF_BLUETOOTH\n SUBSYSTEM=x\n";
        let expected = Stage0Record::Kmsg {
            level: 4,
            time_us: 5_140_900,
            text: "NET: Registered PF_BLUETOOTH".to_owned(),
        };
        assert_eq!(parse(warning), Some(expected));
        assert_eq!(parse("6,1,2,-;info\n"), None);
        assert_eq!(parse("garbage"), None);
    }
}
