//! Messages from one socket to another, every byte checked.

use crate::bluetooth::socket::Socket;
use crate::calls::CallLog;
use anyhow::{Context as _, bail, ensure};
use evidence::{Direction, Traffic, Voice};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// Room for any message that a scenario sends, so that a message that is too long is seen.
const BUFFER_BYTES: usize = 1 << 16;

/// One stream of messages and the sockets at its ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream<'a> {
    /// How much.
    pub(crate) traffic: &'a Traffic,
    /// The writing socket.
    pub(crate) from: &'a Socket,
    /// The reading socket.
    pub(crate) to: &'a Socket,
}

/// Writes and reads all streams at the same time, each end in a thread of its own, so that none
/// waits for another stream.
///
/// # Errors
/// A call fails, or what is read is not what was written.
pub(crate) fn transfer(streams: &[Stream<'_>], calls: &CallLog) -> anyhow::Result<()> {
    let windows: Vec<Window> = streams.iter().map(|_| Window::default()).collect();
    thread::scope(|scope| {
        let mut ends = Vec::new();
        for (stream, window) in streams.iter().zip(&windows) {
            ends.push(scope.spawn(|| write_all(*stream, window, calls)));
            ends.push(scope.spawn(|| read_all(*stream, window, calls)));
        }
        let joined = ends.into_iter().map(thread::ScopedJoinHandle::join);
        let results: Vec<anyhow::Result<()>> = joined
            .map(|end| end.unwrap_or_else(|_panic| bail!("a thread panicked")))
            .collect();
        results.into_iter().collect()
    })
}

/// How many messages may be between writer and reader. L2CAP's basic mode drops what finds a full
/// receive buffer (Kernel: l2cap_sock_recv_cb()): 64 small messages fill a third of the default.
const WINDOW_MESSAGES: u32 = 64;
/// The same for voice, in packets on USB: a host without back-pressure drops what its queue does not hold, which is 120, of which an idle stream
/// may take 60.
const WINDOW_VOICE_PACKETS: u32 = 56;

/// The default receive buffer, bytes (Kernel: net/core/sock.c sysctl_rmem_default).
const RECEIVE_BUFFER_BYTES: usize = 212_992;
/// What a packet over USB takes of it, however short: the driver has one size for all (Kernel: btusb_recv_bulk(), HCI_MAX_FRAME_SIZE).
const PACKET_CHARGE_BYTES: usize = 2304;
/// What of a message goes into a packet of LE at least, where controllers take 251 bytes.
const LE_PACKET_BYTES: usize = 230;

fn window_messages(socket: &Socket, bytes: usize) -> u32 {
    match socket.voice() {
        // A frame makes three (alternate setting 2), and eight where a scenario makes them short.
        Some(Voice::Cvsd) => WINDOW_VOICE_PACKETS / 8,
        // Kernel: btusb_work(): alternate setting 6, whose packets have 63 bytes, for frames of 60 and a header of 3.
        Some(Voice::Transparent) => WINDOW_VOICE_PACKETS,
        None if socket.has_credits() => window_of_credits(bytes),
        None => WINDOW_MESSAGES,
    }
}

/// 5.10 gives credits back for messages that nobody has read yet, and drops what finds the receive buffer full then. (Kernel: ce60b9231b66
/// "Bluetooth: compute LE flow credits based on recvbuf space" mends that; 6.1 has it.)
fn window_of_credits(bytes: usize) -> u32 {
    let packets = (bytes + 2).div_ceil(LE_PACKET_BYTES);
    let fit = RECEIVE_BUFFER_BYTES / (packets * PACKET_CHARGE_BYTES);
    u32::try_from(fit).map_or(WINDOW_MESSAGES, |fit| fit.clamp(1, WINDOW_MESSAGES))
}

/// Keeps a writer from running away from its reader.
#[derive(Debug, Default)]
struct Window {
    read: Mutex<Read>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Read {
    messages: u32,
    ended: bool,
}

impl Window {
    /// Waits until message `number` may be written. A reader that has ended is waited for no more.
    fn wait_for(&self, number: u32, size: u32) {
        let far = |read: &mut Read| !read.ended && number >= read.messages + size;
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.moved.wait_while(read, far));
    }

    fn advance(&self, change: impl FnOnce(&mut Read)) {
        change(&mut self.read.lock().unwrap_or_else(PoisonError::into_inner));
        self.moved.notify_all();
    }
}

fn write_all(stream: Stream<'_>, window: &Window, calls: &CallLog) -> anyhow::Result<()> {
    let Stream { traffic, from, .. } = stream;
    let size = window_messages(from, traffic.bytes);
    for number in 0..traffic.messages {
        window.wait_for(number, size);
        let message = message(number, traffic.bytes);
        let result = calls.note(from.protocol(), Direction::Write, from.send(&message));
        let sent = result.with_context(|| format!("write of message {number} failed"))?;
        ensure!(
            sent == traffic.bytes,
            "write of message {number} took {sent} bytes"
        );
    }
    Ok(())
}

fn read_all(stream: Stream<'_>, window: &Window, calls: &CallLog) -> anyhow::Result<()> {
    let result = if stream.to.keeps_messages() {
        read_messages(stream, window, calls)
    } else {
        // A stream has flow control of its own.
        window.advance(|read| read.ended = true);
        read_bytes(stream.traffic, stream.to, calls)
    };
    window.advance(|read| read.ended = true);
    result
}

fn read_messages(stream: Stream<'_>, window: &Window, calls: &CallLog) -> anyhow::Result<()> {
    let Stream { traffic, to, .. } = stream;
    for number in 0..traffic.messages {
        read_message(to, number, traffic.bytes, calls)
            .with_context(|| format!("message {number} of {} is wrong", traffic.messages))?;
        window.advance(|read| read.messages += 1);
    }
    Ok(())
}

/// Reads everything that `traffic` says and compares it with what was written.
///
/// # Errors
/// Something does not come, or is not what was written.
pub(crate) fn read_written(
    traffic: &Traffic,
    socket: &Socket,
    calls: &CallLog,
) -> anyhow::Result<()> {
    if !socket.keeps_messages() {
        return read_bytes(traffic, socket, calls);
    }
    for number in 0..traffic.messages {
        read_message(socket, number, traffic.bytes, calls)
            .with_context(|| format!("message {number} of {} is wrong", traffic.messages))?;
    }
    Ok(())
}

/// Reads one message and compares it with the n-th.
///
/// # Errors
/// None comes, or another.
pub(crate) fn read_message(
    socket: &Socket,
    number: u32,
    bytes: usize,
    calls: &CallLog,
) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    socket.wait_readable().context("it did not come")?;
    let result = calls.note(socket.protocol(), Direction::Read, socket.recv(&mut buffer));
    let got = result.context("read failed")?;
    let wanted = message(number, bytes);
    ensure!(
        buffer.get(..got) == Some(wanted.as_slice()),
        "it did not arrive as it was sent ({got} bytes came)"
    );
    Ok(())
}

