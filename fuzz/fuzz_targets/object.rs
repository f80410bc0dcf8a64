//! An object that can be read has requirements.
#![no_main]

use btcompat::object::{Object, requirements};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(object) = Object::parse(data) {
        let _ = requirements(&object);
    }
});
