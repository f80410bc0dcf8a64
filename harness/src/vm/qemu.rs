//! QEMU's command line.

use evidence::PORT_NAME;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::Command;

/// Who executes the guest's instructions.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    /// The processor, through /dev/kvm.
    Kvm,
    /// QEMU's translator. Works everywhere.
    Tcg,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// The program that is run. It must be on the path.
pub const QEMU: &str = "qemu-system-x86_64";

/// Everything that decides what a machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSpec {
    /// Who executes.
    pub accel: Accel,
    /// Memory of the guest, MiB.
    pub memory_mib: u32,
    /// The kernel: an ELF `vmlinux` with a PVH entry, or a bzImage.
    pub kernel: PathBuf,
    /// The initial RAM file system.
    pub initramfs: PathBuf,
}

/// What the kernel is told.
///
/// `quiet`, but never `loglevel=0`: that would lose a panic's text. `panic=-1` restarts at once,
/// which with `-no-reboot` ends QEMU. `cryptomgr.notests` saves half a second of self-tests.
/// `no_timer_check`: the IO-APIC timer test fails now and then on a machine under load.
const KERNEL_PARAMETERS: &str = "console=ttyS0 quiet panic=-1 oops=panic cryptomgr.notests \
     no_timer_check random.trust_cpu=on net.ifnames=0";

impl VmSpec {
    /// The command, with the numbers of the descriptors for the record port and the console.
    pub(super) fn command(&self, port: RawFd, console: RawFd) -> Command {
        let mut command = Command::new(QEMU);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command.args(["-machine", "pc"]);
        command.args(self.accel_arguments());
        command.args(["-smp", "1", "-m", &format!("{}M", self.memory_mib)]);
        command.args([OsString::from("-kernel"), self.kernel.clone().into()]);
        command.args([OsString::from("-initrd"), self.initramfs.clone().into()]);
        command.args(["-append", KERNEL_PARAMETERS]);
        command.args(["-chardev", &format!("socket,id=console,fd={console}")]);
        command.args(["-serial", "chardev:console"]);
        command.args(["-device", "virtio-serial-pci,max_ports=2"]);
        command.args(["-chardev", &format!("socket,id=port,fd={port}")]);
        command.args([
            "-device",
            &format!("virtserialport,chardev=port,name={PORT_NAME}"),
        ]);
        command
    }

    /// `la57=off`: five-level paging slows TCG down and nothing here needs it.
    fn accel_arguments(&self) -> [&'static str; 4] {
        match self.accel {
            Accel::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accel::Tcg => ["-accel", "tcg,tb-size=128", "-cpu", "max,la57=off"],
        }
    }
}
