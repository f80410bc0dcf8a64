//! Fetching against mirrors that are made for the purpose: what works, and what is said when something does not.

#![expect(
    clippy::unwrap_used,
    reason = "a failing helper of a test is a failing test"
)]

mod local;
mod mirror;
mod pool;
mod processes;
mod root;

use std::path::Path;
use std::sync::Mutex;

use kernels::{Keep, KernelId, Lock, LockedKernel};
use mirror::{Body, Place, SUITE, Server, kernel_package, pool_path, vmlinuz};
use rstest::rstest;
use vm_images::{
    Cache, Change, Context, DownloadError, EnsureError, Event, FetchError, IndexError, MirrorError,
    Mirrors, Progress, Ready, Signature, ensure_kernel, kernel_tree, update_lock,
};

const KEEP: Keep<'_> = Keep::Closure(&[]);
const OLD: &str = "6.1.0-1-amd64";
const NEW: &str = "6.1.0-2-amd64";

fn id() -> KernelId {
    "debian:6.1".parse().unwrap()
}

fn package(release: &str) -> (&str, &'static str, Vec<u8>) {
    let version = if release == OLD {
        "6.1.1-1"
    } else {
        "6.1.10-1"
    };
    (release, version, kernel_package(release))
}

fn ensure(place: &Place, mirrors: &Mirrors, locked: bool) -> Result<Ready, EnsureError> {
    ensure_kernel(
        &place.context(mirrors),
        &place.manifest,
        &place.lock_path(),
        &id(),
        locked,
        KEEP,
    )
}

/// A place whose lock pins the old kernel; nothing is cached.
fn pinned() -> (Place, LockedKernel) {
    let place = Place::new();
    place.publish(&[package(OLD)]);
    let update = update_lock(
        &place.context(&place.mirrors()),
        &place.manifest,
        &Lock::default(),
    )
    .unwrap();
    update.lock.save(&place.lock_path()).unwrap();
    let kernel = update.lock.get(&id()).unwrap().clone();
    assert_eq!(kernel.release, OLD);
    place.assert_nothing_cached();
    (place, kernel)
}

/// Check that a kernel is fetched and unpacked once, and that from then on no mirror is needed.
#[test]
fn kernel_fetched_once_needs_no_mirror_again() {
    let (place, kernel) = pinned();
    let ready = ensure(&place, &place.mirrors(), true).unwrap();
    assert_eq!(std::fs::read(ready.tree.vmlinux()).unwrap(), vmlinuz(OLD));
    assert_eq!((ready.pinned, ready.replaced), (Some(kernel), None));
    assert_eq!(place.cached("scratch").len(), 0);
    let again = ensure(&place, &Mirrors::offline(), true).unwrap();
    assert_eq!(again.tree, ready.tree);
}

/// Check that without a network a cold cache is an error that says so.
#[test]
fn kernel_not_cached_without_network_is_an_error() {
    let (place, _) = pinned();
    let error = ensure(&place, &Mirrors::offline(), false).unwrap_err();
    assert!(
        matches!(
            error,
            EnsureError::Fetch(FetchError::Mirror {
                source: MirrorError::Offline,
                ..
            })
        ),
        "{error:?}"
    );
}

