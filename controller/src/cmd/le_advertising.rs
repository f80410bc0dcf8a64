//! LE advertising: section 7.8. The commands with and without a set's handle may be mixed, unlike on strict controllers (3.1.1).

use std::time::Duration;

use super::{Cx, commands};
use crate::hci::wire::{Block, Counted, wire_struct};
use crate::le::LeAddr;
use crate::le::advertising::{AdvertisingSet, SetId, properties};
use crate::types::{BdAddr, Status};

commands! {
    0x2006 "LE Set Advertising Parameters" (25, 5) Le complete(set_parameters);
    0x2007 "LE Read Advertising Physical Channel Tx Power" (25, 6) Le complete(read_tx_power);
    0x2008 "LE Set Advertising Data" (25, 7) Le complete(set_data);
    0x2009 "LE Set Scan Response Data" (26, 0) Le complete(set_scan_response);
    0x200a "LE Set Advertising Enable" (26, 1) Le complete(enable);
    0x2035 "LE Set Advertising Set Random Address" (36, 1) LeExtended complete(set_random_address);
    0x2036 "LE Set Extended Advertising Parameters" (36, 2) LeExtended complete(set_extended_parameters);
    0x2037 "LE Set Extended Advertising Data" (36, 3) LeExtended complete(set_extended_data);
    0x2038 "LE Set Extended Scan Response Data" (36, 4) LeExtended complete(set_extended_scan_response);
    0x2039 "LE Set Extended Advertising Enable" (36, 5) LeExtended complete(enable_extended);
    0x203a "LE Read Maximum Advertising Data Length" (36, 6) LeExtended complete(read_max_data_length);
    0x203b "LE Read Number of Supported Advertising Sets" (36, 7) LeExtended complete(read_number_of_sets);
    0x203c "LE Remove Advertising Set" (37, 0) LeExtended complete(remove);
    0x203d "LE Clear Advertising Sets" (37, 1) LeExtended complete(clear);
}

wire_struct! {
    struct Parameters {
        min_interval: u16,
        max_interval: u16,
        kind: u8,
        own_kind: u8,
        peer: LeAddr,
        channels: u8,
        filter_policy: u8,
    }

    struct ShortData { length: u8, data: Block<31> }

    struct ExtendedParameters {
        set: u8,
        properties: u16,
        min_interval: [u8; 3],
        max_interval: [u8; 3],
        channels: u8,
        own_kind: u8,
        peer: LeAddr,
        filter_policy: u8,
        tx_power_dbm: i8,
        primary_phy: u8,
        max_skip: u8,
        secondary_phy: u8,
        sid: u8,
        notify: u8,
    }

    struct ExtendedData { set: u8, operation: u8, fragment: u8, data: Counted<u8> }

    struct SetTime { set: u8, duration: u16, max_events: u8 }

    struct EnableExtended { enable: u8, sets: Counted<SetTime> }
}

const MAX_SETS: u8 = 10;
/// The data of one extended advertisement of ours, as of one command.
const MAX_DATA_BYTES: u16 = 1650;
/// The longest data of an advertisement of the first kind.
const LEGACY_DATA_BYTES: usize = 31;

fn set_of<'a>(cx: &'a mut Cx<'_>, which: SetId) -> Result<&'a mut AdvertisingSet, Status> {
    let set = cx.me().advertisers.get_mut(&which);
    set.ok_or(Status::UNKNOWN_ADVERTISING)
}

