//! Authentication and pairing over BR/EDR, and encryption of both kinds of links.
//!
//! Pairing is Secure Simple Pairing with confirmation by both hosts (which for hosts without display and keys is "just works"), or
//! with a PIN if one of them does not do it. Keys come from no cryptography: both ends get the same pseudorandom number.
//!
//! Spec: Core 5.4, Vol 2, Part F, 4.2 (message sequence charts); Vol 4, Part E, 7.1.10–7.1.16, 7.7.16, 7.7.40–7.7.45.

use std::time::Duration;

use crate::air::Air;
use crate::hci::event::{
    AuthenticationComplete, EncryptionChange, EncryptionKeyRefreshComplete, IoCapabilityRequest,
    IoCapabilityResponse, LinkKeyNotification, LinkKeyRequest, PinCodeRequest,
    SimplePairingComplete, UserConfirmationRequest,
};
use crate::timers::{Timer, TimerKey};
use crate::types::{BdAddr, ConnHandle, ControllerId, LinkKind, Status};

/// A key of BR/EDR or LE.
pub(crate) type Key = [u8; 16];

/// How safe one end of a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Security {
    /// The link key that both ends have shown to have.
    pub(crate) key: Option<Key>,
    pub(crate) encrypted: bool,
    /// What the central of an LE link wants to encrypt with, until the peripheral's host has given its key.
    pub(crate) wanted: Option<Key>,
}

/// What a host says of itself before pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IoCapability {
    pub(crate) capability: u8,
    pub(crate) oob: u8,
    pub(crate) authentication: u8,
}

/// One end of a link.
type Place = (ControllerId, ConnHandle);

/// An authentication that has not ended.
#[derive(Debug)]
struct Pairing {
    initiator: Place,
    responder: Place,
    step: Step,
    timer: TimerKey,
    number: u64,
}

/// What the hosts have said, and which one is asked.
#[derive(Debug, Clone, Copy)]
enum Step {
    InitiatorKey,
    ResponderKey {
        key: Key,
    },
    InitiatorPin,
    ResponderPin {
        pin: Option<Key>,
    },
    InitiatorCapability,
    ResponderCapability {
        initiator: IoCapability,
    },
    Confirm {
        protected: bool,
        initiator: bool,
        responder: bool,
    },
}

/// The authentications of an air.
#[derive(Debug, Default)]
pub(crate) struct Pairings {
    running: Vec<Pairing>,
    last: u64,
}

/// How long the ends wait for a host's answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Key types of Link Key Notification.
const COMBINATION_KEY: u8 = 0x00;
const UNAUTHENTICATED_KEY: u8 = 0x04;
const AUTHENTICATED_KEY: u8 = 0x05;
/// The IO capability DisplayYesNo.
const DISPLAY_YES_NO: u8 = 0x01;
/// The bit of the authentication requirements that asks for protection against a man in the middle.
const PROTECTION: u8 = 0x01;

impl Air {
    /// Begins to authenticate the peer of an ACL link.
    pub(crate) fn authenticate(&mut self, id: ControllerId, handle: ConnHandle) {
        let [initiator, responder] = self.ends(id, handle)[..] else {
            return self.authentication_complete((id, handle), Status::LMP_TIMEOUT);
        };
        if self
            .pairings
            .running
            .iter()
            .any(|pairing| pairing.is_at(initiator))
        {
            return self.authentication_complete(initiator, Status::LMP_COLLISION);
        }
        self.pairings.last += 1;
        let number = self.pairings.last;
        let at = self.now.saturating_add(TIMEOUT);
        let timer = self.timers.set(at, Timer::Pairing { number });
        self.pairings.running.push(Pairing {
            initiator,
            responder,
            step: Step::InitiatorKey,
            timer,
            number,
        });
        self.ask(initiator, |addr| LinkKeyRequest { addr });
    }

