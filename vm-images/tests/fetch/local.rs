//! Kernels that do not come from an archive.

use std::path::Path;

use kernels::{Folder, Keep, KernelId, Lock, Sha256, Source};
use rstest::rstest;
use vm_images::{
    DownloadError, EnsureError, LocalError, Mirrors, Ready, ensure_kernel, update_lock,
};

use crate::KEEP;
use crate::mirror::{Body, Place, Server, kernel_package, vmlinuz};

const RELEASE: &str = "6.99.0";

fn id(text: &str) -> KernelId {
    text.parse().unwrap()
}

fn ensure_with(place: &Place, mirrors: &Mirrors, id: &KernelId) -> Result<Ready, LocalError> {
    let context = place.context(mirrors);
    let lock = place.lock_path();
    match ensure_kernel(&context, &place.manifest, &lock, id, true, KEEP) {
        Ok(ready) => Ok(ready),
        Err(EnsureError::Local(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

fn ensure(place: &Place, text: &str) -> Result<Ready, LocalError> {
    ensure_with(place, &Mirrors::offline(), &id(text))
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn trees(place: &Place) -> usize {
    place.cached("trees").len()
}

/// Check that a kernel that kernels.toml does not list is had from its directory, without a lock or a mirror, unpacked once for each build.
#[test]
fn kernel_of_directory_is_unpacked_once_for_each_build() {
    let place = Place::new();
    let build = place.dir().join("linux");
    let image = write(&build, "vmlinux", &vmlinuz(RELEASE));
    write(&build, "include/config/kernel.release", b"6.99.0\n");
    let text = format!("path:{}", build.display());

    let ready = ensure(&place, &text).unwrap();
    assert_eq!((ready.pinned, ready.tree.release()), (None, RELEASE));
    assert_eq!(
        std::fs::read(ready.tree.vmlinux()).unwrap(),
        vmlinuz(RELEASE)
    );
    assert_eq!(ensure(&place, &text).unwrap().tree, ready.tree);
    assert_eq!(trees(&place), 1);

    std::fs::write(image, vmlinuz("built anew")).unwrap();
    let again = ensure(&place, &text).unwrap();
    assert_eq!(
        std::fs::read(again.tree.vmlinux()).unwrap(),
        vmlinuz("built anew")
    );
    assert_eq!(trees(&place), 2);
    assert!(!place.lock_path().exists());
}

/// Check that a relative path is taken from the working directory: Cargo runs tests in the directory of their package.
#[test]
fn relative_path_is_taken_from_the_working_directory() {
    let place = Place::new();
    let error = ensure(&place, "path:src").unwrap_err();
    let LocalError::Folder { source, .. } = &error else {
        panic!("{error:?}")
    };
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert!(
        source.to_string().contains(expected.to_str().unwrap()),
        "{source}"
    );
}

/// Check that a directory that was unpacked by this program is used as it is.
#[test]
fn unpacked_tree_is_used_in_place() {
    let place = Place::new();
    let installed = place.dir().join("installed");
    write(&installed, "boot/vmlinuz-6.99.0", &vmlinuz(RELEASE));
    let dest = place.dir().join("tree");
    std::fs::create_dir(&dest).unwrap();
    let tree = Folder::open(&installed)
        .unwrap()
        .unpack(Keep::All, &dest)
        .unwrap();
    let ready = ensure(&place, &format!("path:{}", dest.display())).unwrap();
    assert_eq!(ready.tree.vmlinux(), tree.vmlinux());
    assert_eq!(trees(&place), 0);
}

/// Check that kernels come out of package files, and out of several together.
#[test]
fn kernel_of_package_files_is_unpacked() {
    let place = Place::new();
    let image = write(place.dir(), "image.deb", &kernel_package(RELEASE));
    let empty = write(place.dir(), "doc.deb", &crate::mirror::deb(&[]));
    let text = format!("deb:{},{}", empty.display(), image.display());
    let ready = ensure(&place, &text).unwrap();
    assert_eq!(ready.tree.release(), RELEASE);
    assert_eq!(ensure(&place, &text).unwrap().tree, ready.tree);

    std::fs::write(&image, kernel_package("6.99.1")).unwrap();
    assert_eq!(ensure(&place, &text).unwrap().tree.release(), "6.99.1");
}

/// Check that files that are no packages, hold no kernel, or are not there, are told by name and leave nothing.
#[rstest]
#[case::no_package(
    "rpm:",
    "image",
    b"text",
    "neither a Debian package nor an RPM package"
)]
#[case::no_kernel("deb:", "image", &crate::mirror::deb(&[]), "no kernel image in")]
#[case::absent("deb:", "absent", b"", "failed to read")]
fn package_file_without_kernel_is_refused(
    #[case] source: &str,
    #[case] name: &str,
    #[case] bytes: &[u8],
    #[case] reason: &str,
) {
    let place = Place::new();
    write(place.dir(), "image", bytes);
    let text = format!("{source}{}", place.dir().join(name).display());
    let error = ensure(&place, &text).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    let message = format!("{error}: {}", cause.unwrap_or_default());
    assert!(
        message.contains(reason) && message.contains(name),
        "{message}"
    );
    place.assert_nothing_cached();
}

/// Check that a package is downloaded by its hash, once, and is then had without a network.
#[test]
fn kernel_of_address_is_downloaded_once() {
    let place = Place::new();
    let bytes = kernel_package(RELEASE);
    write(place.dir(), "files/kernel.rpm", &bytes);
    let server = Server::start(&place.dir().join("files"), Body::Whole);
    let text = format!(
        "url:{}/kernel.rpm#sha256={}",
        server.uri,
        Sha256::of(&bytes)
    );
    let error = ensure(&place, &text).unwrap_err();
    assert!(matches!(error, LocalError::Offline { .. }), "{error:?}");

    let mirrors = place.mirrors();
    let ready = ensure_with(&place, &mirrors, &id(&text)).unwrap();
    assert_eq!(ready.tree.release(), RELEASE);
    std::fs::remove_dir_all(ready.tree.dir()).unwrap();
    assert_eq!(ensure(&place, &text).unwrap().tree, ready.tree);
    assert_eq!(server.requests(".rpm"), 1);
}

/// Check that a download that does not hash to what was asked for is refused and not kept.
#[test]
fn address_of_other_bytes_is_refused() {
    let place = Place::new();
    let path = write(place.dir(), "kernel.deb", &kernel_package(RELEASE));
    let text = format!(
        "url:file://{}#sha256={}",
        path.display(),
        Sha256::of(b"other")
    );
    let error = ensure(&place, &text).unwrap_err();
    let LocalError::Download { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(matches!(**source, DownloadError::Hash { .. }), "{source:?}");
    place.assert_nothing_cached();
}

/// Check that the running kernel is had from its files, or that what is missing is told by name.
#[test]
fn running_kernel_is_had_or_its_files_are_named() {
    let place = Place::new();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let release = release.trim();
    match ensure(&place, "host") {
        Ok(ready) => assert_eq!(ready.tree.release(), release),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let message = cause.unwrap_or_default();
            assert!(
                message.contains(release) || message.contains("Permission"),
                "{error:?}"
            );
        }
    }
}

/// Check that the lock is kept for kernels of the archive, and that others are passed over when it is made.
#[test]
fn update_passes_over_kernels_of_other_sources() {
    let place = Place::with_manifest("[kernels]\nhost = {}\n\"path:/x\" = {}\n");
    assert_eq!(
        place.manifest.iter().next().unwrap().0.source(),
        Source::Path
    );
    let mirrors = place.mirrors();
    let update = update_lock(&place.context(&mirrors), &place.manifest, &Lock::default()).unwrap();
    assert_eq!((update.changes.len(), update.failures.len()), (0, 0));
}