/// Check that a package that is not the pinned one is refused, and that nothing of it is kept.
#[rstest]
#[case::other_bytes(|bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1, "has the SHA-256 hash")]
#[case::cut(|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1), "bytes instead of")]
#[case::longer(|bytes: &mut Vec<u8>| bytes.push(0), "bytes instead of")]
fn package_changed_on_the_mirror_is_refused(
    #[case] change: fn(&mut Vec<u8>),
    #[case] reason: &str,
) {
    let (place, kernel) = pinned();
    let path = place.mirror_root().join(pool_path(OLD));
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();

    let error = kernel_tree(&place.context(&place.mirrors()), &kernel, KEEP).unwrap_err();
    let FetchError::Download { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(source.to_string().contains(reason), "{source}");
    place.assert_nothing_cached();
}

/// Check that a package that was pinned damaged is told by name, and gives no tree.
#[test]
fn package_pinned_damaged_gives_no_tree() {
    let place = Place::new();
    let mut bytes = kernel_package(OLD);
    bytes.truncate(bytes.len() - 30);
    place.publish(&[(OLD, "6.1.1-1", bytes)]);
    let error = ensure(&place, &place.mirrors(), false).unwrap_err();
    let EnsureError::Fetch(FetchError::Unpack { source, .. }) = &error else {
        panic!("{error:?}")
    };
    let message = source.to_string();
    assert!(
        message.contains(".deb is damaged or truncated"),
        "{message}"
    );
    assert_eq!(
        (place.cached("trees").len(), place.cached("scratch").len()),
        (0, 0)
    );
}

/// Check that a package whose kernel is not the one that it is named after gives no tree.
#[test]
fn package_of_other_kernel_gives_no_tree() {
    let place = Place::new();
    place.publish(&[(OLD, "6.1.1-1", kernel_package(NEW))]);
    let error = ensure(&place, &place.mirrors(), false).unwrap_err();
    assert!(
        matches!(error, EnsureError::Fetch(FetchError::OtherRelease { .. })),
        "{error:?}"
    );
    assert_eq!(place.cached("trees").len(), 0);
}

/// Check that a package that left the archive is replaced by the newest of its series, in the lock too, and that this is told.
#[test]
fn package_gone_is_replaced_by_the_newest() {
    let (place, old) = pinned();
    place.publish(&[package(NEW)]);
    let ready = ensure(&place, &place.mirrors(), false).unwrap();
    assert_eq!(ready.tree.release(), NEW);
    let replaced = ready.replaced.unwrap();
    assert_eq!(
        (replaced.old, Some(&replaced.new)),
        (old, ready.pinned.as_ref())
    );
    assert_eq!(
        Lock::load(&place.lock_path()).unwrap().get(&id()).unwrap(),
        &replaced.new
    );
}

/// Check that with a fixed lock a package that left the archive is an error that names the command to run, and the lock stays.
#[test]
fn package_gone_with_fixed_lock_is_an_error() {
    let (place, _) = pinned();
    place.publish(&[package(NEW)]);
    let before = std::fs::read(place.lock_path()).unwrap();
    let error = ensure(&place, &place.mirrors(), true).unwrap_err();
    assert!(
        matches!(error, EnsureError::Fetch(FetchError::PackageGone { .. })),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("cargo xtask update-kernels"),
        "{error}"
    );
    assert_eq!(std::fs::read(place.lock_path()).unwrap(), before);
}

/// Check that a kernel without a pin is pinned on the way, and with a fixed lock is not.
#[test]
fn kernel_not_pinned_is_pinned_unless_the_lock_is_fixed() {
    let place = Place::new();
    place.publish(&[package(OLD), package(NEW)]);
    assert!(matches!(
        ensure(&place, &place.mirrors(), true),
        Err(EnsureError::NotLocked(_))
    ));
    assert!(!place.lock_path().exists());
    let ready = ensure(&place, &place.mirrors(), false).unwrap();
    assert_eq!((ready.tree.release(), ready.replaced.as_ref()), (NEW, None));
    assert_eq!(
        Lock::load(&place.lock_path()).unwrap().get(&id()).unwrap(),
        ready.pinned.as_ref().unwrap()
    );
}

/// Check that a cached package that the disk has changed is noticed and downloaded again.
#[test]
fn package_damaged_in_the_cache_is_downloaded_again() {
    let (place, kernel) = pinned();
    let mirrors = place.mirrors();
    let tree = kernel_tree(&place.context(&mirrors), &kernel, KEEP).unwrap();
    std::fs::remove_dir_all(tree.dir()).unwrap();
    let [cached] = place.cached("packages").try_into().unwrap();
    let mut bytes = std::fs::read(&cached).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&cached, &bytes).unwrap();

    let again = kernel_tree(&place.context(&mirrors), &kernel, KEEP).unwrap();
    assert_eq!(again, tree);
    assert_eq!(std::fs::read(&cached).unwrap(), kernel_package(OLD));
}

/// Check that a tree that lost its description is unpacked again.
#[test]
fn tree_damaged_in_the_cache_is_unpacked_again() {
    let (place, kernel) = pinned();
    let mirrors = place.mirrors();
    let tree = kernel_tree(&place.context(&mirrors), &kernel, KEEP).unwrap();
    std::fs::remove_file(tree.dir().join("tree.toml")).unwrap();
    let again = kernel_tree(&place.context(&Mirrors::offline()), &kernel, KEEP).unwrap();
    assert_eq!(again, tree);
}

/// Check that an index that nobody known has signed is refused.
#[test]
fn index_without_known_signature_is_refused() {
    let place = Place::new();
    place.publish(&[package(OLD)]);
    std::fs::write(place.keyring(), "").unwrap();
    let mirrors = place.mirrors().with_keyring(&place.keyring());
    let error = ensure(&place, &mirrors, false).unwrap_err();
    assert!(
        matches!(
            error,
            EnsureError::Index {
                source: IndexError::BadSignature { .. },
                ..
            }
        ),
        "{error:?}"
    );
}

