//! Kernels made for a test, and objects compiled for it.

use super::btf_writer::{Body, BtfWriter};
use btcompat::btf::Btf;
use btcompat::object::Object;
use btcompat::surface::{Arch, Flags, Kconfig, Module, ModuleBtf, Surface, Symbol, SymbolTable};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Compiles `tests/objects/<name>.bpf.c` into `dir`.
pub(crate) fn compile(name: &str, dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/objects")
        .join(format!("{name}.bpf.c"));
    let object = dir.join(format!("{name}.bpf.o"));
    let status = Command::new("clang")
        .args(["-target", "bpf", "-O2", "-g", "-mcpu=v3", "-c"])
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .status()
        .expect("clang can be run");
    assert!(status.success());
    object
}

/// The sample object, parsed.
pub(crate) fn sample() -> Object {
    let dir = tempfile::tempdir().unwrap();
    let path = compile("sample", dir.path());
    Object::parse(&std::fs::read(path).unwrap()).unwrap()
}

/// What a made kernel has.
pub(crate) struct Recipe {
    /// Bytes of `dev.count`.
    pub(crate) count_bytes: u32,
    /// `dev.added` exists.
    pub(crate) added: bool,
    /// Names that stand for `dev_send` in the symbol table, with their flags.
    pub(crate) symbols: Vec<(&'static str, Flags)>,
    /// What `dev_send` is called in the types.
    pub(crate) function: &'static str,
    /// Parameters of `dev_send` after the first.
    pub(crate) more_params: usize,
    /// An enum of 64 bits is among the types.
    pub(crate) wide_enum: bool,
    /// The first parameter is a device.
    pub(crate) takes_device: bool,
    /// The device lives in a module of this name.
    pub(crate) module: Option<&'static str>,
}

pub(crate) const TRACEABLE: [Flags; 2] = [Flags::TEXT, Flags::FTRACE];

impl Default for Recipe {
    fn default() -> Self {
        Self {
            count_bytes: 4,
            added: true,
            symbols: vec![("dev_send", TRACEABLE[0].with(TRACEABLE[1]))],
            function: "dev_send",
            wide_enum: false,
            more_params: 2,
            takes_device: true,
            module: None,
        }
    }
}

impl Recipe {
    fn types(&self, w: &mut BtfWriter) {
        let uint = w.int("unsigned int", 4, false);
        let ulong = w.int("long unsigned int", 8, false);
        let int = w.int("int", 4, true);
        let count = if self.count_bytes == 8 { ulong } else { uint };
        let first = w.first_id + u32::try_from(w.types.len()).unwrap();
        // The pointer comes first and refers forward to the structure.
        let ptr = w.ptr(first + 1);
        let mut members = vec![
            ("parent", ptr, 0),
            ("count", count, 64),
            ("level", int, 128),
        ];
        if self.added {
            members.push(("added", uint, 160));
        }
        w.structure("dev", 24, &members);
        let other = w.structure("other", 8, &[("x", ulong, 0)]);
        let other = w.ptr(other);
        let mut params = vec![("dev", if self.takes_device { ptr } else { other })];
        params.extend(vec![("n", ulong); self.more_params]);
        w.func(self.function, int, &params);
    }

    fn table(&self) -> SymbolTable {
        SymbolTable::new(
            self.symbols
                .iter()
                .enumerate()
                .map(|(i, &(name, flags))| Symbol {
                    name,
                    address: 0x1000 * (i as u64 + 1),
                    flags,
                }),
        )
    }

    /// The kernel.
    pub(crate) fn surface(&self) -> Surface {
        let mut w = BtfWriter::new();
        w.enumeration(
            "bpf_func_id",
            &[("BPF_FUNC_unspec", 0), ("__BPF_FUNC_MAX_ID", 211)],
        );
        w.enumeration(
            "bpf_prog_type",
            &[("BPF_PROG_TYPE_KPROBE", 2), ("BPF_PROG_TYPE_TRACING", 26)],
        );
        w.enumeration(
            "bpf_attach_type",
            &[("BPF_TRACE_FENTRY", 24), ("BPF_TRACE_FEXIT", 25)],
        );
        w.enumeration("bpf_map_type", &[("BPF_MAP_TYPE_HASH", 1)]);
        if self.wide_enum {
            w.add("wide", 19, 8, Body::Enum64(vec![("W".to_owned(), 1, 0)]));
        }
        if self.module.is_none() {
            self.types(&mut w);
        }
        let blob = w.encode();
        let btf = Arc::new(Btf::parse(blob).unwrap());
        let mut modules = BTreeMap::new();
        if let Some(name) = self.module {
            modules.insert(name.to_owned(), self.module(name, &btf));
        }
        Surface {
            release: "6.12.0-test".to_owned(),
            banner: "Linux version 6.12.0-test".to_owned(),
            arch: Arch::X86_64,
            symbols: Some(if self.module.is_none() {
                self.table()
            } else {
                SymbolTable::default()
            }),
            ftrace_known: true,
            blacklist_known: true,
            trace_events: Some(BTreeSet::new()),
            kconfig: Some(Kconfig::parse(
                "CONFIG_KPROBE_EVENTS=y\nCONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y\nCONFIG_MODULES=y\n",
            )),
            module_names: modules.keys().cloned().chain(["x".to_owned()]).collect(),
            builtin: BTreeSet::from(["x".to_owned()]),
            modules,
            loaded: None,
        inlining: None,
            warnings: Vec::new(),
            btf: Some(btf),
        }
        .with_all_read()
    }

    fn module(&self, name: &str, base: &Arc<Btf>) -> Module {
        let mut w = BtfWriter::new();
        w.first_id = base.type_count();
        w.string_base = base.endian().u32(base.bytes(), 20).unwrap();
        self.types(&mut w);
        Module {
            name: name.to_owned(),
            depends: Vec::new(),
            btf: ModuleBtf::parse(&w.encode(), Some(base)),
            symbols: self.table(),
            tracepoints: BTreeSet::new(),
            ftrace_known: true,
            category: None,
        }
    }
}

trait AllRead {
    fn with_all_read(self) -> Self;
}

impl AllRead for Surface {
    /// Drops names of modules that were not read, so that nothing is left open.
    fn with_all_read(mut self) -> Self {
        let read: BTreeSet<String> = self.modules.keys().cloned().collect();
        if !read.is_empty() {
            self.module_names = read;
            return self;
        }
        let empty = Module {
            name: "x".to_owned(),
            depends: Vec::new(),
            btf: ModuleBtf::Absent,
            symbols: SymbolTable::default(),
            tracepoints: BTreeSet::new(),
            ftrace_known: true,
            category: None,
        };
        self.modules.insert("x".to_owned(), empty);
        self
    }
}