/// 7.8.5: not while it advertises.
fn set_parameters(cx: &mut Cx<'_>, wanted: Parameters) -> Result<(), Status> {
    use properties::{CONNECTABLE, DIRECTED, HIGH_DUTY, LEGACY, SCANNABLE};
    let of_kind = match wanted.kind {
        0 => CONNECTABLE | SCANNABLE,
        1 => CONNECTABLE | DIRECTED | HIGH_DUTY,
        2 => SCANNABLE,
        3 => 0,
        4 => CONNECTABLE | DIRECTED,
        _ => return Err(Status::INVALID_PARAMETERS),
    };
    let set = set_of(cx, SetId::Legacy)?;
    if set.enabled {
        return Err(Status::COMMAND_DISALLOWED);
    }
    set.properties = of_kind | LEGACY;
    set.interval = wanted.min_interval.into();
    set.own_kind = wanted.own_kind;
    set.peer = wanted.peer;
    set.filter_policy = wanted.filter_policy;
    Ok(())
}

/// 7.8.6
fn read_tx_power(_: &mut Cx<'_>, (): ()) -> Result<i8, Status> {
    Ok(0)
}

impl ShortData {
    fn bytes(&self) -> Result<Vec<u8>, Status> {
        let bytes = self.data.0.get(..usize::from(self.length));
        bytes.map(<[u8]>::to_vec).ok_or(Status::INVALID_PARAMETERS)
    }
}

/// 7.8.7
fn set_data(cx: &mut Cx<'_>, data: ShortData) -> Result<(), Status> {
    let data = data.bytes()?;
    set_of(cx, SetId::Legacy)?.data = data;
    changed(cx, SetId::Legacy)
}

/// 7.8.8
fn set_scan_response(cx: &mut Cx<'_>, data: ShortData) -> Result<(), Status> {
    let data = data.bytes()?;
    set_of(cx, SetId::Legacy)?.scan_response = data;
    changed(cx, SetId::Legacy)
}

/// Has scanners hear new data of an advertiser that is on the air.
fn changed(cx: &mut Cx<'_>, which: SetId) -> Result<(), Status> {
    let set = set_of(cx, which)?;
    set.generation += 1;
    if set.enabled {
        cx.air.advertised(cx.id, which);
    }
    Ok(())
}

/// 7.8.9
fn enable(cx: &mut Cx<'_>, enable: u8) -> Result<(), Status> {
    match enable {
        0 => cx.air.stop_advertising(cx.id, SetId::Legacy),
        1 => cx.air.start_advertising(cx.id, SetId::Legacy, None),
        _ => return Err(Status::INVALID_PARAMETERS),
    }
    Ok(())
}

/// 7.8.52
fn set_random_address(cx: &mut Cx<'_>, (set, addr): (u8, BdAddr)) -> Result<(), Status> {
    let set = set_of(cx, SetId::Extended(set))?;
    if set.enabled && set.has(properties::CONNECTABLE) {
        return Err(Status::COMMAND_DISALLOWED);
    }
    set.random = Some(addr);
    Ok(())
}

/// 7.8.53: makes the set if there is none with this handle; gives the power that is used.
fn set_extended_parameters(cx: &mut Cx<'_>, wanted: ExtendedParameters) -> Result<i8, Status> {
    use properties::{CONNECTABLE, LEGACY, SCANNABLE};
    let both = CONNECTABLE | SCANNABLE;
    let legacy = wanted.properties & LEGACY != 0;
    if wanted.set > 0xef || !legacy && wanted.properties & both == both {
        return Err(Status::INVALID_PARAMETERS);
    }
    let which = SetId::Extended(wanted.set);
    let advertisers = &mut cx.me().advertisers;
    let full = advertisers.len() > usize::from(MAX_SETS);
    if full && !advertisers.contains_key(&which) {
        return Err(Status::MEMORY_EXCEEDED);
    }
    let set = advertisers.entry(which).or_default();
    if set.enabled {
        return Err(Status::COMMAND_DISALLOWED);
    }
    let [low, middle, high] = wanted.min_interval;
    set.properties = wanted.properties;
    set.interval = u32::from_le_bytes([low, middle, high, 0]);
    set.own_kind = wanted.own_kind;
    set.peer = wanted.peer;
    set.filter_policy = wanted.filter_policy;
    set.phys = (wanted.primary_phy, wanted.secondary_phy);
    set.sid = wanted.sid;
    Ok(0)
}

