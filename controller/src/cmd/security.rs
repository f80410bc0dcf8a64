//! Authentication, pairing and encryption: sections 7.1, 7.5 and 7.8.

use super::{Cx, commands};
use crate::hci::le_event::LongTermKeyRequest;
use crate::hci::wire::wire_struct;
use crate::pairing::{IoCapability, Key};
use crate::types::{BdAddr, ConnHandle, LinkKind, Role, Status};

commands! {
    0x040b "Link Key Request Reply" (1, 2) Bredr on_peer(link_key);
    0x040c "Link Key Request Negative Reply" (1, 3) Bredr on_peer(no_link_key);
    0x040d "PIN Code Request Reply" (1, 4) Bredr on_peer(pin);
    0x040e "PIN Code Request Negative Reply" (1, 5) Bredr on_peer(no_pin);
    0x0411 "Authentication Requested" (1, 7) Bredr begin(authenticate);
    0x0413 "Set Connection Encryption" (2, 0) Bredr begin(encrypt);
    0x042b "IO Capability Request Reply" (18, 7) Bredr on_peer(io_capability);
    0x042c "User Confirmation Request Reply" (19, 0) Bredr on_peer(confirm);
    0x042d "User Confirmation Request Negative Reply" (19, 1) Bredr on_peer(deny);
    0x0434 "IO Capability Request Negative Reply" (20, 3) Bredr on_peer(no_io_capability);
    0x1408 "Read Encryption Key Size" (20, 4) Bredr on_link(read_key_size);
    0x2019 "LE Enable Encryption" (28, 0) LeEncryption begin(enable_le);
    0x201a "LE Long Term Key Request Reply" (28, 1) LeEncryption on_link(long_term_key);
    0x201b "LE Long Term Key Request Negative Reply" (28, 2) LeEncryption on_link(no_long_term_key);
}

wire_struct! {
    struct Pin { length: u8, pin: Key }

    struct Capability { capability: u8, oob: u8, authentication: u8 }

    struct EnableLe { handle: ConnHandle, random: u64, diversifier: u16, key: Key }
}

const KEY_BYTES: u8 = 16;

fn check(cx: &mut Cx<'_>, handle: ConnHandle, kind: LinkKind) -> Result<(), Status> {
    let there = cx.link(handle)?.kind;
    (there == kind)
        .then_some(())
        .ok_or(Status::UNKNOWN_CONNECTION)
}

/// 7.1.10
fn link_key(cx: &mut Cx<'_>, addr: BdAddr, key: Key) -> Result<(), Status> {
    cx.air.link_key_reply(cx.id, addr, Some(key))
}

/// 7.1.11
fn no_link_key(cx: &mut Cx<'_>, addr: BdAddr, (): ()) -> Result<(), Status> {
    cx.air.link_key_reply(cx.id, addr, None)
}

/// 7.1.12: 1–16 octets.
fn pin(cx: &mut Cx<'_>, addr: BdAddr, mut pin: Pin) -> Result<(), Status> {
    if !(1..=KEY_BYTES).contains(&pin.length) {
        return Err(Status::INVALID_PARAMETERS);
    }
    let unused = pin.pin.iter_mut().skip(usize::from(pin.length));
    unused.for_each(|octet| *octet = 0);
    cx.air.pin_reply(cx.id, addr, Some(pin.pin))
}

/// 7.1.13
fn no_pin(cx: &mut Cx<'_>, addr: BdAddr, (): ()) -> Result<(), Status> {
    cx.air.pin_reply(cx.id, addr, None)
}

/// 7.1.15
fn authenticate(cx: &mut Cx<'_>, handle: ConnHandle) -> Result<(), Status> {
    check(cx, handle, LinkKind::Acl)?;
    cx.air.authenticate(cx.id, handle);
    Ok(())
}

/// 7.1.16: only after authentication.
fn encrypt(cx: &mut Cx<'_>, (handle, on): (ConnHandle, u8)) -> Result<(), Status> {
    check(cx, handle, LinkKind::Acl)?;
    cx.peer(handle)?;
    if on > 1 {
        return Err(Status::INVALID_PARAMETERS);
    }
    if cx.link(handle)?.security.key.is_none() {
        return Err(Status::KEY_MISSING);
    }
    cx.air.encrypt(cx.id, handle, on == 1);
    Ok(())
}

/// 7.1.29
fn io_capability(cx: &mut Cx<'_>, addr: BdAddr, given: Capability) -> Result<(), Status> {
    let Capability {
        capability,
        oob,
        authentication,
    } = given;
    if capability > 3 || authentication > 5 {
        return Err(Status::INVALID_PARAMETERS);
    }
    let given = IoCapability {
        capability,
        oob,
        authentication,
    };
    cx.air.io_capability_reply(cx.id, addr, Ok(given))
}

/// 7.1.36
fn no_io_capability(cx: &mut Cx<'_>, addr: BdAddr, why: Status) -> Result<(), Status> {
    cx.air.io_capability_reply(cx.id, addr, Err(why))
}

/// 7.1.30
fn confirm(cx: &mut Cx<'_>, addr: BdAddr, (): ()) -> Result<(), Status> {
    cx.air.confirmation_reply(cx.id, addr, true)
}

/// 7.1.31
fn deny(cx: &mut Cx<'_>, addr: BdAddr, (): ()) -> Result<(), Status> {
    cx.air.confirmation_reply(cx.id, addr, false)
}

/// 7.5.7
fn read_key_size(cx: &mut Cx<'_>, handle: ConnHandle, (): ()) -> Result<u8, Status> {
    check(cx, handle, LinkKind::Acl)?;
    match cx.link(handle)?.security.encrypted {
        true => Ok(KEY_BYTES),
        false => Err(Status::INSUFFICIENT_SECURITY),
    }
}

/// 7.8.24: the central's right.
fn enable_le(cx: &mut Cx<'_>, wanted: EnableLe) -> Result<(), Status> {
    let EnableLe {
        handle,
        random,
        diversifier,
        key,
    } = wanted;
    check(cx, handle, LinkKind::Le)?;
    cx.peer(handle)?;
    let link = cx.link(handle)?;
    if link.role != Role::Central || link.security.wanted.is_some() {
        return Err(Status::COMMAND_DISALLOWED);
    }
    link.security.wanted = Some(key);
    let peer = link.peer;
    let event = LongTermKeyRequest {
        handle: peer.handle,
        random,
        diversifier,
    };
    cx.air.le_event(peer.controller, &event);
    Ok(())
}

/// 7.8.25
fn long_term_key(cx: &mut Cx<'_>, handle: ConnHandle, key: Key) -> Result<(), Status> {
    check(cx, handle, LinkKind::Le)?;
    cx.air.long_term_key(cx.id, handle, Some(key))
}

/// 7.8.26
fn no_long_term_key(cx: &mut Cx<'_>, handle: ConnHandle, (): ()) -> Result<(), Status> {
    check(cx, handle, LinkKind::Le)?;
    cx.air.long_term_key(cx.id, handle, None)
}
