//! A module, compressed or not, is read or refused.
#![no_main]

use btcompat::surface::{Module, decompress};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(plain) = decompress(data.to_vec()) {
        let _ = Module::read("m", &plain, None);
    }
});
