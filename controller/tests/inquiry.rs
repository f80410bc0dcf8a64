//! Inquiries, as both hosts see them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Pair, addr};
use controller::ControllerId;
use rstest::rstest;

const A: ControllerId = ControllerId::from_index(0);
const B: ControllerId = ControllerId::from_index(1);

const INQUIRY_COMPLETE: u8 = 0x01;
const GENERAL: [u8; 3] = [0x33, 0x8b, 0x9e];
const LIMITED: [u8; 3] = [0x00, 0x8b, 0x9e];

/// Two hosts; B can be discovered, and A hears results in this mode.
fn pair(mode: u8) -> Pair {
    let mut pair = Pair::new(|_| {});
    pair.command(A, 0x0c45, &[mode]);
    pair.command(B, 0x0c24, &[4, 4, 0x24]);
    pair.command(B, 0x0c1a, &[3]);
    pair.sent();
    pair
}

fn inquire(pair: &mut Pair, code: [u8; 3], length: u8, responses: u8) {
    pair.command(A, 0x0401, &[&code[..], &[length, responses]].concat());
}

/// Check that a device answers once, in the form that the inquirer's host has set, and that the inquiry ends at its time.
#[rstest]
#[case::standard(0, 0x02, &[1, 0, 0, 4, 4, 0x24, 0, 0])]
#[case::with_rssi(1, 0x22, &[1, 0, 4, 4, 0x24, 0, 0, 0xd6])]
#[case::extended_without_response(2, 0x22, &[1, 0, 4, 4, 0x24, 0, 0, 0xd6])]
fn inquiry_reports_a_listening_device(#[case] mode: u8, #[case] code: u8, #[case] rest: &[u8]) {
    let mut pair = pair(mode);
    inquire(&mut pair, GENERAL, 4, 0);
    let result = [&[1][..], &addr(2).to_wire(), rest].concat();
    assert_eq!(pair.events(A, code), [result]);
    pair.command(B, 0x0c1a, &[3]);
    pair.wait(Duration::from_millis(4 * 1280 - 1));
    assert_eq!(pair.events(A, INQUIRY_COMPLETE).len(), 0);
    pair.wait(Duration::from_millis(1));
    assert_eq!(pair.events(A, INQUIRY_COMPLETE), [[0]]);
}

/// Check that an extended response comes whole.
#[test]
fn inquiry_reports_extended_response() {
    let mut pair = pair(2);
    let mut response = vec![0, 5, 9, b'p', b'e', b'e', b'r'];
    response.resize(241, 0);
    pair.command(B, 0x0c52, &response);
    inquire(&mut pair, GENERAL, 4, 0);
    let results = pair.events(A, 0x2f);
    assert_eq!((results.len(), &results[0][15..]), (1, &response[1..]));
}

/// Check that nobody answers who does not listen, or not to this code; and that beginning to listen is enough.
#[test]
fn inquiry_hears_only_listeners() {
    let mut pair = pair(0);
    inquire(&mut pair, LIMITED, 4, 0);
    assert_eq!(pair.events(A, 0x02).len(), 0);
    pair.command(A, 0x0402, &[]);
    pair.command(B, 0x0c1a, &[2]);
    inquire(&mut pair, GENERAL, 4, 0);
    assert_eq!(pair.events(A, 0x02).len(), 0);
    pair.command(B, 0x0c1a, &[3]);
    assert_eq!(pair.events(A, 0x02).len(), 1);
}

/// Check that an inquiry ends with the last response that the host wants, and that a cancelled one ends without a word.
#[test]
fn inquiry_ends_early_if_wanted() {
    let mut pair = pair(0);
    inquire(&mut pair, GENERAL, 4, 1);
    let codes: Vec<_> = pair.sent().iter().map(|(_, packet)| packet[1]).collect();
    assert_eq!(codes, [0x0f, 0x02, INQUIRY_COMPLETE]);
    inquire(&mut pair, LIMITED, 4, 0);
    pair.command(A, 0x0402, &[]);
    pair.command(A, 0x0402, &[]);
    let statuses: Vec<_> = pair.events(A, 0x0e).iter().map(|event| event[3]).collect();
    assert_eq!(statuses, [0, 0x0c]);
    assert_eq!(pair.air.next_deadline(), None);
}
