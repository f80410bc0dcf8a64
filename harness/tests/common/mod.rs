//! What tests with real guests share: the payload that xtask built, and an image.

#![allow(dead_code, reason = "each test program uses a part of this")]

pub(crate) mod processes;
pub(crate) mod tshark;

use evidence::Scenario;
use harness::accel;
use harness::case::{self, CaseResult, Setting, Start};
use harness::drive::{Image, Payload, Sign, Watch};
use harness::images::Images;
use harness::machine::Accel;
use harness::payload::Built;
use harness::progress::Progress;
use harness::saves::Saves;
use kernels::KernelId;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

/// Everything that a run needs, provided once per test process.
pub(crate) struct Lab {
    pub(crate) images: Images,
    pub(crate) built: Built,
    pub(crate) saves: Saves,
    accel: OnceLock<Accel>,
}

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The lab of this process.
pub(crate) fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let images = Images::open(None, None, repository()).unwrap();
        let saves = Saves::new(images.cache().clone()).unwrap();
        Lab {
            images,
            built: Built::load().unwrap(),
            saves,
            accel: OnceLock::new(),
        }
    })
}

/// A run with something unusual about it.
pub(crate) struct Run<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) scenario: Scenario,
    pub(crate) payload: Payload,
    /// Does it begin with a machine that other runs begin with, probes and all?
    pub(crate) shared: bool,
    pub(crate) patience: Duration,
    pub(crate) watch: &'a (dyn Fn(Sign<'_>) + Sync),
}

impl Run<'_> {
    /// A regular run.
    pub(crate) fn new(kernel: &str, scenario: Scenario) -> Run<'_> {
        Run {
            kernel,
            scenario,
            payload: lab().built.payload.clone(),
            shared: false,
            patience: Duration::from_secs(60),
            watch: &|_| {},
        }
    }

    /// Carries it out.
    pub(crate) fn go(self) -> CaseResult {
        let lab = lab();
        let kernel: KernelId = self.kernel.parse().unwrap();
        let image = image(&kernel);
        let setting = Setting {
            accel: accel(&image),
            start: if self.shared {
                Start::RestoreReady(&lab.saves)
            } else {
                Start::Restore(&lab.saves)
            },
            payload: &self.payload,
            line: &|_| {},
            keep: None,
            captures: false,
        };
        let watch = Watch {
            patience: self.patience,
            cancelled: &|| false,
            progress: self.watch,
        };
        case::run(&kernel, &image, setting, &self.scenario, watch)
    }
}

/// Who executes guests here.
pub(crate) fn accel(image: &Image) -> Accel {
    let choose = || accel::choose(None, image, lab().images.folder(), &|| false).accel;
    *lab().accel.get_or_init(choose)
}

/// The image of a kernel.
pub(crate) fn image(kernel: &KernelId) -> Image {
    let lab = lab();
    lab.images
        .provide(kernel, &lab.built.stage0, true, &Progress::hidden())
        .unwrap()
}

/// The scenario of that name.
pub(crate) fn scenario(name: &str) -> Scenario {
    let all = harness::scenarios::all();
    all.into_iter().find(|s| s.name == name).unwrap()
}
