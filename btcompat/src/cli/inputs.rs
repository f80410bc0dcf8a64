//! Kernels and objects, by what the user calls them.

use super::args::Inputs;
use super::live;
use anyhow::{Context as _, Result, bail};
use btcompat::object::Object;
use btcompat::surface::{KernelFiles, Surface, Wanted, read_snapshot};
use btcompat::verdict::Host;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
    if name == "host" {
        return live::kernel(inputs);
    }
    let surface = offline(name, inputs).with_context(|| format!("failed to read kernel {name}"))?;
    Ok(Kernel {
        label: label(name, &surface),
        surface,
        host: None,
    })
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
    if first.ends_with(".deb") {
        return packages(name, inputs);
    }
    let path = Path::new(name);
    if path.is_dir() {
        return directory(path, inputs);
    }
    if path.is_file() {
        return file(path, inputs);
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
    let files = KernelFiles {
        image: path.to_owned(),
        ..KernelFiles::default()
    };
    Ok(files.surface(&wanted(inputs))?)
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

/// Reads one object; its name is the file's without `.bpf.o`.
pub(crate) fn object(path: &Path) -> Result<(String, Object)> {
    let data = std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    let object =
        Object::parse(&data).with_context(|| format!("{} cannot be judged", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_end_matches(".o").trim_end_matches(".bpf");
    Ok((name.to_owned(), object))
}

/// Reads the given objects, or this project's probes.
pub(crate) fn objects(paths: &[PathBuf]) -> Result<Vec<(String, Object)>> {
    let paths = if paths.is_empty() {
        vec![probes_dir().context(
            "no probes found: set BT_PROBES to the directory of the .bpf.o files, or use --object",
        )?]
    } else {
        paths.to_vec()
    };
    let mut objects = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut files: Vec<PathBuf> = std::fs::read_dir(&path)
                .with_context(|| format!("failed to list {}", path.display()))?
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.to_string_lossy().ends_with(".bpf.o"))
                .collect();
            files.sort();
            for file in files {
                objects.push(object(&file)?);
            }
        } else {
            objects.push(object(&path)?);
        }
    }
    if objects.is_empty() {
        bail!("no object given");
    }
    Ok(objects)
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
