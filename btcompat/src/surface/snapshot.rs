//! A kernel's surface in one small file, for bug reports and for speed.
//!
//! Layout: the line `btcompat-surface 2`, then one zstd stream: a JSON header
//! of one line that names the parts and their lengths, then the parts. Version 1
//! had no parts `columns` (BTF in another order); it is still read.

use super::columns;
use super::{Arch, Flags, Kconfig, Module, ModuleBtf, Surface, Symbol, SymbolTable};
use crate::btf::Btf;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::sync::Arc;

const MAGIC: &[u8] = b"btcompat-surface 2\n";
const MAGIC_BEFORE: &[u8] = b"btcompat-surface 1\n";
/// Most bytes that a snapshot unpacks to.
const MAX_BYTES: u64 = 256 << 20;

/// Why a snapshot could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Not a snapshot, or one of another version.
    #[error("not a surface snapshot of version 1 or 2")]
    Magic,
    /// The stream is damaged or too large.
    #[error("damaged snapshot")]
    Stream(#[source] std::io::Error),
    /// The header is not what it should be.
    #[error("malformed snapshot header")]
    Header(#[source] serde_json::Error),
    /// A part is shorter than the header says, or malformed.
    #[error("part {part} of the snapshot is damaged")]
    Part {
        /// Which one.
        part: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    release: String,
    banner: String,
    arch: Arch,
    ftrace_known: bool,
    blacklist_known: bool,
    loaded: Option<Vec<String>>,
    builtin: BTreeSet<String>,
    module_names: BTreeSet<String>,
    modules: Vec<ModuleHeader>,
    warnings: Vec<String>,
    /// Name and length of each part, in order.
    parts: Vec<(String, usize)>,
}

#[derive(Serialize, Deserialize)]
struct ModuleHeader {
    name: String,
    depends: Vec<String>,
    tracepoints: BTreeSet<String>,
    ftrace_known: bool,
    category: Option<String>,
    /// Why its types are not usable.
    broken: Option<String>,
}

/// Writes a snapshot. `level` is zstd's, 1 to 22.
///
/// # Errors
/// When compression fails.
pub fn write_snapshot(surface: &Surface, level: i32) -> Result<Vec<u8>, SnapshotError> {
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, data: Vec<u8>| parts.push((name.to_owned(), data));
    let types = |btf: &Btf| match columns::encode(btf.bytes()) {
        Some(columns) => ("columns", columns),
        None => ("btf", btf.bytes().to_vec()),
    };
    if let Some(btf) = &surface.btf {
        let (name, data) = types(btf);
        add(name, data);
    }
    if let Some(symbols) = &surface.symbols {
        add("symbols", encode_symbols(symbols));
    }
    if let Some(events) = &surface.trace_events {
        let list: Vec<&str> = events.iter().map(String::as_str).collect();
        add("events", list.join("\n").into_bytes());
    }
    if let Some(kconfig) = &surface.kconfig {
        add("kconfig", kconfig.to_text().into_bytes());
    }
    let mut modules = Vec::new();
    for module in surface.modules.values() {
        if let Some(btf) = module.btf.get() {
            let (name, data) = types(btf);
            add(&format!("{name}:{}", module.name), data);
        }
        let symbols = encode_symbols(&module.symbols);
        add(&format!("symbols:{}", module.name), symbols);
        modules.push(ModuleHeader {
            name: module.name.clone(),
            depends: module.depends.clone(),
            tracepoints: module.tracepoints.clone(),
            ftrace_known: module.ftrace_known,
            category: module.category.clone(),
            broken: match &module.btf {
                ModuleBtf::Broken(why) => Some(why.clone()),
                _ => None,
            },
        });
    }
    let header = Header {
        release: surface.release.clone(),
        banner: surface.banner.clone(),
        arch: surface.arch,
        ftrace_known: surface.ftrace_known,
        blacklist_known: surface.blacklist_known,
        loaded: surface.loaded.clone(),
        builtin: surface.builtin.clone(),
        module_names: surface.module_names.clone(),
        modules,
        warnings: surface.warnings.clone(),
        parts: parts.iter().map(|(n, d)| (n.clone(), d.len())).collect(),
    };
    compress(&header, &parts, level)
}

fn compress(
    header: &Header,
    parts: &[(String, Vec<u8>)],
    level: i32,
) -> Result<Vec<u8>, SnapshotError> {
    let mut encoder =
        zstd::stream::write::Encoder::new(MAGIC.to_vec(), level).map_err(SnapshotError::Stream)?;
    // The kernel's types and a module's have much in common, megabytes apart.
    encoder
        .window_log(24)
        .and_then(|()| encoder.long_distance_matching(true))
        .map_err(SnapshotError::Stream)?;
    let mut line = serde_json::to_vec(header).map_err(SnapshotError::Header)?;
    line.push(b'\n');
    let chunks = std::iter::once(&line).chain(parts.iter().map(|(_, d)| d));
    for chunk in chunks {
        encoder.write_all(chunk).map_err(SnapshotError::Stream)?;
    }
    encoder.finish().map_err(SnapshotError::Stream)
}

/// Reads a snapshot.
///
/// # Errors
/// When it is not one, or is damaged.
pub fn read_snapshot(data: &[u8]) -> Result<Surface, SnapshotError> {
    let stream = data.strip_prefix(MAGIC);
    let stream = stream.or_else(|| data.strip_prefix(MAGIC_BEFORE));
    let stream = stream.ok_or(SnapshotError::Magic)?;
    let decoder =
        zstd::stream::read::Decoder::with_buffer(stream).map_err(SnapshotError::Stream)?;
    let mut plain = Vec::new();
    decoder
        .take(MAX_BYTES)
        .read_to_end(&mut plain)
        .map_err(SnapshotError::Stream)?;
    let end = plain.iter().position(|&b| b == b'\n');
    let end = end.ok_or(SnapshotError::Magic)?;
    let header: Header = serde_json::from_slice(&plain[..end]).map_err(SnapshotError::Header)?;
    let mut parts: BTreeMap<&str, &[u8]> = BTreeMap::new();
    let mut at = end + 1;
    for (name, len) in &header.parts {
        let part = at.checked_add(*len).and_then(|end| plain.get(at..end));
        let part = part.ok_or_else(|| damaged(name))?;
        parts.insert(name, part);
        at += len;
    }
    build(&header, &parts)
}

fn damaged(part: &str) -> SnapshotError {
    SnapshotError::Part {
        part: part.to_owned(),
    }
}

fn build(header: &Header, parts: &BTreeMap<&str, &[u8]>) -> Result<Surface, SnapshotError> {
    let text = |name: &str| {
        let data = parts.get(name)?;
        Some(std::str::from_utf8(data).map_err(|_e| damaged(name)))
    };
    let types = |suffix: &str| types(parts, suffix);
    let btf = match types("")? {
        Some(data) => Some(Arc::new(Btf::parse(data).map_err(|_e| damaged("btf"))?)),
        None => None,
    };
    let symbols = |name: &str| {
        parts
            .get(name)
            .map(|data| decode_symbols(data).ok_or_else(|| damaged(name)))
            .transpose()
    };
    let mut modules = BTreeMap::new();
    for module in &header.modules {
        let name = &module.name;
        let types = match (&module.broken, types(&format!(":{name}"))?) {
            (Some(why), _) => ModuleBtf::Broken(why.clone()),
            (None, Some(data)) => ModuleBtf::parse(&data, btf.as_ref()),
            (None, None) => ModuleBtf::Absent,
        };
        let entry = Module {
            name: name.clone(),
            depends: module.depends.clone(),
            btf: types,
            symbols: symbols(&format!("symbols:{name}"))?.unwrap_or_default(),
            tracepoints: module.tracepoints.clone(),
            ftrace_known: module.ftrace_known,
            category: module.category.clone(),
        };
        modules.insert(name.clone(), entry);
    }
    let events = text("events").transpose()?;
    Ok(Surface {
        release: header.release.clone(),
        banner: header.banner.clone(),
        arch: header.arch,
        symbols: symbols("symbols")?,
        ftrace_known: header.ftrace_known,
        blacklist_known: header.blacklist_known,
        trace_events: events.map(|t| t.lines().map(str::to_owned).collect()),
        kconfig: text("kconfig").transpose()?.map(Kconfig::parse),
        modules,
        module_names: header.module_names.clone(),
        builtin: header.builtin.clone(),
        loaded: header.loaded.clone(),
        inlining: None,
        warnings: header.warnings.clone(),
        btf,
    })
}

/// The bytes of a BTF, however they are stored; `None` if there are none.
fn types(parts: &BTreeMap<&str, &[u8]>, suffix: &str) -> Result<Option<Vec<u8>>, SnapshotError> {
    let columns = format!("columns{suffix}");
    if let Some(data) = parts.get(columns.as_str()) {
        let btf = columns::decode(data).ok_or_else(|| damaged(&columns))?;
        return Ok(Some(btf));
    }
    let plain = parts.get(format!("btf{suffix}").as_str());
    Ok(plain.map(|data| data.to_vec()))
}

/// Per symbol: flags, length of the beginning shared with the one before, rest, NUL.
fn encode_symbols(table: &SymbolTable) -> Vec<u8> {
    let mut out = Vec::with_capacity(table.len() * 16);
    let mut previous: &[u8] = b"";
    for symbol in table.iter() {
        let name = symbol.name.as_bytes();
        let shared = name
            .iter()
            .zip(previous)
            .take(255)
            .take_while(|(a, b)| a == b)
            .count();
        out.push(symbol.flags.bits());
        out.push(u8::try_from(shared).unwrap_or(u8::MAX));
        out.extend_from_slice(&name[shared..]);
        out.push(0);
        previous = name;
    }
    out
}

fn decode_symbols(mut data: &[u8]) -> Option<SymbolTable> {
    let mut table = SymbolTable::default();
    let mut name: Vec<u8> = Vec::new();
    while let [flags, shared, rest @ ..] = data {
        let end = rest.iter().position(|&b| b == 0)?;
        if usize::from(*shared) > name.len() || end > 512 {
            return None;
        }
        name.truncate((*shared).into());
        name.extend_from_slice(&rest[..end]);
        let in_order = table.push(Symbol {
            name: std::str::from_utf8(&name).ok()?,
            address: 0,
            flags: Flags::from_bits(*flags),
        });
        if !in_order {
            return None;
        }
        data = &rest[end + 1..];
    }
    data.is_empty().then_some(table)
}
