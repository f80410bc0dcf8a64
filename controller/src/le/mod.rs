//! LE: advertising, scanning, and connections that come of the two.

pub(crate) mod advertising;
pub(crate) mod connection;
pub(crate) mod iso;
pub(crate) mod scanning;

use std::collections::BTreeMap;

use crate::air::Air;
use crate::hci::wire::{Malformed, Reader, Wire};
use crate::types::{BdAddr, ControllerId};
use advertising::{AdvertisingSet, SetId};

/// An address and its type: 0 public, 1 random (and 2, 3 for identities of resolved addresses).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct LeAddr {
    pub(crate) kind: u8,
    pub(crate) addr: BdAddr,
}

impl LeAddr {
    /// The same device, whether its address is taken as itself or as an identity.
    pub(crate) const fn identity(self) -> Self {
        Self {
            kind: self.kind & 1,
            addr: self.addr,
        }
    }
}

impl Wire for LeAddr {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            kind: u8::decode(r)?,
            addr: BdAddr::decode(r)?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.kind.encode(out);
        self.addr.encode(out);
    }
}

/// A number of LE connection events' unit of time, 1.25 ms, or of supervision timeouts', 10 ms: see the field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionTiming {
    /// In units of 1.25 ms.
    pub(crate) interval: u16,
    /// In connection events.
    pub(crate) latency: u16,
    /// In units of 10 ms.
    pub(crate) timeout: u16,
}

/// What a host asks of a connection's timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimingWish {
    pub(crate) min_interval: u16,
    pub(crate) max_interval: u16,
    pub(crate) latency: u16,
    pub(crate) timeout: u16,
}

impl TimingWish {
    /// The longest interval asked for, if the numbers go together.
    ///
    /// Spec: Core 5.4, Vol 4, Part E, 7.8.12.
    pub(crate) fn settle(self) -> Option<ConnectionTiming> {
        let Self {
            min_interval,
            max_interval,
            latency,
            timeout,
        } = self;
        let fine = (6..=3200).contains(&min_interval)
            && (min_interval..=3200).contains(&max_interval)
            && latency <= 499
            && (10..=3200).contains(&timeout)
            // Timeout in ms > (1 + latency) * interval in ms * 2.
            && u32::from(timeout) * 40 > (1 + u32::from(latency)) * u32::from(max_interval) * 10;
        fine.then_some(ConnectionTiming {
            interval: max_interval,
            latency,
            timeout,
        })
    }
}

impl Air {
    /// Ends all advertising, scanning and initiating, and forgets the advertising sets.
    pub(crate) fn silence(&mut self, id: ControllerId) {
        self.stop_scan(id);
        let sets: Vec<_> = self.get(id).advertisers.keys().copied().collect();
        for which in sets {
            self.stop_advertising(id, which);
        }
        let me = self.get_mut(id);
        me.initiator = None;
        me.cigs.clear();
        me.advertisers = BTreeMap::from([(SetId::Legacy, AdvertisingSet::legacy())]);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Check that wishes in range are granted, and those are not whose timeout is shorter than two intervals with latency.
    #[rstest]
    #[case::usual(24, 40, 0, 42, Some(40))]
    #[case::too_short(5, 40, 0, 42, None)]
    #[case::reversed(40, 24, 0, 42, None)]
    #[case::timeout_just_enough(6, 40, 3, 41, Some(40))]
    #[case::timeout_too_short(6, 40, 3, 40, None)]
    fn timing_wish_settles_in_range(
        #[case] min_interval: u16,
        #[case] max_interval: u16,
        #[case] latency: u16,
        #[case] timeout: u16,
        #[case] interval: Option<u16>,
    ) {
        let wish = TimingWish {
            min_interval,
            max_interval,
            latency,
            timeout,
        };
        assert_eq!(wish.settle().map(|timing| timing.interval), interval);
    }
}