    /// A host's link key for a peer, or that it has none.
    pub(crate) fn link_key_reply(
        &mut self,
        id: ControllerId,
        addr: BdAddr,
        given: Option<Key>,
    ) -> Result<(), Status> {
        let (at, here) = self.pairing_with(id, addr)?;
        let Pairing {
            initiator,
            responder,
            step,
            ..
        } = *self.running(at)?;
        match (step, given) {
            (Step::InitiatorKey, Some(key)) if here == initiator => {
                self.step(at, Step::ResponderKey { key });
                self.ask(responder, |addr| LinkKeyRequest { addr });
            }
            (Step::InitiatorKey, None) if here == initiator => {
                let both = self.simple(initiator.0) && self.simple(responder.0);
                if both {
                    self.step(at, Step::InitiatorCapability);
                    self.ask(initiator, |addr| IoCapabilityRequest { addr });
                } else {
                    self.step(at, Step::InitiatorPin);
                    self.ask(initiator, |addr| PinCodeRequest { addr });
                }
            }
            (Step::ResponderKey { key }, given) if here == responder => {
                let status = match given {
                    Some(same) if same == key => Status::SUCCESS,
                    Some(_) => Status::AUTHENTICATION_FAILURE,
                    None => Status::KEY_MISSING,
                };
                self.end_pairing(at, status, status.is_success().then_some(key));
            }
            _ => return Err(Status::COMMAND_DISALLOWED),
        }
        Ok(())
    }

    /// A host's PIN for a peer (padded with zeroes), or that it has none.
    pub(crate) fn pin_reply(
        &mut self,
        id: ControllerId,
        addr: BdAddr,
        given: Option<Key>,
    ) -> Result<(), Status> {
        let (at, here) = self.pairing_with(id, addr)?;
        let Pairing {
            initiator,
            responder,
            step,
            ..
        } = *self.running(at)?;
        match step {
            Step::InitiatorPin if here == initiator && given.is_none() => {
                self.end_pairing(at, Status::KEY_MISSING, None);
            }
            Step::InitiatorPin if here == initiator => {
                self.step(at, Step::ResponderPin { pin: given });
                self.ask(responder, |addr| PinCodeRequest { addr });
            }
            Step::ResponderPin { pin } if here == responder => match given {
                None => self.end_pairing(at, Status::KEY_MISSING, None),
                Some(_) if given != pin => {
                    self.end_pairing(at, Status::AUTHENTICATION_FAILURE, None);
                }
                Some(_) => self.new_key(at, COMBINATION_KEY),
            },
            _ => return Err(Status::COMMAND_DISALLOWED),
        }
        Ok(())
    }

    /// What a host can do to pair, or why it does not pair.
    pub(crate) fn io_capability_reply(
        &mut self,
        id: ControllerId,
        addr: BdAddr,
        given: Result<IoCapability, Status>,
    ) -> Result<(), Status> {
        let (at, here) = self.pairing_with(id, addr)?;
        let Pairing {
            initiator,
            responder,
            step,
            ..
        } = *self.running(at)?;
        match (step, given) {
            (Step::InitiatorCapability, Ok(given)) if here == initiator => {
                self.step(at, Step::ResponderCapability { initiator: given });
                self.ask(responder, |addr| given.response(addr));
                self.ask(responder, |addr| IoCapabilityRequest { addr });
            }
            (Step::ResponderCapability { initiator: first }, Ok(given)) if here == responder => {
                self.ask(initiator, |addr| given.response(addr));
                self.ask_confirmation(at, first, given);
            }
            (Step::InitiatorCapability, Err(why)) if here == initiator => {
                self.end_simple_pairing(at, why);
            }
            (Step::ResponderCapability { .. }, Err(why)) if here == responder => {
                self.end_simple_pairing(at, why);
            }
            _ => return Err(Status::COMMAND_DISALLOWED),
        }
        Ok(())
    }

    fn ask_confirmation(&mut self, at: usize, first: IoCapability, second: IoCapability) {
        let Ok(Pairing {
            initiator,
            responder,
            ..
        }) = self.running(at)
        else {
            return;
        };
        let (initiator, responder) = (*initiator, *responder);
        let display = |io: IoCapability| io.capability == DISPLAY_YES_NO;
        let wanted = (first.authentication | second.authentication) & PROTECTION != 0;
        let step = Step::Confirm {
            protected: wanted && display(first) && display(second),
            initiator: false,
            responder: false,
        };
        self.step(at, step);
        let value = self.get_mut(initiator.0).random.next() % 1_000_000;
        let value = u32::try_from(value).unwrap_or(0);
        for place in [initiator, responder] {
            self.ask(place, |addr| UserConfirmationRequest { addr, value });
        }
    }

