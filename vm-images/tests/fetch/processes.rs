//! Several processes on one cache, and processes that are killed: the test program starts itself again.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use kernels::{Keep, KernelTree, Lock, LockedKernel};
use vm_images::{Cache, Context, Event, Mirrors, Progress, kernel_tree};

use crate::mirror::{Body, DEADLINE, Gate, Place, Server};
use crate::{id, pinned};

/// Where the child's cache is; without it there is nothing for a child to do.
const CACHE: &str = "BT_TEST_CACHE";
const MIRROR: &str = "BT_TEST_MIRROR";
const LOCK: &str = "BT_TEST_LOCK";
const CHILD: &str = "processes::child_told_to_fetch_fetches";

/// What a child prints in front of the tree that it got.
const TREE: &str = "tree: ";
/// What a child prints when another process is making what it wants.
const WAITING: &str = "waiting";

struct Printed;

impl Progress for Printed {
    #[expect(
        clippy::print_stdout,
        reason = "this is how the child talks to its parent"
    )]
    fn report(&self, event: Event<'_>) {
        if matches!(event, Event::Waiting { .. }) {
            println!("{WAITING}");
        }
    }
}

/// Not a test but the program of the children: fetches the kernel that the environment names. Check that it succeeds.
#[test]
fn child_told_to_fetch_fetches() {
    let Some(cache) = std::env::var_os(CACHE) else {
        return;
    };
    let cache = Cache::open(Some(Path::new(&cache))).unwrap();
    let mirrors = Mirrors::new(std::env::var(MIRROR).ok().as_deref()).with_retries(0);
    let lock = PathBuf::from(std::env::var_os(LOCK).unwrap());
    let context = Context {
        cache: &cache,
        mirrors: &mirrors,
        progress: &Printed,
    };
    let kernel = Lock::load(&lock).unwrap().get(&id()).unwrap().clone();
    let tree = kernel_tree(&context, &kernel, Keep::Closure(&[])).unwrap();
    println!("{TREE}{}", tree.dir().display());
}

/// A process that fetches. It is killed when dropped.
struct Fetcher {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Fetcher {
    fn start(place: &Place, server: &Server) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--nocapture", "--test-threads=1"])
            .env(CACHE, place.cache.root())
            .env(MIRROR, &server.uri)
            .env(LOCK, place.lock_path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for a line that begins with `start`, and returns the rest of it.
    fn line(&mut self, start: &str) -> String {
        let found = self
            .lines
            .by_ref()
            .map(Result::unwrap)
            // The test harness may print the test's name before it on the same line.
            .find_map(|line| Some(line.split_once(start)?.1.to_owned()));
        found.unwrap_or_else(|| panic!("the child never said {start:?}"))
    }

    fn tree(&mut self) -> KernelTree {
        let dir = self.line(TREE);
        let tree = KernelTree::open(Path::new(&dir)).unwrap();
        assert!(self.child.wait().unwrap().success());
        tree
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gated() -> (Place, LockedKernel, Server, Arc<Gate>) {
    let (place, kernel) = pinned();
    let gate = Arc::new(Gate::default());
    let root = place.mirror_root();
    let server = Server::start(root.parent().unwrap(), Body::Gated(gate.clone()));
    (place, kernel, server, gate)
}

/// State and parent of a process, if there is such a process.
fn state(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// The processes that `pid` started, and those that these started.
fn descendants(pid: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap();
    let all: Vec<u32> = all
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        let children = all.iter().copied();
        found.extend(children.filter(|pid| state(*pid).is_some_and(|(_, by)| by == parent)));
        at += 1;
    }
    found.split_off(1)
}

/// Whether a process has ended, whether or not anybody has waited for it.
fn has_ended(pid: u32) -> bool {
    state(pid).is_none_or(|(state, _)| state == 'Z')
}

/// Check that a process killed in the middle of a download leaves no process, no entry and no lock behind, and that what it leaves of
/// the download is gone when the cache is opened next.
#[test]
fn process_killed_in_download_leaves_nothing() {
    let (place, kernel, server, gate) = gated();
    let mut fetcher = Fetcher::start(&place, &server);
    gate.wait_for(1);
    let downloading = descendants(fetcher.child.id());
    assert_ne!(downloading, []);
    fetcher.kill();

    let start = Instant::now();
    while !downloading.iter().copied().all(has_ended) {
        assert!(start.elapsed() < DEADLINE / 4, "{downloading:?}");
        thread::yield_now();
    }
    assert_eq!(
        (place.cached("packages").len(), place.cached("trees").len()),
        (0, 0)
    );
    assert_eq!(
        place.cached("scratch").len(),
        2,
        "of the tree and of its package"
    );
    Cache::open(Some(place.cache.root())).unwrap();
    place.assert_nothing_cached();

    gate.open();
    let mirrors = place.mirrors();
    kernel_tree(&place.context(&mirrors), &kernel, Keep::Closure(&[])).unwrap();
}

/// Check that of two processes that want the same package at once one downloads it, and the other says that it waits.
#[test]
fn package_wanted_by_two_processes_is_downloaded_once() {
    let (place, _, server, gate) = gated();
    let mut first = Fetcher::start(&place, &server);
    gate.wait_for(1);
    let mut second = Fetcher::start(&place, &server);
    second.line(WAITING);
    gate.open();
    assert_eq!(first.tree(), second.tree());
    assert_eq!(server.requests(".deb"), 1);
    assert_eq!(place.cached("scratch").len(), 0);
}

/// Check that who waits for a process that is killed takes over.
#[test]
fn package_of_killed_process_is_downloaded_by_the_next() {
    let (place, _, server, gate) = gated();
    let mut first = Fetcher::start(&place, &server);
    gate.wait_for(1);
    let mut second = Fetcher::start(&place, &server);
    second.line(WAITING);
    first.kill();
    gate.wait_for(2);
    gate.open();
    second.tree();
    assert_eq!(server.requests(".deb"), 2);
}
