//! A bootable image for a kernel of kernels.toml, made once and kept.

use crate::drive::Image;
use crate::needs::KernelConfig;
use crate::progress::{Progress, Task};
use anyhow::Context as _;
use kernels::modules::ModuleSet;
use kernels::{Keep, KernelId, Lock, Manifest};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vm_images::{
    Cache, Context, Event, Mirrors, NewSeries, Newest, ensure_kernel, fetch_package, initramfs,
};

/// The modules that an image carries. Stage 0 loads the first set by itself, the others on order.
const SETS: [ModuleSet; 3] = [ModuleSet::Bare, ModuleSet::Bluetooth, ModuleSet::Usb];

/// Where images come from.
#[derive(Debug)]
pub struct Images {
    cache: Cache,
    mirrors: Mirrors,
    manifest: Manifest,
    manifest_file: PathBuf,
    lock_file: PathBuf,
}

impl Images {
    /// Opens the cache.
    ///
    /// # Errors
    /// The cache or kernels.toml cannot be used.
    pub fn open(
        cache: Option<&Path>,
        mirror: Option<&str>,
        repository: &Path,
    ) -> anyhow::Result<Self> {
        let manifest_file = repository.join("kernels.toml");
        Ok(Self {
            cache: Cache::open(cache)?,
            mirrors: Mirrors::new(mirror),
            manifest: Manifest::load(&manifest_file)?,
            manifest_file,
            lock_file: repository.join("kernels.lock"),
        })
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The cache's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.cache.root()
    }

    /// The kernels that there are.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The image of one kernel: fetched, checked and unpacked if it is not in the cache.
    ///
    /// # Errors
    /// The kernel cannot be had, or lacks what a guest needs.
    pub fn provide(
        &self,
        kernel: &KernelId,
        stage0: &[u8],
        locked: bool,
        progress: &Progress,
    ) -> anyhow::Result<Image> {
        let shown = Shown::of(kernel, progress);
        let context = self.context(&shown);
        let names: Vec<&str> = SETS.iter().flat_map(|set| set.names()).collect();
        let ready = ensure_kernel(
            &context,
            &self.manifest,
            &self.lock_file,
            kernel,
            locked,
            Keep::Closure(&names),
        )?;
        if let Some(replaced) = &ready.replaced {
            progress.line(&format!(
                "warning: {kernel}: version {} has left the archive; took {} and updated kernels.lock",
                replaced.old.version, replaced.new.version
            ));
        }
        let boot = if ready
            .tree
            .has_pvh_entry()
            .context("failed to look at the kernel")?
        {
            ready.tree.vmlinux()
        } else {
            ready.tree.vmlinuz()
        };
        let initramfs = initramfs(&self.cache, &ready.tree, stage0, &SETS)?;
        let config = ready.tree.config();
        let config = config.and_then(|path| KernelConfig::read(&path).ok());
        Ok(Image {
            kernel: boot,
            initramfs,
            release: ready.tree.release().to_owned(),
            config: config.map(Arc::new),
        })
    }

    fn context<'a>(&'a self, shown: &'a Shown<'_>) -> Context<'a> {
        Context {
            cache: &self.cache,
            mirrors: &self.mirrors,
            progress: shown,
        }
    }

    /// The packages of a kernel of the archive, as they are installed. Downloaded if they have left the cache: nothing needs
    /// them once they are unpacked.
    ///
    /// # Errors
    /// The kernel is not in kernels.lock, or a package cannot be had.
    pub fn packages(&self, kernel: &KernelId, progress: &Progress) -> anyhow::Result<Vec<PathBuf>> {
        let shown = Shown::of(kernel, progress);
        let context = self.context(&shown);
        let lock = Lock::load(&self.lock_file)?;
        let locked = lock
            .get(kernel)
            .with_context(|| format!("{kernel} is not a kernel of the archive"))?;
        let packages = locked.packages.iter();
        let packages = packages.map(|package| fetch_package(&context, package));
        Ok(packages.collect::<Result<_, _>>()?)
    }

    /// Adds to kernels.toml every series of the archive that is newer than all that it lists.
    ///
    /// # Errors
    /// There is no mirror, or kernels.toml cannot be written.
    pub fn add_new_series(&mut self, progress: &Progress) -> anyhow::Result<Newest> {
        let shown = Shown {
            task: progress.task("index"),
            progress,
        };
        let context = Context {
            cache: &self.cache,
            mirrors: &self.mirrors,
            progress: &shown,
        };
        let newest = vm_images::new_series(&context, &self.manifest)?;
        if !newest.series.is_empty() {
            let file = &self.manifest_file;
            let failed = || format!("failed to write {}", file.display());
            let mut text = fs::read_to_string(file)?;
            for NewSeries { id, suite } in &newest.series {
                text.push_str(&format!("\"{id}\" = {{ suite = \"{suite}\" }}\n"));
            }
            self.manifest = Manifest::parse(&text, file)?;
            fs::write(file, text).with_context(failed)?;
        }
        Ok(newest)
    }

    /// Refreshes kernels.lock from the archive's index.
    ///
    /// # Errors
    /// There is no mirror, or the lock cannot be read.
    pub fn update(&self, progress: &Progress) -> anyhow::Result<vm_images::Update> {
        let shown = Shown {
            task: progress.task("index"),
            progress,
        };
        let context = Context {
            cache: &self.cache,
            mirrors: &self.mirrors,
            progress: &shown,
        };
        let old = kernels::Lock::load(&self.lock_file)?;
        Ok(vm_images::update_lock(&context, &self.manifest, &old)?)
    }

    /// Where the lock is.
    #[must_use]
    pub fn lock_file(&self) -> &Path {
        &self.lock_file
    }
}

/// Shows what goes on while a kernel is provided.
struct Shown<'a> {
    task: Task,
    progress: &'a Progress,
}

impl<'a> Shown<'a> {
    fn of(kernel: &KernelId, progress: &'a Progress) -> Self {
        let task = progress.task(&kernel.to_string());
        Self { task, progress }
    }
}

impl vm_images::Progress for Shown<'_> {
    fn report(&self, event: Event<'_>) {
        const MIB: f64 = 1_048_576.0;
        #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let mib = |bytes: u64| bytes as f64 / MIB;
        match event {
            Event::Downloading {
                name,
                done_bytes,
                total_bytes,
            } => {
                let total = total_bytes.map_or_else(String::new, |b| format!(" of {:.1}", mib(b)));
                self.task.at(&format!(
                    "fetching {name}: {:.1}{total} MiB",
                    mib(done_bytes)
                ));
            }
            Event::Downloaded { name, bytes, took } => self.progress.line(&format!(
                "  fetched  {name} ({:.1} MiB in {:.1} s)",
                mib(bytes),
                took.as_secs_f64()
            )),
            Event::Unpacking { release } => self.task.at(&format!("unpacking {release}")),
            Event::Unpacked { release, took } => {
                self.progress.line(&format!(
                    " unpacked  {release} in {:.1} s",
                    took.as_secs_f64()
                ));
            }
            Event::Waiting { name } => {
                self.task
                    .at(&format!("waiting for another process that makes {name}"));
            }
            _ => {}
        }
    }
}