    /// Whether a host confirms the number that both have seen.
    pub(crate) fn confirmation_reply(
        &mut self,
        id: ControllerId,
        addr: BdAddr,
        yes: bool,
    ) -> Result<(), Status> {
        let (at, here) = self.pairing_with(id, addr)?;
        let running = self.running(at)?;
        let by_initiator = here == running.initiator;
        let Step::Confirm {
            protected,
            initiator,
            responder,
        } = running.step
        else {
            return Err(Status::COMMAND_DISALLOWED);
        };
        if !yes {
            self.end_simple_pairing(at, Status::AUTHENTICATION_FAILURE);
            return Ok(());
        }
        let initiator = initiator || by_initiator;
        let responder = responder || !by_initiator;
        let confirmed = Step::Confirm {
            protected,
            initiator,
            responder,
        };
        self.step(at, confirmed);
        if initiator && responder {
            self.simple_pairing_complete(at, Status::SUCCESS);
            let kind = if protected {
                AUTHENTICATED_KEY
            } else {
                UNAUTHENTICATED_KEY
            };
            self.new_key(at, kind);
        }
        Ok(())
    }

    /// Ends a pairing that has got as far as the hosts' capabilities.
    fn end_simple_pairing(&mut self, at: usize, why: Status) {
        self.simple_pairing_complete(at, why);
        self.end_pairing(at, why, None);
    }

    /// Tells those who were asked for their capabilities.
    fn simple_pairing_complete(&mut self, at: usize, status: Status) {
        let Ok(pairing) = self.running(at) else {
            return;
        };
        let (initiator, responder) = (pairing.initiator, pairing.responder);
        let asked_both = !matches!(pairing.step, Step::InitiatorCapability);
        self.ask(initiator, |addr| SimplePairingComplete { status, addr });
        if asked_both {
            self.ask(responder, |addr| SimplePairingComplete { status, addr });
        }
    }

    /// Gives both hosts a new link key; that ends the pairing well.
    fn new_key(&mut self, at: usize, kind: u8) {
        let Ok(pairing) = self.running(at) else {
            return;
        };
        let (initiator, responder) = (pairing.initiator, pairing.responder);
        let random = &mut self.get_mut(initiator.0).random;
        let key = (u128::from(random.next()) << 64 | u128::from(random.next())).to_le_bytes();
        for place in [initiator, responder] {
            self.ask(place, |addr| LinkKeyNotification { addr, key, kind });
        }
        self.end_pairing(at, Status::SUCCESS, Some(key));
    }

    fn end_pairing(&mut self, at: usize, status: Status, key: Option<Key>) {
        if at >= self.pairings.running.len() {
            return;
        }
        let pairing = self.pairings.running.swap_remove(at);
        self.timers.cancel(pairing.timer);
        for (id, handle) in [pairing.initiator, pairing.responder] {
            if let Some(link) = self.get_mut(id).links.get_mut(&handle) {
                link.security.key = key.or(link.security.key);
            }
        }
        self.authentication_complete(pairing.initiator, status);
    }

    /// No host has answered in time.
    pub(crate) fn pairing_timeout(&mut self, number: u64) {
        let mut running = self.pairings.running.iter();
        let Some(at) = running.position(|pairing| pairing.number == number) else {
            return;
        };
        match self.running(at).map(|pairing| pairing.step) {
            Ok(
                Step::InitiatorCapability | Step::ResponderCapability { .. } | Step::Confirm { .. },
            ) => self.end_simple_pairing(at, Status::LMP_TIMEOUT),
            _ => self.end_pairing(at, Status::LMP_TIMEOUT, None),
        }
    }

    /// Forgets the pairing of a link that ends.
    pub(crate) fn forget_pairing(&mut self, place: Place) {
        let mut running = self.pairings.running.iter();
        if let Some(at) = running.position(|pairing| pairing.is_at(place)) {
            let pairing = self.pairings.running.swap_remove(at);
            self.timers.cancel(pairing.timer);
        }
    }