/// Check that the index of one suite is not taken for that of another.
#[test]
fn index_of_other_suite_is_refused() {
    let place = Place::new();
    place.publish(&[package(OLD)]);
    let path = place
        .mirror_root()
        .join("dists")
        .join(SUITE)
        .join("InRelease");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("Codename: sid", "Codename: potato");
    std::fs::write(&path, text).unwrap();
    let error = ensure(&place, &place.mirrors(), false).unwrap_err();
    assert!(
        matches!(
            error,
            EnsureError::Index {
                source: IndexError::OtherSuite { .. },
                ..
            }
        ),
        "{error:?}"
    );
}

/// Check that an update tells what changed, what it could not find, and that the signature was not checked.
#[test]
fn update_tells_changes_failures_and_signatures() {
    let (place, old) = pinned();
    place.publish(&[package(OLD), package(NEW)]);
    let lock = Lock::load(&place.lock_path()).unwrap();
    let update = update_lock(&place.context(&place.mirrors()), &place.manifest, &lock).unwrap();
    let [Change::Replaced { old: before, new }] = update.changes.as_slice() else {
        panic!("{:?}", update.changes)
    };
    assert_eq!((before, new.release.as_str()), (&old, NEW));
    assert_eq!(update.failures.len(), 1);
    assert_eq!(update.failures[0].0.to_string(), "debian:6.12");
    assert!(matches!(update.signatures[SUITE], Signature::Unchecked(_)));
}

struct Events(Mutex<Vec<String>>);

impl Progress for Events {
    fn report(&self, event: Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// Check a download over HTTP, by the program that is used for it, and that it is told.
#[test]
fn package_over_http_is_fetched_and_told() {
    let (place, kernel) = pinned();
    let server = Server::start(place.mirror_root().parent().unwrap(), Body::Whole);
    let mirrors = place.mirrors_at(&server.uri);
    let events = Events(Mutex::default());
    let context = Context {
        progress: &events,
        ..place.context(&mirrors)
    };
    kernel_tree(&context, &kernel, KEEP).unwrap();
    let events = events.0.into_inner().unwrap();
    for kind in ["Downloaded", "Unpacking", "Unpacked"] {
        assert_eq!(
            events
                .iter()
                .filter(|event| event.starts_with(&format!("{kind} ")))
                .count(),
            1,
            "{kind}: {events:?}"
        );
    }
}

/// Check that a package that a server does not have, and one that it does not send whole, are told apart, and nothing is kept.
#[rstest]
#[case::gone(Body::Whole, true)]
#[case::cut(Body::Half, false)]
fn package_over_http_not_sent_is_an_error(#[case] body: Body, #[case] remove: bool) {
    let (place, kernel) = pinned();
    if remove {
        std::fs::remove_file(place.mirror_root().join(pool_path(OLD))).unwrap();
    }
    let server = Server::start(place.mirror_root().parent().unwrap(), body);
    let mirrors = place.mirrors_at(&server.uri);
    let error = kernel_tree(&place.context(&mirrors), &kernel, KEEP).unwrap_err();
    match &error {
        FetchError::PackageGone { .. } => assert!(remove, "{error:?}"),
        FetchError::Download {
            source: DownloadError::Network { .. } | DownloadError::Size { .. },
            ..
        } => assert!(!remove, "{error:?}"),
        _ => panic!("{error:?}"),
    }
    place.assert_nothing_cached();
}

/// Check that a server that does not answer is told with the way out.
#[test]
fn server_not_reached_is_told_with_the_way_out() {
    let (place, kernel) = pinned();
    let uri = Server::start(Path::new("/"), Body::Whole).uri.clone();
    let mirrors = place.mirrors_at(&uri);
    let error = kernel_tree(&place.context(&mirrors), &kernel, KEEP).unwrap_err();
    let FetchError::Download { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(source, DownloadError::Network { .. }),
        "{source:?}"
    );
    assert!(source.to_string().contains("BT_MIRROR"), "{source}");
}

/// Check that several that want the same kernel at once download it once.
#[test]
fn kernel_wanted_by_several_is_downloaded_once() {
    let (place, kernel) = pinned();
    let server = Server::start(place.mirror_root().parent().unwrap(), Body::Whole);
    let mirrors = place.mirrors_at(&server.uri);
    std::thread::scope(|scope| {
        let fetch = || {
            let cache = Cache::open(Some(place.cache.root())).unwrap();
            let context = Context {
                cache: &cache,
                ..place.context(&mirrors)
            };
            kernel_tree(&context, &kernel, KEEP).unwrap()
        };
        let threads = [(); 4].map(|()| scope.spawn(fetch));
        let [first, others @ ..] = threads.map(|thread| thread.join().unwrap());
        assert!(others.iter().all(|tree| *tree == first));
    });
    assert_eq!(server.requests(".deb"), 1);
}
