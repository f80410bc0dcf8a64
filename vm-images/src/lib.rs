//! From `kernels.lock` to what a guest boots: packages are fetched and checked, unpacked once, and made into an initramfs.
//!
//! Everything lands in a [`Cache`] that several processes may use at once and that holds whole entries only, whatever interrupts them.

#![forbid(unsafe_code)]

mod cache;
mod child;
mod cpio;
mod deb822;
mod download;
mod fetch;
mod index;
mod initramfs;
mod inventory;
mod local;
mod lockfile;
mod mirror;
mod newest;
mod pool;
mod progress;
mod resolve;
mod saves;
mod update;

pub use cache::{Cache, CacheError, Kind, Unsound, Wanted};
pub use download::DownloadError;
pub use fetch::{
    Context, EnsureError, FetchError, Ready, Replaced, ensure_kernel, fetch_package, kernel_tree,
};
pub use index::{IndexError, Signature};
pub use initramfs::{InitramfsError, initramfs};
pub use inventory::{Damaged, Entry, Evicted};
pub use local::LocalError;
pub use mirror::{Mirror, MirrorError, Mirrors};
pub use newest::{NewSeries, Newest, new_series};
pub use pool::PoolError;
pub use progress::{Event, Progress, Quiet};
pub use resolve::ResolveError;
pub use saves::{SaveError, forget_saved, saved};
pub use update::{Change, PinError, Update, update_lock};