/// Reads a stream without borders between messages.
fn read_bytes(traffic: &Traffic, socket: &Socket, calls: &CallLog) -> anyhow::Result<()> {
    let all = (0..traffic.messages).flat_map(|number| message(number, traffic.bytes));
    let wanted: Vec<u8> = all.collect();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut done = 0;
    while done < wanted.len() {
        let of = wanted.len();
        socket
            .wait_readable()
            .with_context(|| format!("nothing after {done} of {of} bytes"))?;
        let result = calls.note(socket.protocol(), Direction::Read, socket.recv(&mut buffer));
        let got = result.with_context(|| format!("read after {done} of {of} bytes failed"))?;
        ensure!(got > 0, "the end came after {done} of {of} bytes");
        ensure!(
            wanted.get(done..done + got) == buffer.get(..got),
            "bytes after {done} of {of} did not arrive as they were sent"
        );
        done += got;
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
    use super::{WINDOW_MESSAGES, message, window_of_credits};

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

    /// Check that what is between writer and reader of an LE channel fits the receive buffer: 13 messages of 7 packets do, as packets over USB
    /// are charged.
    #[test]
    fn window_of_long_messages_fits_the_receive_buffer() {
        let windows = [1, 631, 1499, 65_535].map(window_of_credits);
        assert_eq!(windows, [WINDOW_MESSAGES, 30, 13, 1]);
    }
}
