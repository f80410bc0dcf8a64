//! Authentication, pairing and encryption, as hosts see them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Pair, addr};
use controller::{ConnHandle, ControllerId};
use rstest::rstest;

const A: ControllerId = ControllerId::from_index(0);
const B: ControllerId = ControllerId::from_index(1);

const AUTHENTICATION_COMPLETE: u8 = 0x06;
const ENCRYPTION_CHANGE: u8 = 0x08;
const PIN_REQUEST: u8 = 0x16;
const KEY_REQUEST: u8 = 0x17;
const KEY_NOTIFICATION: u8 = 0x18;
const KEY_REFRESH: u8 = 0x30;
const CAPABILITY_REQUEST: u8 = 0x31;
const CAPABILITY_RESPONSE: u8 = 0x32;
const CONFIRMATION_REQUEST: u8 = 0x33;
const PAIRING_COMPLETE: u8 = 0x36;

const KEY: [u8; 16] = [7; 16];
const NO_INPUT_NO_OUTPUT: [u8; 3] = [3, 0, 0];

/// The events (not the answers to commands) that have gone out: to whom, and which.
fn events(pair: &mut Pair) -> Vec<(ControllerId, u8)> {
    let sent = pair.sent().into_iter();
    let codes = sent.map(|(id, packet)| (id, packet[1]));
    codes
        .filter(|(_, code)| !matches!(code, 0x0e | 0x0f))
        .collect()
}

/// A command of one host about the other.
fn about(pair: &mut Pair, id: ControllerId, opcode: u16, rest: &[u8]) {
    let peer = if id == A { 2 } else { 1 };
    pair.command(id, opcode, &[&addr(peer).to_wire()[..], rest].concat());
}

/// A pair whose link A begins to authenticate.
fn authenticating(simple: bool) -> (Pair, ConnHandle) {
    let mut pair = Pair::new(|_| {});
    for id in [A, B] {
        pair.command(id, 0x0c56, &[u8::from(simple)]);
    }
    let (at_a, _) = pair.connect();
    pair.command(A, 0x0411, &at_a.get().to_le_bytes());
    assert_eq!(events(&mut pair), [(A, KEY_REQUEST)]);
    (pair, at_a)
}

/// The same, as far as both hosts having been asked to confirm.
fn confirming() -> (Pair, ConnHandle) {
    let (mut pair, at_a) = authenticating(true);
    about(&mut pair, A, 0x040c, &[]);
    assert_eq!(events(&mut pair), [(A, CAPABILITY_REQUEST)]);
    about(&mut pair, A, 0x042b, &NO_INPUT_NO_OUTPUT);
    assert_eq!(
        events(&mut pair),
        [(B, CAPABILITY_RESPONSE), (B, CAPABILITY_REQUEST)]
    );
    about(&mut pair, B, 0x042b, &NO_INPUT_NO_OUTPUT);
    let asked = [
        (A, CAPABILITY_RESPONSE),
        (A, CONFIRMATION_REQUEST),
        (B, CONFIRMATION_REQUEST),
    ];
    assert_eq!(events(&mut pair), asked);
    (pair, at_a)
}

/// Check that two hosts that confirm get the same new key, that the one that asked hears the end, and that the link can be encrypted then.
#[test]
fn simple_pairing_confirmed_gives_both_one_key() {
    let (mut pair, at_a) = confirming();
    about(&mut pair, B, 0x042c, &[]);
    assert_eq!(events(&mut pair), []);
    about(&mut pair, A, 0x042c, &[]);
    let sent = pair.sent();
    let keys: Vec<_> = sent
        .iter()
        .filter(|(_, packet)| packet[1] == KEY_NOTIFICATION)
        .map(|(_, packet)| packet[9..].to_vec())
        .collect();
    assert_eq!(keys[0], keys[1]);
    assert_eq!((keys.len(), keys[0][16]), (2, 0x04));
    let [low, high] = at_a.get().to_le_bytes();
    let end = (A, vec![4, AUTHENTICATION_COMPLETE, 3, 0, low, high]);
    assert_eq!(sent.last(), Some(&end));
    pair.command(A, 0x0413, &[low, high, 1]);
    assert_eq!(
        events(&mut pair),
        [(A, ENCRYPTION_CHANGE), (B, ENCRYPTION_CHANGE)]
    );
    pair.command(A, 0x1408, &[low, high]);
    assert_eq!(pair.events(A, 0x0e), [[1, 0x08, 0x14, 0, low, high, 16]]);
    assert_eq!(pair.air.next_deadline(), None);
}

/// Check that a refusal at each step ends pairing at those who were asked, with the reason at the one that began.
#[rstest]
#[case::not_confirmed(0x042d, &[], 0x05)]
#[case::no_capability(0x0434, &[0x18], 0x18)]
fn simple_pairing_refused_ends(#[case] opcode: u16, #[case] rest: &[u8], #[case] why: u8) {
    let mut pair = if opcode == 0x042d {
        confirming().0
    } else {
        let (mut pair, _) = authenticating(true);
        about(&mut pair, A, 0x040c, &[]);
        about(&mut pair, A, 0x042b, &NO_INPUT_NO_OUTPUT);
        pair.sent();
        pair
    };
    about(&mut pair, B, opcode, rest);
    let sent = pair.sent();
    let ends: Vec<_> = sent[1..].iter().map(|(id, p)| (*id, p[1], p[3])).collect();
    let expected = [
        (A, PAIRING_COMPLETE, why),
        (B, PAIRING_COMPLETE, why),
        (A, AUTHENTICATION_COMPLETE, why),
    ];
    assert_eq!(ends, expected);
    pair.command(A, 0x0413, &[1, 0, 1]);
    assert_eq!(pair.events(A, 0x0f), [[0x06, 1, 0x13, 0x04]]);
}

