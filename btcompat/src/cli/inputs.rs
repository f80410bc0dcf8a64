//! Kernels and objects, by what the user calls them.

use super::args::Inputs;
use super::live;
use anyhow::{Context as _, Result, bail};
use btcompat::btf::Btf;
use btcompat::dwarf::Inlining;
use btcompat::object::{Object, embedded};
use btcompat::surface::{Image, KernelFiles, Surface, Wanted, decompress, read_snapshot};
use btcompat::verdict::Host;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A kernel and, if it is the running one, the state of the host.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) label: String,
    pub(crate) surface: Surface,
    pub(crate) host: Option<(Host, btcompat::verdict::Caps)>,
}

/// The modules that are always read: those that Bluetooth works with.
pub(crate) fn bluetooth_modules() -> BTreeSet<String> {
    const MORE: [&str; 10] = [
        "btusb",
        "btintel",
        "btrtl",
        "btbcm",
        "btmtk",
        "hci_uart",
        "bluetooth_6lowpan",
        "uhid",
        "virtio_bt",
        "usbhid",
    ];
    let roots = kernels::modules::ModuleSet::Usb.names();
    let probed = roots.filter(|n| !n.starts_with("virtio_"));
    probed.chain(MORE).map(str::to_owned).collect()
}

pub(crate) fn wanted(inputs: &Inputs) -> Wanted {
    if inputs.read_modules == "all" {
        return Wanted::All;
    }
    let mut names = bluetooth_modules();
    let more = inputs.read_modules.split(',').filter(|n| !n.is_empty());
    names.extend(more.map(|n| n.replace('-', "_")));
    Wanted::These(names)
}

/// Finds and reads a kernel.
pub(crate) fn kernel(name: &str, inputs: &Inputs) -> Result<Kernel> {
    let mut kernel = if name == "host" {
        live::kernel(inputs)?
    } else {
        let surface =
            offline(name, inputs).with_context(|| format!("failed to read kernel {name}"))?;
        Kernel {
            label: label(name, &surface),
            surface,
            host: None,
        }
    };
    kernel.surface.inlining = inlining(&inputs.debug_info)?;
    Ok(kernel)
}

/// What the given files say about inlined calls.
fn inlining(files: &[PathBuf]) -> Result<Option<Inlining>> {
    let mut all: Option<Inlining> = None;
    for path in files {
        let data =
            std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
        let one = decompress(data).map_err(anyhow::Error::from);
        let one = one.and_then(|data| Ok(Inlining::read(&data)?));
        let one = one.with_context(|| format!("{} tells nothing", path.display()))?;
        all.get_or_insert_default().merge(one);
    }
    Ok(all)
}

fn label(name: &str, surface: &Surface) -> String {
    let is_path = name.contains('/') || Path::new(name).exists();
    if is_path && !surface.release.is_empty() {
        return surface.release.clone();
    }
    name.to_owned()
}

fn offline(name: &str, inputs: &Inputs) -> Result<Surface> {
    let first = name.split(',').next().unwrap_or(name);
    if first.ends_with(".deb") || first.ends_with(".rpm") {
        return packages(name, inputs);
    }
    let path = Path::new(name);
    if path.is_dir() {
        return directory(path, inputs);
    }
    if path.is_file() {
        return file(path, inputs);
    }
    if !name.contains(':') {
        bail!("there is no file of this name; ids of kernels look like debian:6.12");
    }
    directory(&cached_tree(name, inputs)?, inputs)
}

fn directory(path: &Path, inputs: &Inputs) -> Result<Surface> {
    let files = if path.join("tree.toml").is_file() {
        KernelFiles::of_tree(&kernels::KernelTree::open(path)?)
    } else {
        KernelFiles::find(path, None)
            .with_context(|| format!("no kernel below {}", path.display()))?
    };
    Ok(files.surface(&wanted(inputs))?)
}

fn file(path: &Path, inputs: &Inputs) -> Result<Surface> {
    let data = std::fs::read(path)?;
    if data.starts_with(b"btcompat-surface") {
        return Ok(read_snapshot(&data)?);
    }
    drop(data);
    let mut files = KernelFiles {
        image: path.to_owned(),
        ..KernelFiles::default()
    };
    if let Some(dir) = &inputs.module_dir {
        let modules = KernelFiles::modules_below(dir);
        if modules.is_empty() {
            bail!("no modules below {}", dir.display());
        }
        files.modules = modules;
    }
    Ok(files.surface(&wanted(inputs))?)
}

/// Reads types: a file of them alone, or an ELF file that has them.
pub(crate) fn btf(path: &Path) -> Result<Arc<Btf>> {
    let data = std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    let types = if data.starts_with(b"\x7fELF") {
        let image = Image::from_elf(data).context("it is no kernel");
        image.and_then(|image| Ok(image.btf().context("it has no .BTF")?.to_vec()))
    } else {
        Ok(data)
    };
    let parsed = types.and_then(|data| Ok(Btf::parse(data)?));
    let parsed = parsed.with_context(|| format!("{} holds no usable BTF", path.display()))?;
    Ok(Arc::new(parsed))
}

