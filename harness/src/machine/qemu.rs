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

/// The USB host controller, where dongles are plugged in while the machine runs.
const USB_HOST: &str = "qemu-xhci,id=usb";
/// Its bus.
pub(super) const USB_BUS: &str = "usb.0";

/// Numbers of the descriptors that QEMU inherits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fds {
    /// The record port.
    pub(super) port: RawFd,
    /// The serial console.
    pub(super) console: RawFd,
    /// The machine protocol.
    pub(super) qmp: RawFd,
    /// A saved state to begin with, in place of a boot.
    pub(super) incoming: Option<RawFd>,
}

impl VmSpec {
    /// The command. No socket has a name in the file system: nothing can be left there.
    pub(super) fn command(&self, fds: Fds) -> Command {
        let Fds {
            port,
            console,
            qmp,
            incoming,
        } = fds;
        let mut command = Command::new(QEMU);
        command.args(self.machine_arguments());
        match incoming {
            // The kernel is in the saved memory already.
            Some(fd) => command.args(["-incoming", &format!("fd:{fd}")]),
            None => command.args(self.boot_arguments()),
        };
        for (id, fd) in [("console", console), ("port", port), ("qmp", qmp)] {
            command.args(["-chardev", &format!("socket,id={id},fd={fd}")]);
        }
        command.args([
            "-serial",
            "chardev:console",
            "-mon",
            "chardev=qmp,mode=control",
        ]);
        command.args(["-device", "virtio-serial-pci,max_ports=2"]);
        command.args([
            "-device",
            &format!("virtserialport,chardev=port,name={PORT_NAME}"),
        ]);
        command
    }

    /// Everything about the machine that a saved state depends on, as words.
    #[must_use]
    pub fn machine_arguments(&self) -> Vec<String> {
        let fixed = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ];
        let accel = self.accel_arguments();
        let mut words: Vec<String> = fixed
            .iter()
            .chain(&accel)
            .map(|w| (*w).to_owned())
            .collect();
        let memory = format!("{}M", self.memory_mib);
        words.extend(["-machine", "pc", "-smp", "1", "-m", &memory].map(str::to_owned));
        words.extend(["-device", USB_HOST].map(str::to_owned));
        words
    }

    /// What a boot needs.
    #[must_use]
    pub fn boot_arguments(&self) -> Vec<OsString> {
        vec![
            "-kernel".into(),
            self.kernel.clone().into(),
            "-initrd".into(),
            self.initramfs.clone().into(),
            "-append".into(),
            KERNEL_PARAMETERS.into(),
        ]
    }

    /// `la57=off`: five-level paging slows TCG down and nothing here needs it. `cx16=off`: QEMU 7.2 at times loses the flags of
    /// `cmpxchg16b`, and the kernel panics while it allocates memory; without it the allocator takes locks.
    fn accel_arguments(&self) -> [&'static str; 4] {
        match self.accel {
            Accel::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accel::Tcg => ["-accel", "tcg,tb-size=128", "-cpu", "max,la57=off,cx16=off"],
        }
    }
}