/// Check that stored keys authenticate if they are the same, and that the failure says what is wrong if not.
#[rstest]
#[case::same(Some(KEY), 0x00)]
#[case::other(Some([8; 16]), 0x05)]
#[case::missing(None, 0x06)]
fn stored_keys_authenticate(#[case] of_b: Option<[u8; 16]>, #[case] status: u8) {
    let (mut pair, _) = authenticating(true);
    about(&mut pair, A, 0x040b, &KEY);
    assert_eq!(events(&mut pair), [(B, KEY_REQUEST)]);
    match of_b {
        Some(key) => about(&mut pair, B, 0x040b, &key),
        None => about(&mut pair, B, 0x040c, &[]),
    }
    assert_eq!(pair.events(A, AUTHENTICATION_COMPLETE)[0][0], status);
}

/// Check that without Simple Pairing a PIN that both hosts give pairs, whatever follows its end, and another does not.
#[rstest]
#[case::same([1, 2, 3, 4, 0xee], &[KEY_NOTIFICATION, KEY_NOTIFICATION, AUTHENTICATION_COMPLETE])]
#[case::other([1, 2, 3, 5, 0], &[AUTHENTICATION_COMPLETE])]
fn pin_pairs_if_it_is_the_same(#[case] of_b: [u8; 5], #[case] expected: &[u8]) {
    let (mut pair, _) = authenticating(false);
    about(&mut pair, A, 0x040c, &[]);
    assert_eq!(events(&mut pair), [(A, PIN_REQUEST)]);
    let pin = |octets: [u8; 5]| [&[4][..], &octets, &[0; 11]].concat();
    about(&mut pair, A, 0x040d, &pin([1, 2, 3, 4, 0]));
    assert_eq!(events(&mut pair), [(B, PIN_REQUEST)]);
    about(&mut pair, B, 0x040d, &pin(of_b));
    let codes: Vec<_> = events(&mut pair).iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, expected);
}

/// Check that an answer that nobody gives ends the authentication, and one that nobody asked for is refused.
#[test]
fn unanswered_authentication_times_out() {
    let (mut pair, _) = authenticating(true);
    pair.wait(Duration::from_secs(30));
    assert_eq!(pair.events(A, AUTHENTICATION_COMPLETE), [[0x22, 1, 0]]);
    about(&mut pair, A, 0x040c, &[]);
    assert_eq!(pair.events(A, 0x0e)[0][3], 0x0c);
}

/// An LE link whose central has asked for encryption with [`KEY`].
fn le_encrypting() -> (Pair, ConnHandle, ConnHandle) {
    let mut pair = Pair::new(|_| {});
    for id in [A, B] {
        pair.command(id, 0x2001, &[0xff; 8]);
    }
    pair.command(B, 0x200a, &[1]);
    let timing = [24, 0, 40, 0, 0, 0, 42, 0, 0, 0, 0, 0];
    let head = [0x60, 0, 0x60, 0, 0, 0];
    let create = [&head[..], &addr(2).to_wire(), &[0], &timing].concat();
    pair.command(A, 0x200d, &create);
    pair.sent();
    let (at_a, at_b) = pair.handles();
    start_le(&mut pair, at_a);
    let [low, high] = at_b.get().to_le_bytes();
    let asked = [&[0x05, low, high][..], &[1; 8], &[2; 2]].concat();
    assert_eq!(pair.events(B, 0x3e), [asked]);
    (pair, at_a, at_b)
}

fn start_le(pair: &mut Pair, at_a: ConnHandle) {
    let start = [&at_a.get().to_le_bytes()[..], &[1; 8], &[2; 2], &KEY].concat();
    pair.command(A, 0x2019, &start);
}

/// Check that the same key encrypts, and that encrypting again refreshes.
#[test]
fn le_same_key_encrypts_both() {
    let (mut pair, at_a, at_b) = le_encrypting();
    let reply = [&at_b.get().to_le_bytes()[..], &KEY].concat();
    pair.command(B, 0x201a, &reply);
    assert_eq!(
        events(&mut pair),
        [(A, ENCRYPTION_CHANGE), (B, ENCRYPTION_CHANGE)]
    );
    start_le(&mut pair, at_a);
    pair.sent();
    pair.command(B, 0x201a, &reply);
    assert_eq!(events(&mut pair), [(A, KEY_REFRESH), (B, KEY_REFRESH)]);
}

/// Check that another key ends the link at both ends.
#[test]
fn le_other_key_ends_the_link() {
    let (mut pair, _, at_b) = le_encrypting();
    pair.command(
        B,
        0x201a,
        &[&at_b.get().to_le_bytes()[..], &[9; 16]].concat(),
    );
    let sent = pair.sent();
    let ends: Vec<_> = sent[1..].iter().map(|(id, p)| (*id, p[1], p[6])).collect();
    assert_eq!(ends, [(A, 0x05, 0x3d), (B, 0x05, 0x3d)]);
}

/// Check that a peripheral without a key leaves the link as it is.
#[test]
fn le_missing_key_fails_at_the_central() {
    let (mut pair, at_a, at_b) = le_encrypting();
    pair.command(B, 0x201b, &at_b.get().to_le_bytes());
    let [low, high] = at_a.get().to_le_bytes();
    assert_eq!(pair.events(A, ENCRYPTION_CHANGE), [[0x06, low, high, 0]]);
}
