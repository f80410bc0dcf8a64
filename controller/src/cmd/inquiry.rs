//! Inquiry: section 7.1.

use std::time::Duration;

use super::{Cx, commands};
use crate::hci::wire::wire_struct;
use crate::types::Status;

commands! {
    0x0401 "Inquiry" (0, 0) Bredr begin(inquire);
    0x0402 "Inquiry Cancel" (0, 1) Bredr complete(cancel);
}

wire_struct! {
    struct Inquire { code: [u8; 3], length: u8, responses: u8 }
}

/// The unit of an inquiry's length.
const LENGTH_UNIT: Duration = Duration::from_millis(1280);
const MAX_LENGTH: u8 = 0x30;

/// 7.1.1: no number of responses is as many as there are.
fn inquire(cx: &mut Cx<'_>, wanted: Inquire) -> Result<(), Status> {
    let Inquire {
        code,
        length,
        responses,
    } = wanted;
    if !(1..=MAX_LENGTH).contains(&length) {
        return Err(Status::INVALID_PARAMETERS);
    }
    if cx.me().inquiry.is_some() {
        return Err(Status::COMMAND_DISALLOWED);
    }
    let left = (responses > 0).then_some(responses);
    let time = LENGTH_UNIT * u32::from(length);
    cx.air.inquire(cx.id, code, time, left);
    Ok(())
}

/// 7.1.2
fn cancel(cx: &mut Cx<'_>, (): ()) -> Result<(), Status> {
    let there = cx.air.end_inquiry(cx.id);
    there.then_some(()).ok_or(Status::COMMAND_DISALLOWED)
}
