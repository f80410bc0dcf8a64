//! SCO data on isochronous endpoints: frames cut into packets one way, put together again the other.
//!
//! An isochronous IN endpoint has no back-pressure. QEMU keeps what comes in a queue: the guest gets nothing until [`PREFILL`] packets are
//! there (and again after the queue ran empty), and when it holds more than twice as many, packets are dropped. A guest takes one packet a
//! millisecond if it is fast, fewer if it is not, and nothing tells how many it took. So packets with data go out as they come, but only up
//! to [`LIMIT`] that may not have been taken yet; and empty packets, which push the last data over the threshold, go out only when no
//! data has come for a while, slowly, and not more than the threshold needs.

use std::collections::VecDeque;
use std::time::Duration;

use super::faults::{UsbFaultAction, UsbFaults};
use super::wire::status;
use super::{UsbEndpoint, descriptors};

/// Packets that QEMU waits for before the guest gets the first: 60 ms of them.
const PREFILL: u32 = 60;
/// Packets in QEMU's queue beyond which it drops: twice as many.
const LIMIT: u32 = 2 * PREFILL - 4;
/// A guest takes no more than one packet in this time.
const FRAME: Duration = Duration::from_millis(1);
/// No data for so long: what is in the queue has to be pushed out.
const PAUSE: Duration = Duration::from_millis(200);
/// Time between two empty packets. A guest that is four times slower than it should be still keeps up.
const IDLE_INTERVAL: Duration = Duration::from_millis(4);

/// A packet for the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IsoPacket {
    pub(super) status: u8,
    pub(super) data: Vec<u8>,
}

/// The IN endpoint.
#[derive(Debug, Default)]
pub(super) struct VoiceIn {
    streaming: bool,
    waiting: VecDeque<IsoPacket>,
    /// Packets that the guest may not have taken yet, at `counted`.
    untaken: u32,
    counted: Duration,
    last_data: Duration,
    /// Empty packets that are still to follow the last data, and when the next may.
    idle_left: u32,
    next_idle: Duration,
}

impl VoiceIn {
    pub(super) fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// QEMU begins with an empty queue.
    pub(super) fn start(&mut self, now: Duration) {
        *self = Self {
            streaming: true,
            counted: now,
            ..Self::default()
        };
    }

    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    /// Cuts a frame into packets; `false` if nobody listens.
    pub(super) fn push(&mut self, frame: &[u8], alt: u8, faults: &mut UsbFaults) -> bool {
        let sizes = descriptors::SCO_PACKET_BYTES;
        let longest = usize::from(sizes.get(usize::from(alt)).copied().unwrap_or(0));
        if !self.streaming || longest == 0 {
            return false;
        }
        let mut at_most = longest;
        match faults.strike(UsbEndpoint::ScoIn) {
            Some(UsbFaultAction::Short(bytes)) => at_most = usize::from(bytes).clamp(1, longest),
            Some(UsbFaultAction::IoError) => self.push_error(status::IO_ERROR),
            Some(UsbFaultAction::Babble) => self.push_error(status::BABBLE),
            _ => {}
        }
        let packets = frame.chunks(at_most).map(|chunk| IsoPacket {
            status: status::SUCCESS,
            data: chunk.to_vec(),
        });
        self.waiting.extend(packets);
        true
    }

    /// A packet of its own: the frame comes whole after it.
    fn push_error(&mut self, status: u8) {
        self.waiting.push_back(IsoPacket {
            status,
            data: Vec::new(),
        });
    }

    /// The packets that are due.
    pub(super) fn due(&mut self, now: Duration) -> Vec<IsoPacket> {
        if !self.streaming {
            return Vec::new();
        }
        self.count(now);
        let mut due = Vec::new();
        while self.untaken < LIMIT
            && let Some(packet) = self.waiting.pop_front()
        {
            due.push(packet);
            self.untaken += 1;
            self.last_data = now;
            self.idle_left = PREFILL;
            self.next_idle = now + PAUSE;
        }
        if self.idle_is_possible() && now >= self.next_idle {
            due.push(IsoPacket {
                status: status::SUCCESS,
                data: Vec::new(),
            });
            self.untaken += 1;
            self.idle_left -= 1;
            self.next_idle = now + IDLE_INTERVAL;
        }
        due
    }

    fn idle_is_possible(&self) -> bool {
        self.waiting.is_empty() && self.idle_left > 0 && self.untaken < LIMIT
    }

