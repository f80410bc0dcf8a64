use btcompat::surface::*;
fn main() {
    for path in std::env::args().skip(1) {
        let t = std::time::Instant::now();
        let f = KernelFiles::find(std::path::Path::new(&path), None).unwrap();
        let set: std::collections::BTreeSet<String> = [
            "bluetooth",
            "rfcomm",
            "bnep",
            "hidp",
            "btusb",
            "hci_vhci",
            "hci_uart",
        ]
        .iter()
        .map(|s| s.to_string())
        .collect();
        let s = f.surface(&Wanted::These(set)).unwrap();
        println!("{path} {} {:?}", s.release, t.elapsed());
        let sy = s.symbols.as_ref().unwrap();
        println!(
            "  symbols {} ftrace {} {} blacklist {} {} events {:?} modules {} kconfig {}",
            sy.len(),
            s.ftrace_known,
            sy.iter().filter(|x| x.flags.has(Flags::FTRACE)).count(),
            s.blacklist_known,
            sy.iter().filter(|x| x.flags.has(Flags::BLACKLIST)).count(),
            s.trace_events.as_ref().map(|e| e.len()),
            s.modules.len(),
            s.kconfig.is_some()
        );
        for m in s.modules.values() {
            if ["bluetooth", "btusb"].contains(&&*m.name) {
                println!(
                    "   {} btf {} sym {} ftrace {} deps {:?}",
                    m.name,
                    m.btf.get().map_or(0, |b| b.type_count() - b.first_id()),
                    m.symbols.len(),
                    m.symbols
                        .iter()
                        .filter(|x| x.flags.has(Flags::FTRACE))
                        .count(),
                    m.depends
                );
            }
        }
        let t = std::time::Instant::now();
        let z = write_snapshot(&s, 19).unwrap();
        let tw = t.elapsed();
        let t = std::time::Instant::now();
        let r = read_snapshot(&z).unwrap();
        println!(
            "  snapshot {} bytes in {tw:?}, read {:?} {}",
            z.len(),
            t.elapsed(),
            r.symbols.unwrap().len()
        );
        println!("  {:?}", s.warnings);
    }
}
