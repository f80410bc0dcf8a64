//! These controllers against BlueZ's, in the same kernel: the same traffic gives the same values.
//!
//! What a controller decides by itself has to be the same for that: ours get the numbers of btvirt's buffers, and acknowledge at once.

use crate::common::{Run, image, lab, repository, scenario};
use controller::{AckPolicy, BufferSize};
use evidence::{Scenario, Transport};
use kernels::Lock;
use metrics::{Family, Series, Snapshot, diff};
use rstest::rstest;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const KERNEL: &str = "debian:6.12";
/// As btvirt has it. BlueZ: emulator/btdev.c.
const BUFFERS: BufferSize = BufferSize {
    mtu: 192,
    packets: 1,
};

/// What has the kernel encrypt for a process, in the order in which it is inserted.
const MODULES: [&str; 3] = ["af_alg", "algif_hash", "algif_skcipher"];

/// btvirt with everything that it needs in a guest, or what this machine lacks for that.
fn files() -> Result<Vec<(String, Vec<u8>)>, &'static str> {
    let btvirt = btvirt().ok_or("btvirt (Debian: package bluez-test-tools)")?;
    let modules = modules().ok_or("dpkg-deb, tar and xz, or the kernel's package")?;
    Ok(btvirt.into_iter().chain(modules).collect())
}

/// The modules, out of the package in the cache: images hold only what Bluetooth needs.
fn modules() -> Option<Vec<(String, Vec<u8>)>> {
    let kernel = KERNEL.parse().unwrap();
    let _provided = image(&kernel);
    let lock = Lock::load(&repository().join("kernels.lock")).unwrap();
    let packages = &lock.get(&kernel).unwrap().packages;
    let folder = tempfile::tempdir().unwrap();
    for package in packages {
        let file = format!("{}.deb", package.sha256);
        let package = lab().images.folder().join("packages").join(file);
        let script = "dpkg-deb --fsys-tarfile \"$0\" | tar -x --transform 's,.*/,,' --wildcards \
             '*/af_alg.ko.xz' '*/algif_hash.ko.xz' '*/algif_skcipher.ko.xz' && xz -d ./*.xz";
        let mut unpack = Command::new("sh");
        unpack.arg("-c").arg(script).arg(package);
        unpack.current_dir(folder.path()).output().unwrap();
    }
    let read = |(number, name)| {
        let bytes = fs::read(folder.path().join(format!("{name}.ko"))).ok()?;
        Some((format!("{number}-{name}.ko"), bytes))
    };
    MODULES.into_iter().enumerate().map(read).collect()
}

/// btvirt, its loader and its library.
fn btvirt() -> Option<Vec<(String, Vec<u8>)>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("btvirt"));
    let libraries = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6"];
    let files: [(&str, Vec<PathBuf>); 3] = [
        ("btvirt", on_path.collect()),
        ("ld.so", vec!["/lib64/ld-linux-x86-64.so.2".into()]),
        ("libc.so.6", libraries.map(PathBuf::from).into()),
    ];
    let read = |(name, places): (&str, Vec<PathBuf>)| {
        let bytes = places.iter().find_map(|place| fs::read(place).ok())?;
        Some((name.to_owned(), bytes))
    };
    files.into_iter().map(read).collect()
}

/// The traffic that is compared.
#[derive(Clone, Copy)]
struct Traffic {
    scenario: &'static str,
    /// The buffers that its packets take, as label `kind`.
    pool: &'static str,
    /// How many reads a stream takes, and how many acknowledgements, is a matter of time.
    is_stream: bool,
}

impl Traffic {
    /// The scenario with ours: with btvirt's buffers, as many as these.
    fn ours(self, packets: u16) -> Scenario {
        let mut scenario = scenario(self.scenario);
        for profile in &mut scenario.controllers {
            profile.ack = AckPolicy::Immediate;
            let buffers = match self.pool {
                "le" => &mut profile.le,
                _ => &mut profile.acl,
            };
            *buffers = BufferSize { packets, ..BUFFERS };
        }
        scenario
    }

    fn theirs(self) -> Scenario {
        let scenario = self.ours(BUFFERS.packets);
        let transports = vec![Transport::Btvirt; scenario.controllers.len()];
        Scenario {
            transports,
            ..scenario
        }
    }

    /// Does it depend on the traffic alone, and neither on how a controller is set up nor on time?
    fn compares(self, series: &Series) -> bool {
        let is = |label, value| series.labels.get(label) == Some(value);
        let metric = series.metric.as_str();
        match metric.strip_prefix("bluetooth_").unwrap_or(metric) {
            "socket_calls_total" => !(self.is_stream && is("direction", "read")),
            "socket_bytes_total" => true,
            _ if self.is_stream || metric.ends_with("_seconds") => false,
            "hci_packets_total" | "hci_bytes_total" => is("kind", "acl"),
            _ => is("kind", self.pool),
        }
    }

    fn observed(self, scenario: Scenario, files: Vec<(String, Vec<u8>)>) -> Snapshot {
        let mut run = Run::new(KERNEL, scenario);
        run.payload.objects.extend(files);
        let result = run.go();
        assert!(result.evidence.done, "{:?}", result.outcome);
        let observed = result.evidence.observed.unwrap();
        observed
            .restrict(&[Family::Socket, Family::Credits, Family::Hci])
            .filter(|series, _| self.compares(series))
    }
}

/// Check that both give the same values, and that these are not a few; and that with one buffer more they are others.
#[rstest]
#[case::seqpacket(Traffic { scenario: "l2cap-seqpacket", pool: "acl", is_stream: false }, true)]
#[case::stream(Traffic { scenario: "l2cap-stream-and-ertm", pool: "acl", is_stream: true }, false)]
#[case::fragmented(Traffic { scenario: "l2cap-fragmented", pool: "acl", is_stream: false }, false)]
#[case::le(Traffic { scenario: "l2cap-le-coc", pool: "le", is_stream: false }, false)]
fn btvirt_gives_the_same_values(#[case] traffic: Traffic, #[case] controlled: bool) {
    let files = match files() {
        Ok(files) => files,
        Err(lacking) => {
            eprintln!("not applicable: this machine has not {lacking}");
            return;
        }
    };
    let expected = traffic.observed(traffic.theirs(), files);
    let least = if traffic.is_stream { 3 } else { 12 };
    assert!(expected.len() >= least, "{expected:#?}");
    let differing = |packets| {
        let observed = traffic.observed(traffic.ours(packets), Vec::new());
        let differences = diff(&expected, &observed);
        let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
        differences.join("\n")
    };
    assert_eq!(differing(BUFFERS.packets), "");
    if controlled {
        let told = differing(BUFFERS.packets + 1);
        assert!(told.contains("bluetooth_hci_slots_capacity"), "{told}");
    }
}
