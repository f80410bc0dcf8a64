//! A BTF that can be read can be searched, sized and spelled.
#![no_main]

use btcompat::btf::{Btf, BtfExt};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = BtfExt::parse(data);
    if let Ok(btf) = Btf::parse(data) {
        for ty in btf.own_types().take(10_000) {
            let _ = btf.size_of(ty.id);
            let _ = btf.spelling(ty.id);
            let _ = btf.own_by_essential_name(ty.name()).count();
        }
    }
});
