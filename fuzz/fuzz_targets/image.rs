//! A kernel image that can be read has symbols or an error.
#![no_main]

use btcompat::surface::{Image, read_kallsyms};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(image) = Image::unpack(data) {
        let _ = image.banner();
        let _ = read_kallsyms(&image);
    }
});
