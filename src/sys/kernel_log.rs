//! The kernel's own messages, from /dev/kmsg, without waiting for more of them.
//!
//! Each read(2) gives one record, `PREFIX,SEQUENCE,MICROSECONDS,FLAGS[,..];TEXT`, with continuation lines that start
//! with a space; EAGAIN stands behind the last one, EPIPE says that records were overwritten meanwhile (Linux:
//! Documentation/ABI/testing/dev-kmsg).

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

/// Where the kernel gives its messages.
pub const PATH: &str = "/dev/kmsg";

/// No record is longer (Linux: include/linux/printk.h, `PRINTK_MESSAGE_MAX`); read(2) fails with EINVAL on a smaller
/// buffer.
const RECORD_BYTES: usize = 8192;
/// More records than the largest log buffer holds (2^25 bytes, `log_buf_len`); a log that grows as fast as it is read
/// ends here.
const MOST_RECORDS: usize = 1 << 20;

/// The kernel's messages for which `keep` holds, oldest first. What programs wrote to /dev/kmsg is left out: anybody
/// with the permission can write there what he likes.
///
/// # Errors
/// /dev/kmsg cannot be opened or read: `EACCES` or `EPERM` where `kernel.dmesg_restrict` asks for CAP_SYSLOG.
pub fn messages(keep: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(PATH)?;
    let mut record = vec![0; RECORD_BYTES];
    let mut kept = Vec::new();
    for _ in 0..MOST_RECORDS {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                let message = record.get(..length).and_then(message_of_kernel);
                kept.extend(message.filter(|message| keep(message)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(kept)
}

/// The text of a record that the kernel itself wrote: facility 0, which no program can claim.
fn message_of_kernel(record: &[u8]) -> Option<String> {
    let record = String::from_utf8_lossy(record);
    let (front, text) = record.split_once(';')?;
    let prefix: u32 = front.split(',').next()?.parse().ok()?;
    (prefix >> 3 == 0).then(|| text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_records_are_told_from_those_of_programs() {
        let kernel = b"6,339,5140900,-;DMAR: IOMMU enabled\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:00.0\n";
        assert_eq!(message_of_kernel(kernel).as_deref(), Some("DMAR: IOMMU enabled"));
        assert_eq!(message_of_kernel(b"12,340,5140901,-;DMAR: IOMMU disabled\n"), None);
        assert_eq!(message_of_kernel(b"no record"), None);
    }

    #[test]
    fn a_message_may_hold_semicolons_and_bytes_that_are_not_utf8() {
        assert_eq!(message_of_kernel(b"3,1,1,-;a;b\xFF\n").as_deref(), Some("a;b\u{FFFD}"));
    }
}