fn packages(names: &str, inputs: &Inputs) -> Result<Surface> {
    let list: Vec<PathBuf> = names.split(',').map(PathBuf::from).collect();
    let scratch = tempfile::Builder::new().prefix("btcompat-").tempdir()?;
    let roots = wanted(inputs);
    let keep: Vec<&str> = match &roots {
        Wanted::These(names) => names.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let keep = match roots {
        Wanted::All => kernels::Keep::All,
        _ => kernels::Keep::Closure(&keep),
    };
    let tree = kernels::unpack(&list, keep, scratch.path())?;
    Ok(KernelFiles::of_tree(&tree).surface(&Wanted::All)?)
}

/// The cached tree of a kernel of the lock file.
fn cached_tree(id: &str, inputs: &Inputs) -> Result<PathBuf> {
    let id: kernels::KernelId = id.parse()?;
    let lock = kernels::Lock::load(&inputs.lock)?;
    let release = lock.get(&id)?.release.clone();
    let trees = cache_root()
        .context("no cache: set BT_CACHE")?
        .join("trees");
    let mut found: Vec<(usize, PathBuf)> = std::fs::read_dir(&trees)
        .with_context(|| format!("failed to list {}", trees.display()))?
        .flatten()
        .filter(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            name.rsplit_once('-').is_some_and(|(r, _)| r == release)
        })
        .map(|e| (module_count(&e.path()), e.path()))
        .collect();
    found.sort();
    match found.pop() {
        Some((_, path)) => Ok(path),
        None => bail!(
            "{id} ({release}) is not in the cache; `cargo xtask test-kernels --kernel {id}` brings it"
        ),
    }
}

fn module_count(tree: &Path) -> usize {
    std::fs::read_dir(tree.join("modules")).map_or(0, Iterator::count)
}

fn cache_root() -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    set("BT_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("bluetooth-metrics")))
        .or_else(|| set("HOME").map(|d| d.join(".cache/bluetooth-metrics")))
}

/// Reads the object of a file.
pub(crate) fn object(path: &Path) -> Result<(String, Object)> {
    let mut found = objects_of(path)?;
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        bail!("{} holds several objects: {names}", path.display());
    }
    found.pop().context("a file without objects is an error")
}

/// Reads the objects of a file: itself, or those that a program carries inside. Names are the
/// file's without `.bpf.o`.
fn objects_of(path: &Path) -> Result<Vec<(String, Object)>> {
    let data = std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    let mut found = embedded(&data);
    if found.is_empty() {
        // What is wrong with it is for the parser to say.
        found.push(&data);
    }
    named(path, found)
        .map(|(name, data)| {
            let object = Object::parse(data);
            let object = object.with_context(|| format!("{} cannot be judged", path.display()));
            Ok((name, object?))
        })
        .collect()
}

/// The objects of a file by their names: the file's, and a number from the second on.
pub(crate) fn named<'a>(
    path: &Path,
    objects: Vec<&'a [u8]>,
) -> impl Iterator<Item = (String, &'a [u8])> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name
        .trim_end_matches(".o")
        .trim_end_matches(".bpf")
        .to_owned();
    objects.into_iter().enumerate().map(move |(i, object)| {
        let name = if i == 0 {
            name.clone()
        } else {
            format!("{name}.{i}")
        };
        (name, object)
    })
}

/// Reads the given objects, or this project's probes.
pub(crate) fn objects(paths: &[PathBuf]) -> Result<Vec<(String, Object)>> {
    let mut objects = Vec::new();
    for file in object_files(paths)? {
        objects.extend(objects_of(&file)?);
    }
    Ok(objects)
}

/// The files of the given objects, or of this project's probes.
pub(crate) fn object_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if paths.is_empty() {
        return probes();
    }
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = compiled(path)?;
            if found.is_empty() {
                bail!("no .bpf.o in {}", path.display());
            }
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// The `.bpf.o` files of a directory, sorted.
fn compiled(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .with_context(|| format!("failed to list {}", dir.display()))?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.to_string_lossy().ends_with(".bpf.o"))
        .collect();
    files.sort();
    Ok(files)
}

/// One object a family. What else is built counts wrong on purpose, for tests.
fn probes() -> Result<Vec<PathBuf>> {
    let dir = probes_dir().context(
        "no probes found: set BT_PROBES to the directory of the .bpf.o files, or use --object",
    )?;
    let mut files = compiled(&dir)?;
    files.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let family = name.trim_end_matches(".bpf.o");
        metrics::Family::ALL.iter().any(|f| f.as_str() == family)
    });
    if files.is_empty() {
        bail!("no probes in {}", dir.display());
    }
    Ok(files)
}

/// Where the probes are: installed, or built by cargo next to this program.
fn probes_dir() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("BT_PROBES") {
        return Some(dir.into());
    }
    let exe = std::env::current_exe().ok()?;
    let bin = exe.parent()?;
    let installed = bin.join("../lib/bluetooth-metrics/probes");
    if installed.is_dir() {
        return Some(installed);
    }
    let mut built: Vec<(std::time::SystemTime, PathBuf)> = std::fs::read_dir(bin.join("build"))
        .ok()?
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("probes-"))
        .map(|e| e.path().join("out"))
        .filter(|out| out.join("socket.bpf.o").is_file())
        .filter_map(|out| Some((out.metadata().ok()?.modified().ok()?, out)))
        .collect();
    built.sort();
    Some(built.pop()?.1)
}
