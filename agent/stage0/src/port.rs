//! Finding and opening the virtio-serial port.

use evidence::PORT_NAME;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

const CLASS: &str = "/sys/class/virtio-ports";
/// How long the driver may take to find the port after its module is in.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);

/// Opens the port once the driver shows it as a character device.
///
/// # Errors
/// There is none after 30 s, or it cannot be opened.
pub(crate) fn open() -> Result<File, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(path) = find(Path::new(CLASS)).filter(|path| is_char_device(path)) {
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .map_err(|error| format!("cannot open {}: {error}", path.display()));
        }
        if Instant::now() > deadline {
            return Err(format!("no port named {PORT_NAME} under {CLASS}"));
        }
        sleep(PAUSE);
    }
}

/// The device node of the port with our name. The name arrives after the port does.
fn find(class: &Path) -> Option<PathBuf> {
    fs::read_dir(class).ok()?.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        (name.trim_end() == PORT_NAME).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

fn is_char_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_char_device())
}
