//! A dongle takes what its host says, or hangs up.
#![no_main]

use controller::transport::usbredir::{Dongle, DongleSettings};
use std::time::Duration;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut dongle = Dongle::new(DongleSettings::default());
    for (number, chunk) in (0..).zip(data.chunks(37)) {
        let now = Duration::from_millis(number);
        if dongle.from_host(chunk, now).is_err() {
            return;
        }
        dongle.advance(now);
        while dongle.to_controller().is_some() {}
        dongle.to_host();
    }
});