    /// When something will be due, if nothing happens until then.
    pub(super) fn next_due(&self) -> Option<Duration> {
        if !self.streaming {
            None
        } else if !self.waiting.is_empty() {
            Some(self.counted + FRAME)
        } else if self.idle_left > 0 {
            Some(self.next_idle.max(self.counted + FRAME))
        } else {
            None
        }
    }

    /// Takes off what a fast guest has taken since.
    fn count(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.counted).as_nanos() / FRAME.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.untaken = self.untaken.saturating_sub(passed);
        self.counted += FRAME * passed;
    }
}

/// Longest packet: header and payload.
const HEADER_BYTES: usize = 3;

/// The OUT endpoint: packets in, frames out.
#[derive(Debug, Default)]
pub(super) struct VoiceOut {
    bytes: Vec<u8>,
}

impl VoiceOut {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Takes a packet, and gives the frames that are whole now.
    pub(super) fn push(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        self.bytes.extend_from_slice(packet);
        let mut frames = Vec::new();
        while let Some(length) = self.bytes.get(2).map(|payload| usize::from(*payload))
            && self.bytes.len() >= HEADER_BYTES + length
        {
            frames.push(self.bytes.drain(..HEADER_BYTES + length).collect());
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn playing() -> VoiceIn {
        let mut voice = VoiceIn::default();
        voice.start(Duration::ZERO);
        voice
    }

    /// Check that a frame of 48 bytes makes three packets in alternate setting 2, and that a fault makes them shorter.
    #[test]
    fn push_cuts_a_frame_by_the_alternate_setting() {
        let (mut voice, mut faults) = (playing(), UsbFaults::default());
        assert!(voice.push(&[7; 51], 2, &mut faults));
        faults.add(super::super::UsbFault {
            controller: crate::types::ControllerId::from_index(0),
            endpoint: UsbEndpoint::ScoIn,
            after: 0,
            times: 1,
            action: UsbFaultAction::Short(11),
        });
        assert!(voice.push(&[7; 51], 2, &mut faults));
        let lengths: Vec<usize> = voice.due(ms(1)).iter().map(|p| p.data.len()).collect();
        assert_eq!(lengths, [17, 17, 17, 11, 11, 11, 11, 7]);
        assert!(!voice.push(&[7; 51], 0, &mut faults));
        voice.stop();
        assert!(!voice.push(&[7; 51], 2, &mut faults));
    }

    /// Check that no more is sent at once than QEMU's queue holds, and the rest no faster than a guest takes it.
    #[test]
    fn due_never_overfills_the_queue_of_a_fast_guest() {
        let (mut voice, mut faults) = (playing(), UsbFaults::default());
        for _ in 0..100 {
            voice.push(&[7; 51], 2, &mut faults);
        }
        assert_eq!(voice.due(ms(0)).len(), 116);
        assert_eq!(voice.next_due(), Some(ms(1)));
        assert_eq!(voice.due(ms(1)).len(), 1);
        assert_eq!(voice.due(ms(11)).len(), 10);
    }

    /// Check that the last data is followed by as many empty packets as push it out, and no more.
    #[test]
    fn due_after_a_pause_pushes_the_last_data_out() {
        let (mut voice, mut faults) = (playing(), UsbFaults::default());
        assert_eq!(voice.next_due(), None);
        voice.push(&[7; 51], 2, &mut faults);
        assert_eq!(voice.due(ms(10)).len(), 3);
        assert!(voice.due(ms(209)).is_empty());
        let idle: usize = (210..2000).map(|at| voice.due(ms(at)).len()).sum();
        assert_eq!(idle, 60);
        assert_eq!(voice.next_due(), None);
    }

    proptest! {
        /// Check that frames come out as they were sent, however they are cut.
        #[test]
        fn frames_cut_anywhere_are_put_together(lengths in prop::collection::vec(0u8..70, 0..9), cut in 1usize..64) {
            let frames: Vec<Vec<u8>> = lengths
                .iter()
                .map(|length| [&[1, 0, *length][..], &vec![*length; usize::from(*length)]].concat())
                .collect();
            let mut voice = VoiceOut::default();
            let all = frames.concat();
            let got: Vec<Vec<u8>> = all.chunks(cut).flat_map(|packet| voice.push(packet)).collect();
            prop_assert_eq!(got, frames);
        }
    }
}
