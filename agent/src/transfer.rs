//! Messages from one socket to another, every byte checked.

use crate::bluetooth::l2cap::L2capSocket;
use crate::calls::CallLog;
use anyhow::{Context as _, bail, ensure};
use evidence::{Direction, Protocol, Traffic};
use std::thread;

/// Room for any message that a scenario sends, so that a message that is too long is seen.
const BUFFER_BYTES: usize = 1 << 16;

/// Writes and reads at the same time, so that neither waits for the other's end.
///
/// # Errors
/// A call fails, or what is read is not what was written.
pub(crate) fn transfer(
    traffic: &Traffic,
    from: &L2capSocket,
    to: &L2capSocket,
    calls: &CallLog,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let writer = scope.spawn(|| write_all(traffic, from, calls));
        let read = read_all(traffic, to, calls);
        let written = writer
            .join()
            .unwrap_or_else(|_panic| bail!("the writing thread panicked"));
        written.and(read)
    })
}

fn write_all(traffic: &Traffic, socket: &L2capSocket, calls: &CallLog) -> anyhow::Result<()> {
    for number in 0..traffic.messages {
        let message = message(number, traffic.bytes);
        let result = calls.note(Protocol::L2cap, Direction::Write, socket.send(&message));
        let sent = result.with_context(|| format!("write of message {number} failed"))?;
        ensure!(
            sent == traffic.bytes,
            "write of message {number} took {sent} bytes"
        );
    }
    Ok(())
}

fn read_all(traffic: &Traffic, socket: &L2capSocket, calls: &CallLog) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    for number in 0..traffic.messages {
        let ready = socket.wait_readable();
        ready.with_context(|| format!("message {number} did not come"))?;
        let result = calls.note(Protocol::L2cap, Direction::Read, socket.recv(&mut buffer));
        let got = result.with_context(|| format!("read of message {number} failed"))?;
        let wanted = message(number, traffic.bytes);
        ensure!(
            buffer.get(..got) == Some(wanted.as_slice()),
            "message {number} of {} did not arrive as it was sent ({got} bytes came)",
            traffic.messages
        );
    }
    Ok(())
}

/// The n-th message: differs from its neighbors in every byte.
pub(crate) fn message(number: u32, bytes: usize) -> Vec<u8> {
    let mut byte = number.to_le_bytes()[0].wrapping_mul(37);
    let mut next = || {
        byte = byte.wrapping_add(11);
        byte
    };
    (0..bytes).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::message;

    /// Check that a lost, doubled or swapped message cannot look like its neighbor.
    #[test]
    fn message_differs_from_neighbors_everywhere() {
        for number in 0..300 {
            let pairs = message(number, 101)
                .into_iter()
                .zip(message(number + 1, 101));
            assert!(pairs.into_iter().all(|(a, b)| a != b));
        }
    }
}