    fn authentication_complete(&mut self, (id, handle): Place, status: Status) {
        self.event(id, &AuthenticationComplete { status, handle });
    }

    /// The pairing that a host's answer is about, and the host's end of it.
    fn pairing_with(&self, id: ControllerId, addr: BdAddr) -> Result<(usize, Place), Status> {
        let link = self.get(id).link_to(addr);
        let (handle, _) = link.ok_or(Status::UNKNOWN_CONNECTION)?;
        let here = (id, handle);
        let mut running = self.pairings.running.iter();
        let at = running.position(|pairing| pairing.is_at(here));
        Ok((at.ok_or(Status::COMMAND_DISALLOWED)?, here))
    }

    fn running(&self, at: usize) -> Result<&Pairing, Status> {
        let pairing = self.pairings.running.get(at);
        pairing.ok_or(Status::COMMAND_DISALLOWED)
    }

    fn step(&mut self, at: usize, step: Step) {
        if let Some(pairing) = self.pairings.running.get_mut(at) {
            pairing.step = step;
        }
    }

    /// Sends one end an event about the other's address.
    fn ask<E: crate::hci::event::Event>(
        &mut self,
        (id, handle): Place,
        event: impl FnOnce(BdAddr) -> E,
    ) {
        let addr = self.get(id).links.get(&handle).map(|link| link.peer.addr);
        if let Some(addr) = addr {
            self.event(id, &event(addr));
        }
    }

    /// Whether a host does Secure Simple Pairing.
    fn simple(&self, id: ControllerId) -> bool {
        self.get(id).settings.simple_pairing != 0
    }

    /// Turns encryption of an ACL link on or off at both ends.
    pub(crate) fn encrypt(&mut self, id: ControllerId, handle: ConnHandle, on: bool) {
        for (id, handle) in self.ends(id, handle) {
            self.encrypted(id, handle, Status::SUCCESS, on);
        }
    }

    /// Tells a host how encrypting went, and marks the link.
    fn encrypted(&mut self, id: ControllerId, handle: ConnHandle, status: Status, on: bool) {
        let Some(link) = self.get_mut(id).links.get_mut(&handle) else {
            return;
        };
        let before = link.security.encrypted;
        if status.is_success() {
            link.security.encrypted = on;
        }
        if link.kind == LinkKind::Le && before {
            self.event(id, &EncryptionKeyRefreshComplete { status, handle });
        } else {
            let enabled = u8::from(on && status.is_success());
            let event = EncryptionChange {
                status,
                handle,
                enabled,
            };
            self.event(id, &event);
        }
    }

    /// The peripheral's host gives the key of an LE link, or has none. Keys that differ end the link.
    pub(crate) fn long_term_key(
        &mut self,
        id: ControllerId,
        handle: ConnHandle,
        given: Option<Key>,
    ) -> Result<(), Status> {
        let [peripheral, central] = self.ends(id, handle)[..] else {
            return Err(Status::UNKNOWN_CONNECTION);
        };
        let link = self.get_mut(central.0).links.get_mut(&central.1);
        let wanted = link.and_then(|link| link.security.wanted.take());
        let wanted = wanted.ok_or(Status::COMMAND_DISALLOWED)?;
        match given {
            Some(same) if same == wanted => {
                self.encrypted(central.0, central.1, Status::SUCCESS, true);
                self.encrypted(peripheral.0, peripheral.1, Status::SUCCESS, true);
            }
            Some(_) => {
                let why = Status::MIC_FAILURE;
                self.close_with(central.0, central.1, why, why);
            }
            None => self.encrypted(central.0, central.1, Status::KEY_MISSING, false),
        }
        Ok(())
    }
}

impl Pairing {
    fn is_at(&self, place: Place) -> bool {
        self.initiator == place || self.responder == place
    }
}

impl IoCapability {
    fn response(self, addr: BdAddr) -> IoCapabilityResponse {
        IoCapabilityResponse {
            addr,
            capability: self.capability,
            oob: self.oob,
            authentication: self.authentication,
        }
    }
}
