//! Misbehaviour on the bus, as data; and what crossed it, counted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wire::status;
use crate::types::ControllerId;

/// An endpoint of the dongle, by what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsbEndpoint {
    /// Control endpoint 0: commands.
    Commands,
    /// Interrupt IN: events.
    Events,
    /// Bulk IN: ACL data to the host.
    AclIn,
    /// Bulk OUT: ACL data from the host.
    AclOut,
    /// Isochronous IN: SCO data to the host.
    ScoIn,
    /// Isochronous OUT: SCO data from the host.
    ScoOut,
}

/// What goes wrong. An action that makes no sense on an endpoint leaves it unharmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum UsbFaultAction {
    /// The endpoint stalls. What the host sent is lost; what it was to receive comes later.
    Stall,
    /// The bus fails. As [`Stall`](Self::Stall), but host controllers try again.
    IoError,
    /// The endpoint says more than it was asked for.
    Babble,
    /// What the host sends is taken only after this time. What is sent meanwhile queues behind it. (OUT endpoints.)
    Hold(Duration),
    /// What the host sends is never taken. (OUT endpoints.)
    Never,
    /// The next frame comes in packets of at most so many bytes. (Isochronous IN.)
    Short(u16),
    /// The device refuses the alternate setting that the host wants to have voice in. (Isochronous OUT.)
    NoRoom,
}

/// Transfers that something happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsbFault {
    /// The controller behind the dongle that misbehaves.
    pub controller: ControllerId,
    /// Which transfers count.
    pub endpoint: UsbEndpoint,
    /// How many pass unharmed first, from when the fault is set.
    pub after: u64,
    /// How many in a row it happens to then.
    pub times: u64,
    /// What happens.
    pub action: UsbFaultAction,
}

/// The faults of one dongle that have yet to happen.
#[derive(Debug, Default)]
pub(super) struct UsbFaults(Vec<UsbFault>);

impl UsbFaults {
    pub(super) fn add(&mut self, fault: UsbFault) {
        self.0.push(fault);
    }

    /// Counts a transfer, and says what happens to it.
    pub(super) fn strike(&mut self, endpoint: UsbEndpoint) -> Option<UsbFaultAction> {
        let meant = |fault: &&mut UsbFault| fault.endpoint == endpoint && fault.times > 0;
        let mut struck = None;
        for fault in self.0.iter_mut().filter(meant) {
            if fault.after > 0 {
                fault.after -= 1;
            } else if struck.is_none() {
                fault.times -= 1;
                struck = Some(fault.action);
            }
        }
        self.0.retain(|fault| fault.times > 0);
        struck
    }
}

/// How a transfer ended, as the dongle sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsbStatus {
    /// Data went over.
    Success,
    /// The host took it back.
    Cancelled,
    /// A fault made the bus fail.
    IoError,
    /// A fault made the endpoint stall, or the host asked for something that is not there.
    Stall,
    /// A fault made the endpoint babble.
    Babble,
}

impl UsbStatus {
    pub(super) fn of(code: u8) -> Self {
        match code {
            status::SUCCESS => Self::Success,
            status::CANCELLED => Self::Cancelled,
            status::IO_ERROR => Self::IoError,
            status::BABBLE => Self::Babble,
            _ => Self::Stall,
        }
    }
}

/// Transfers of one endpoint that ended in the same way. Standard control requests are in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsbTransfers {
    /// The endpoint.
    pub endpoint: UsbEndpoint,
    /// How they ended.
    pub status: UsbStatus,
    /// How many. Of isochronous endpoints: packets with data, or with an error.
    pub transfers: u64,
    /// Bytes that they moved.
    pub bytes: u64,
}

/// What crossed the bus so far.
#[derive(Debug, Default)]
pub(super) struct UsbLedger(BTreeMap<(UsbEndpoint, UsbStatus), (u64, u64)>);

impl UsbLedger {
    pub(super) fn write(&mut self, endpoint: UsbEndpoint, code: u8, bytes: usize) {
        let sum = self.0.entry((endpoint, UsbStatus::of(code))).or_default();
        sum.0 += 1;
        if code == status::SUCCESS {
            sum.1 += u64::try_from(bytes).unwrap_or(u64::MAX);
        }
    }

    /// A transfer did not end as it was counted: the host had taken it back before it was told.
    pub(super) fn take_back(&mut self, endpoint: UsbEndpoint, code: u8, bytes: usize) {
        let key = (endpoint, UsbStatus::of(code));
        let sum = self.0.entry(key).or_default();
        sum.0 = sum.0.saturating_sub(1);
        if code == status::SUCCESS {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            sum.1 = sum.1.saturating_sub(bytes);
        }
        if sum.0 == 0 {
            self.0.remove(&key);
        }
        self.write(endpoint, status::CANCELLED, 0);
    }

    pub(super) fn sums(&self) -> Vec<UsbTransfers> {
        let sum = |(key, value): (&(UsbEndpoint, UsbStatus), &(u64, u64))| UsbTransfers {
            endpoint: key.0,
            status: key.1,
            transfers: value.0,
            bytes: value.1,
        };
        self.0.iter().map(sum).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a fault waits for its turn, happens as often as it says, and only on its endpoint.
    #[test]
    fn strike_hits_so_many_transfers_in_a_row() {
        let mut faults = UsbFaults::default();
        faults.add(UsbFault {
            controller: ControllerId::from_index(0),
            endpoint: UsbEndpoint::AclOut,
            after: 2,
            times: 3,
            action: UsbFaultAction::Stall,
        });
        assert_eq!(faults.strike(UsbEndpoint::AclIn), None);
        let hits: Vec<bool> = (0..7)
            .map(|_| faults.strike(UsbEndpoint::AclOut).is_some())
            .collect();
        assert_eq!(hits, [false, false, true, true, true, false, false]);
    }
}
