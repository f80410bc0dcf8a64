//! A small mirror of Debian's archive in a directory, and a server for it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kernels::{Manifest, Sha256};
use vm_images::{Cache, Context, Mirrors, Quiet};

/// What the kernel of every package looks like: the start of an ELF file, and its release, so that kernels differ.
pub(crate) fn vmlinuz(release: &str) -> Vec<u8> {
    format!("\x7fELF {release}").into_bytes()
}

/// A Debian package with a kernel of `release`.
pub(crate) fn kernel_package(release: &str) -> Vec<u8> {
    deb(&[(&format!("boot/vmlinuz-{release}"), &vmlinuz(release))])
}

/// A Debian package with `files`.
pub(crate) fn deb(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("./{name}"), *bytes)
            .unwrap();
    }
    let tar = xz(&tar.into_inner().unwrap());
    let mut archive = ar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".as_slice()),
        ("data.tar.xz", &tar),
    ] {
        archive
            .append(&ar::Header::new(name.into(), bytes.len() as u64), bytes)
            .unwrap();
    }
    archive.into_inner().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A package on a mirror.
#[derive(Clone)]
pub(crate) struct Published {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) depends: String,
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    /// Whether the index has it.
    pub(crate) listed: bool,
}

/// A directory with a mirror, a cache, a manifest and a lock.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) cache: Cache,
    pub(crate) manifest: Manifest,
}

pub(crate) const SUITE: &str = "sid";

impl Place {
    /// A mirror with nothing on it, and a manifest that wants `debian:6.1` and `debian:6.12`.
    pub(crate) fn new() -> Self {
        Self::with_manifest(
            "[kernels]\n\"debian:6.1\" = { suite = \"sid\" }\n\"debian:6.12\" = { suite = \"sid\" }\n",
        )
    }

    /// A mirror with nothing on it.
    pub(crate) fn with_manifest(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(&dir.path().join("cache"))).unwrap();
        let manifest = Manifest::parse(text, Path::new("kernels.toml")).unwrap();
        Self {
            dir,
            cache,
            manifest,
        }
    }

    /// Puts packages on the mirror, in place of those that were there: `(release, version, bytes)`.
    pub(crate) fn publish(&self, packages: &[(&str, &str, Vec<u8>)]) {
        let package = |(release, version, bytes): &(&str, &str, Vec<u8>)| Published {
            name: format!("linux-image-{release}"),
            version: (*version).to_owned(),
            depends: String::new(),
            path: pool_path(release),
            bytes: bytes.clone(),
            listed: true,
        };
        self.publish_all(&packages.iter().map(package).collect::<Vec<_>>());
    }

    /// Puts packages on the mirror, in place of those that were there.
    pub(crate) fn publish_all(&self, packages: &[Published]) {
        let mut stanzas = String::new();
        let root = self.mirror_root();
        let _ = std::fs::remove_dir_all(&root);
        for package in packages {
            let Published {
                name,
                version,
                depends,
                path,
                bytes,
                listed,
            } = package;
            let file = root.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
            let (size, sha256) = (bytes.len(), Sha256::of(bytes));
            if *listed {
                stanzas += &format!(
                    "Package: {name}\nVersion: {version}\nDepends: {depends}\nFilename: {path}\nSize: {size}\nSHA256: {sha256}\n\n"
                );
            }
        }
        let packages = xz(stanzas.as_bytes());
        let index = root.join("dists").join(SUITE).join("main/binary-amd64");
        std::fs::create_dir_all(&index).unwrap();
        std::fs::write(index.join("Packages.xz"), &packages).unwrap();
        let (size, sha256) = (packages.len(), Sha256::of(&packages));
        let release = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nCodename: {SUITE}\nSHA256:\n \
             {sha256} {size} main/binary-amd64/Packages.xz\n-----BEGIN PGP SIGNATURE-----\n\nnone\n-----END PGP SIGNATURE-----\n"
        );
        std::fs::write(root.join("dists").join(SUITE).join("InRelease"), release).unwrap();
    }

    pub(crate) fn mirror_root(&self) -> PathBuf {
        self.dir.path().join("mirror/debian")
    }

    /// A directory for whatever a test needs.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.dir.path().join("kernels.lock")
    }

    /// The mirror, for whom signatures are not looked at: there is no keyring.
    pub(crate) fn mirrors(&self) -> Mirrors {
        self.mirrors_at(&format!(
            "file://{}",
            self.dir.path().join("mirror").display()
        ))
    }

    pub(crate) fn mirrors_at(&self, uri: &str) -> Mirrors {
        Mirrors::new(Some(uri))
            .with_keyring(&self.dir.path().join("no-keyring"))
            .with_retries(0)
    }

    pub(crate) fn keyring(&self) -> PathBuf {
        self.dir.path().join("keyring.gpg")
    }

    pub(crate) fn context<'a>(&'a self, mirrors: &'a Mirrors) -> Context<'a> {
        Context {
            cache: &self.cache,
            mirrors,
            progress: &Quiet,
        }
    }

    /// The names of the entries in a folder of the cache.
    pub(crate) fn cached(&self, folder: &str) -> Vec<PathBuf> {
        std::fs::read_dir(self.cache.root().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    /// Checks that the cache holds no package, no tree, and nothing half made.
    pub(crate) fn assert_nothing_cached(&self) {
        for folder in ["packages", "trees", "scratch"] {
            assert_eq!(self.cached(folder), Vec::<PathBuf>::new(), "{folder}");
        }
    }
}

/// Where the package of `release` is, below the root of the archive.
pub(crate) fn pool_path(release: &str) -> String {
    format!("pool/linux-image-{release}.deb")
}

/// What a [`Server`] does with the body of an answer.
#[derive(Clone)]
pub(crate) enum Body {
    Whole,
    /// The connection is closed after half of it.
    Half,
    /// The second half is sent when the gate is opened.
    Gated(Arc<Gate>),
}

/// Holds back the second half of every body.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    waiting: usize,
    open: bool,
}

