//! Controllers as USB dongles: packets go through the kernel's own drivers for host controller and dongle.

use super::build::{connected, l2cap, on_usb, scenario, transfer};
use evidence::{L2capMode, Scenario};

/// Traffic both ways over bulk endpoints.
pub(super) fn l2cap_over_bulk() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 59, 127));
    steps.push(transfer("server", "client", 61, 331));
    on_usb(scenario(
        "usb-l2cap",
        "messages both ways over L2CAP between two USB dongles",
        steps,
    ))
}