/// What an operation on advertising data makes of it.
///
/// Spec: Core 5.4, Vol 4, Part E, 7.8.54: 0 in between, 1 first, 2 last, 3 all, 4 unchanged.
fn edit(old: &[u8], legacy: bool, change: &ExtendedData) -> Result<Vec<u8>, Status> {
    let new = &change.data.0;
    let data = match change.operation {
        1 | 3 => new.clone(),
        0 | 2 => [old, new].concat(),
        4 => old.to_vec(),
        _ => return Err(Status::INVALID_PARAMETERS),
    };
    let longest = if legacy {
        LEGACY_DATA_BYTES
    } else {
        MAX_DATA_BYTES.into()
    };
    if data.len() > longest {
        return Err(Status::INVALID_PARAMETERS);
    }
    Ok(data)
}

/// 7.8.54
fn set_extended_data(cx: &mut Cx<'_>, change: ExtendedData) -> Result<(), Status> {
    let which = SetId::Extended(change.set);
    let set = set_of(cx, which)?;
    set.data = edit(&set.data, set.has(properties::LEGACY), &change)?;
    changed(cx, which)
}

/// 7.8.55
fn set_extended_scan_response(cx: &mut Cx<'_>, change: ExtendedData) -> Result<(), Status> {
    let which = SetId::Extended(change.set);
    let set = set_of(cx, which)?;
    set.scan_response = edit(&set.scan_response, set.has(properties::LEGACY), &change)?;
    changed(cx, which)
}

/// 7.8.56: all sets or none. Disabling none means disabling all. Durations are in units of 10 ms.
fn enable_extended(cx: &mut Cx<'_>, wanted: EnableExtended) -> Result<(), Status> {
    let EnableExtended { enable, sets } = wanted;
    let sets = sets.0;
    if enable > 1 || enable == 1 && sets.is_empty() {
        return Err(Status::INVALID_PARAMETERS);
    }
    for time in &sets {
        set_of(cx, SetId::Extended(time.set))?;
    }
    if enable == 1 {
        for time in sets {
            let duration = Duration::from_millis(10) * u32::from(time.duration);
            let duration = (!duration.is_zero()).then_some(duration);
            let which = SetId::Extended(time.set);
            cx.air.start_advertising(cx.id, which, duration);
        }
        return Ok(());
    }
    let all = sets.is_empty();
    let named = |which: &SetId| matches!(which, SetId::Extended(set) if all || sets.iter().any(|time| time.set == *set));
    let ended: Vec<SetId> = cx.me().advertisers.keys().copied().filter(named).collect();
    for which in ended {
        cx.air.stop_advertising(cx.id, which);
    }
    Ok(())
}

/// 7.8.57
fn read_max_data_length(_: &mut Cx<'_>, (): ()) -> Result<u16, Status> {
    Ok(MAX_DATA_BYTES)
}

/// 7.8.58
fn read_number_of_sets(_: &mut Cx<'_>, (): ()) -> Result<u8, Status> {
    Ok(MAX_SETS)
}

/// 7.8.59: not while it advertises.
fn remove(cx: &mut Cx<'_>, set: u8) -> Result<(), Status> {
    let which = SetId::Extended(set);
    if set_of(cx, which)?.enabled {
        return Err(Status::COMMAND_DISALLOWED);
    }
    cx.me().advertisers.remove(&which);
    Ok(())
}

/// 7.8.60: not while one of them advertises.
fn clear(cx: &mut Cx<'_>, (): ()) -> Result<(), Status> {
    let is_set = |which: &SetId| matches!(which, SetId::Extended(_));
    let advertisers = &mut cx.me().advertisers;
    if advertisers
        .iter()
        .any(|(which, set)| is_set(which) && set.enabled)
    {
        return Err(Status::COMMAND_DISALLOWED);
    }
    advertisers.retain(|which, _| !is_set(which));
    Ok(())
}