/// How long anything may take that is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

impl Gate {
    /// Waits until `count` bodies have been held back.
    pub(crate) fn wait_for(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let enough = |state: &mut GateState| state.waiting < count;
        let waited = self.changed.wait_timeout_while(state, DEADLINE, enough);
        assert!(!waited.unwrap().1.timed_out(), "nobody asks for a body");
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.open).unwrap());
    }
}

/// An HTTP server on the loopback interface for the files below a directory. It counts what it is asked for.
pub(crate) struct Server {
    pub(crate) uri: String,
    address: std::net::SocketAddr,
    requests: Arc<Mutex<BTreeMap<String, usize>>>,
    open: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(root: &Path, body: Body) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(BTreeMap::new()));
        let open = Arc::new(AtomicUsize::new(1));
        let (counts, running, root) = (requests.clone(), open.clone(), root.to_owned());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if running.load(Ordering::SeqCst) == 0 {
                    return;
                }
                let (counts, root, body) = (counts.clone(), root.clone(), body.clone());
                thread::spawn(move || answer(&stream.unwrap(), &root, &body, &counts));
            }
        });
        Self {
            uri: format!("http://{address}"),
            address,
            requests,
            open,
            thread: Some(thread),
        }
    }

    /// How often a path that ends in `end` was asked for.
    pub(crate) fn requests(&self, end: &str) -> usize {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .filter(|(path, _)| path.ends_with(end))
            .map(|(_, count)| count)
            .sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.open.store(0, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Answers the requests of one connection; errors end it, as when the client is killed.
fn answer(stream: &TcpStream, root: &Path, body: &Body, counts: &Mutex<BTreeMap<String, usize>>) {
    let mut reader = BufReader::new(stream);
    while let Some(path) = requested(&mut reader) {
        *counts.lock().unwrap().entry(path.clone()).or_default() += 1;
        let found = std::fs::read(root.join(path.trim_start_matches('/')));
        let (status, content) =
            found.map_or(("404 Not Found", Vec::new()), |content| ("200 OK", content));
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        let (first, second) = content.split_at(content.len() / 2);
        let mut writer = stream;
        let sent = writer
            .write_all(head.as_bytes())
            .and_then(|()| writer.write_all(first));
        match body {
            Body::Whole => {}
            Body::Half if content.is_empty() => {}
            Body::Half => return,
            Body::Gated(gate) => gate.pass(),
        }
        if sent.and_then(|()| writer.write_all(second)).is_err() {
            return;
        }
    }
}

fn requested(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|count| *count > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    while reader.read_line(&mut line).ok()? > 2 {
        if line.ends_with("\r\n\r\n") {
            break;
        }
    }
    Some(path)
}
