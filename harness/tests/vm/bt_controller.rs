//! The command `bt-controller` on `/dev/vhci`, as its README says: a process of its own makes two devices of a kernel.

use crate::common::{accel, image, lab};
use harness::case::MEMORY_MIB;
use harness::drive::Watch;
use harness::saves::{self, Point, Stage};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const KERNEL: &str = "debian:6.12";
const FOLDER: &str = "/run/bt";
/// Starts it, waits until the kernel has both devices, ends it as Ctrl-C does, and keeps what it said.
const SCRIPT: &str = "cd /run/bt; ./busybox mkdir -p /bin; ./busybox --install -s /bin; export PATH=/bin; \
     ./ld.so --library-path . ./bt-controller --vhci 2 --capture . > said & \
     until [ -e /sys/class/bluetooth/hci1 ] && [ \"$(wc -l < said)\" = 2 ]; do sleep 0.1; done; \
     sleep 1; ls /sys/class/bluetooth > devices; kill -INT $!; wait $!";

/// A file of this machine under another name.
fn file(name: &'static str, place: &Path) -> Option<(&'static str, Vec<u8>)> {
    Some((name, fs::read(place).ok()?))
}

/// The command that cargo has built beside this test, what it needs of this machine, and a shell.
fn files() -> Option<Vec<(&'static str, Vec<u8>)>> {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2)?.join("bt-controller");
    let libraries = Path::new("/lib/x86_64-linux-gnu");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut busybox = std::env::split_paths(&path).map(|folder: PathBuf| folder.join("busybox"));
    let busybox = busybox.find(|place| place.is_file())?;
    [
        file("bt-controller", &built),
        file("busybox", &busybox),
        file("ld.so", Path::new("/lib64/ld-linux-x86-64.so.2")),
        file("libc.so.6", &libraries.join("libc.so.6")),
        file("libgcc_s.so.1", &libraries.join("libgcc_s.so.1")),
    ]
    .into_iter()
    .collect()
}

/// Check that the kernel gets two devices, which it talks to, and that the end says what crossed.
#[test]
fn bt_controller_serves_two_devices_of_a_kernel() {
    let Some(files) = files() else {
        eprintln!(
            "not applicable: this machine has not bt-controller built (feature controller/cli), busybox, or glibc where Debian has it"
        );
        return;
    };
    let image = image(&KERNEL.parse().unwrap());
    let spec = saves::spec(&image, accel(&image), MEMORY_MIB);
    let watch = Watch {
        patience: Duration::from_secs(60),
        cancelled: &|| false,
        progress: &|_| {},
    };
    let point = Point::before_push(Stage::Bluetooth);
    let restored = lab()
        .saves
        .guest(&spec, point, watch, &vm_images::Quiet, &|_| {});
    let mut guest = restored.unwrap();
    let paths: Vec<String> = files
        .iter()
        .map(|(name, _)| format!("{FOLDER}/{name}"))
        .collect();
    let pushed = paths.iter().zip(&files);
    let pushed: Vec<_> = pushed
        .map(|(path, (_, bytes))| (path.as_str(), 0o755, &bytes[..]))
        .collect();
    let shell = format!("{FOLDER}/busybox");
    let argv = [&shell, "sh", "-c", SCRIPT].map(str::to_owned);
    guest.sit(&pushed, argv.into()).unwrap();
    let mut fetch = |name: &str| guest.fetch(&format!("{FOLDER}/{name}")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let said = text(fetch("said"));
    assert!(
        said.starts_with("hci0 00:00:5E:00:53:01\nhci1 00:00:5E:00:53:02\n"),
        "{said}"
    );
    assert!(said.lines().count() > 2, "{said}");
    assert_eq!(text(fetch("devices")), "hci0\nhci1\n");
    // The kernel has set both up: some thirty commands and as many events each.
    for capture in ["hci0.btsnoop", "hci1.btsnoop"] {
        let capture = fetch(capture);
        assert!(
            capture.starts_with(b"btsnoop\0") && capture.len() > 1000,
            "{}",
            capture.len()
        );
    }
}
