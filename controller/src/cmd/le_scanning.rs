//! LE scanning: section 7.8.

use std::time::Duration;

use super::{Cx, commands};
use crate::hci::wire::{Malformed, Reader, Wire, wire_struct};
use crate::le::scanning::ScanSettings;
use crate::types::Status;

commands! {
    0x200b "LE Set Scan Parameters" (26, 2) Le complete(set_parameters);
    0x200c "LE Set Scan Enable" (26, 3) Le complete(enable);
    0x2041 "LE Set Extended Scan Parameters" (37, 5) LeExtended complete(set_extended_parameters);
    0x2042 "LE Set Extended Scan Enable" (37, 6) LeExtended complete(enable_extended);
}

wire_struct! {
    struct Parameters { kind: u8, interval: u16, window: u16, own_kind: u8, filter_policy: u8 }

    struct OnePhy { kind: u8, interval: u16, window: u16 }

    struct Enable { enable: u8, filter_duplicates: u8 }

    struct EnableExtended { enable: u8, filter_duplicates: u8, duration: u16, period: u16 }
}

/// One item for each bit that is set in a mask of PHYs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PerPhy<T>(pub(super) Vec<T>);

impl<T: Wire> Wire for PerPhy<T> {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let phys = u8::decode(r)?;
        let items = (0..phys.count_ones()).map(|_| T::decode(r));
        items.collect::<Result<_, _>>().map(Self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let phys = (1u32 << self.0.len().min(8)) - 1;
        u8::try_from(phys).unwrap_or(u8::MAX).encode(out);
        self.0.iter().for_each(|item| item.encode(out));
    }
}

/// 7.8.10: not while it scans.
fn set_parameters(cx: &mut Cx<'_>, wanted: Parameters) -> Result<(), Status> {
    let (active, filter_policy) = (wanted.kind == 1, wanted.filter_policy);
    set(cx, active, filter_policy)
}

fn set(cx: &mut Cx<'_>, active: bool, filter_policy: u8) -> Result<(), Status> {
    if cx.me().scan.is_some() {
        return Err(Status::COMMAND_DISALLOWED);
    }
    cx.settings().scan = ScanSettings {
        active,
        filter_policy,
    };
    Ok(())
}

/// 7.8.11
fn enable(cx: &mut Cx<'_>, wanted: Enable) -> Result<(), Status> {
    start_or_stop(cx, false, wanted.enable, wanted.filter_duplicates, None)
}

fn start_or_stop(
    cx: &mut Cx<'_>,
    extended: bool,
    enable: u8,
    filter_duplicates: u8,
    duration: Option<Duration>,
) -> Result<(), Status> {
    match enable {
        0 => {
            cx.air.stop_scan(cx.id);
            Ok(())
        }
        1 => {
            let filter = filter_duplicates != 0;
            cx.air.start_scan(cx.id, extended, filter, duration);
            Ok(())
        }
        _ => Err(Status::INVALID_PARAMETERS),
    }
}

/// 7.8.64: not while it scans. Own address kind and filter policy, then what each PHY does; one that scans actively is enough.
fn set_extended_parameters(
    cx: &mut Cx<'_>,
    ((_, filter_policy), phys): ((u8, u8), PerPhy<OnePhy>),
) -> Result<(), Status> {
    if phys.0.is_empty() {
        return Err(Status::INVALID_PARAMETERS);
    }
    let active = phys.0.iter().any(|phy| phy.kind == 1);
    set(cx, active, filter_policy)
}

/// 7.8.65: a duration in units of 10 ms; zero has no end. Periods are not repeated.
fn enable_extended(cx: &mut Cx<'_>, wanted: EnableExtended) -> Result<(), Status> {
    let EnableExtended {
        enable,
        filter_duplicates,
        duration,
        period: _,
    } = wanted;
    let duration = Duration::from_millis(10) * u32::from(duration);
    let duration = (!duration.is_zero()).then_some(duration);
    start_or_stop(cx, true, enable, filter_duplicates, duration)
}
