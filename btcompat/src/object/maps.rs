//! Maps that an object declares.

use crate::btf::{Btf, Kind, Type};
use serde::{Deserialize, Serialize};

/// A map as declared; 0 where the loading program has to fill in a size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapDef {
    /// Name.
    pub name: String,
    /// Number in `enum bpf_map_type`.
    pub map_type: u32,
    /// Name of the type without `BPF_MAP_TYPE_`.
    pub type_name: String,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// `BPF_F_*` creation flags.
    pub flags: u32,
    /// Whether the map holds global variables.
    pub global_data: bool,
}

impl MapDef {
    /// Whether the map cannot be created before user space has set its size.
    #[must_use]
    pub fn is_unsized(&self) -> bool {
        // A perf event array gets one entry per CPU from libbpf; storages have none.
        const SELF_SIZED: [&str; 8] = [
            "PERF_EVENT_ARRAY",
            "SK_STORAGE",
            "INODE_STORAGE",
            "TASK_STORAGE",
            "CGRP_STORAGE",
            "CGROUP_STORAGE",
            "PERCPU_CGROUP_STORAGE",
            "STRUCT_OPS",
        ];
        !self.global_data && self.max_entries == 0 && !SELF_SIZED.contains(&self.type_name.as_str())
    }
}

/// Name of a map type without `BPF_MAP_TYPE_`. Source: `enum bpf_map_type`.
#[must_use]
pub fn map_type_name(number: u32) -> Option<&'static str> {
    const NAMES: &[&str] = &[
        "UNSPEC",
        "HASH",
        "ARRAY",
        "PROG_ARRAY",
        "PERF_EVENT_ARRAY",
        "PERCPU_HASH",
        "PERCPU_ARRAY",
        "STACK_TRACE",
        "CGROUP_ARRAY",
        "LRU_HASH",
        "LRU_PERCPU_HASH",
        "LPM_TRIE",
        "ARRAY_OF_MAPS",
        "HASH_OF_MAPS",
        "DEVMAP",
        "SOCKMAP",
        "CPUMAP",
        "XSKMAP",
        "SOCKHASH",
        "CGROUP_STORAGE",
        "REUSEPORT_SOCKARRAY",
        "PERCPU_CGROUP_STORAGE",
        "QUEUE",
        "STACK",
        "SK_STORAGE",
        "DEVMAP_HASH",
        "STRUCT_OPS",
        "RINGBUF",
        "INODE_STORAGE",
        "TASK_STORAGE",
        "BLOOM_FILTER",
        "USER_RINGBUF",
        "CGRP_STORAGE",
        "ARENA",
        "INSN_ARRAY",
    ];
    NAMES.get(usize::try_from(number).ok()?).copied()
}

/// Maps declared in `.maps`. Source: libbpf `parse_btf_map_def()`.
pub(super) fn declared_maps(btf: &Btf) -> Vec<MapDef> {
    let Some(section) = btf.find(".maps", Kind::Datasec) else {
        return Vec::new();
    };
    section
        .variables()
        .filter_map(|(id, _, _)| {
            let var = btf.ty(id).filter(|t| t.kind() == Kind::Var)?;
            Some(declared_map(btf, var.name(), btf.strip(var.target())?))
        })
        .collect()
}

fn declared_map(btf: &Btf, name: &str, definition: Type) -> MapDef {
    let mut map = MapDef {
        name: name.to_owned(),
        ..MapDef::default()
    };
    for member in definition.members() {
        // A number is written as a pointer to an array of that length.
        let number = || {
            let ptr = btf.strip(member.type_id)?;
            let array = btf
                .strip(ptr.target())
                .filter(|t| t.kind() == Kind::Array)?;
            Some(array.array().1)
        };
        let size = || {
            let ptr = btf
                .strip(member.type_id)
                .filter(|t| t.kind() == Kind::Ptr)?;
            btf.size_of(ptr.target()).ok()
        };
        match member.name {
            "type" => map.map_type = number().unwrap_or(0),
            "max_entries" => map.max_entries = number().unwrap_or(0),
            "map_flags" => map.flags = number().unwrap_or(0),
            "key_size" => map.key_size = number().unwrap_or(0),
            "value_size" => map.value_size = number().unwrap_or(0),
            "key" => map.key_size = size().unwrap_or(0),
            "value" => map.value_size = size().unwrap_or(0),
            _ => {}
        }
    }
    map.type_name =
        map_type_name(map.map_type).map_or_else(|| map.map_type.to_string(), str::to_owned);
    map
}
