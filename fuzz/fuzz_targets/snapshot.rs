//! A snapshot is read or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = btcompat::surface::read_snapshot(data);
});
