//! What only root can set up: a file system that really is full.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kernels::{Keep, Lock};
use vm_images::{
    Cache, CacheError, Context, DownloadError, FetchError, Mirrors, Quiet, kernel_tree, update_lock,
};

use crate::id;
use crate::mirror::{Body, Place, Server, deb};

/// Where the small file system is mounted in the child; without it there is nothing for a child to do.
const MOUNTED: &str = "BT_TEST_MOUNTED";
const MIRROR: &str = "BT_TEST_MIRROR";
const LOCK: &str = "BT_TEST_LOCK";
const CHILD: &str = "root::child_on_full_disk_tells_and_recovers";
const DONE: &str = "the child has checked everything";

const RELEASE: &str = "6.1.0-1-amd64";

/// Bytes that no compression makes smaller, the start of an ELF file before them.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = b"\x7fELF".to_vec();
    bytes.resize_with(length, || {
        // Knuth's linear congruential generator.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    });
    bytes
}

/// Bytes that compress to nothing.
fn zeros(length: usize) -> Vec<u8> {
    let mut bytes = b"\x7fELF".to_vec();
    bytes.resize(length, 0);
    bytes
}

/// The error of a kernel that did not fit.
fn is_disk_full(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Cache(CacheError::DiskFull { .. })
            | FetchError::Download {
                source: DownloadError::Cache(CacheError::DiskFull { .. }),
                ..
            }
    )
}

/// Not a test but the program of the child, which has a file system of 1 MiB to itself. Check that a kernel that does not fit is told
/// as a full disk and leaves nothing, and that it is had once there is room.
#[test]
fn child_on_full_disk_tells_and_recovers() {
    let Some(mounted) = std::env::var_os(MOUNTED).map(PathBuf::from) else {
        return;
    };
    let cache = Cache::open(Some(&mounted)).unwrap();
    let mirrors = Mirrors::new(std::env::var(MIRROR).ok().as_deref()).with_retries(0);
    let lock = PathBuf::from(std::env::var_os(LOCK).unwrap());
    let context = Context {
        cache: &cache,
        mirrors: &mirrors,
        progress: &Quiet,
    };
    let kernel = Lock::load(&lock).unwrap().get(&id()).unwrap().clone();
    let fetch = || kernel_tree(&context, &kernel, Keep::Closure(&[]));
    let entries = |folder: &str| std::fs::read_dir(mounted.join(folder)).unwrap().count();

    let error = fetch().unwrap_err();
    assert!(is_disk_full(&error), "{error:?}");
    assert_eq!((entries("trees"), entries("scratch")), (0, 0));

    let resized = Command::new("mount")
        .args(["-o", "remount,size=64m"])
        .arg(&mounted)
        .status()
        .unwrap();
    assert!(resized.success());
    assert_eq!(fetch().unwrap().release(), RELEASE);
    println!("{DONE}");
}

/// Runs the child on a small file system that nobody else sees, and that goes when it does.
fn on_small_disk(vmlinux: &[u8], over_http: bool) {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let unshare = || Command::new("unshare").args(["--mount", "true"]).status();
    if !root || !unshare().is_ok_and(|status| status.success()) {
        skip("a file system can be mounted by root only");
        return;
    }
    let place = Place::new();
    let package = deb(&[(&format!("boot/vmlinuz-{RELEASE}"), vmlinux)]);
    place.publish(&[(RELEASE, "6.1.1-1", package)]);
    let context_mirrors = place.mirrors();
    let context = place.context(&context_mirrors);
    let update = update_lock(&context, &place.manifest, &Lock::default()).unwrap();
    update.lock.save(&place.lock_path()).unwrap();
    let root = place.mirror_root();
    let server = Server::start(root.parent().unwrap(), Body::Whole);
    let files = format!("file://{}", root.parent().unwrap().display());

    let mounted = place.dir().join("small");
    std::fs::create_dir(&mounted).unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs -o size=1m tmpfs \"$BT_TEST_MOUNTED\" && exec \"$@\"")
        .args(["sh".as_ref(), std::env::current_exe().unwrap().as_os_str()])
        .args([CHILD, "--exact", "--nocapture", "--test-threads=1"])
        .env(MOUNTED, &mounted)
        .env(MIRROR, if over_http { &server.uri } else { &files })
        .env(LOCK, place.lock_path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains(DONE),
        "{said}{errors}"
    );
    assert!(is_empty(&mounted), "nothing is mounted here");
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

/// Says on the terminal that a test was not run: what is printed by macros is kept from people if the test passes.
fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Check that a download that fills the disk is told as such, whoever writes it, and leaves nothing.
#[test]
fn download_filling_the_disk_is_told_and_leaves_nothing() {
    for over_http in [true, false] {
        on_small_disk(&noise(3 << 19), over_http);
    }
}

/// Check that an unpacked kernel that fills the disk is told as such and leaves nothing.
#[test]
fn unpacking_filling_the_disk_is_told_and_leaves_nothing() {
    on_small_disk(&zeros(3 << 20), false);
}
