//! Kernel packages and the files inside them.
//!
//! Which kernels there are ([`Manifest`], `kernels.toml`), the exact packages that stand for them ([`Lock`], `kernels.lock`), and what is
//! inside: [`unpack()`] turns packages into a [`KernelTree`], [`load_order()`] says in which order its modules can be inserted.
//!
//! Nothing here touches the network or starts a program, and no input, however broken, makes it panic, loop or allocate without bound.

#![forbid(unsafe_code)]

mod compress;
mod deb;
mod elf;
mod folder;
mod id;
mod load_order;
mod lock;
mod lz4;
mod manifest;
mod modinfo;
pub mod modules;
mod nearest;
pub mod package;
mod part;
mod rpm;
mod sha256;
mod signature;
mod spool;
mod strip;
mod tree;
mod unpack;
mod vmlinuz;

pub use compress::DecompressError;
pub use folder::{Folder, FolderError};
pub use id::{DebianName, KernelId, ParseKernelIdError, Source, UrlName};
pub use load_order::{LoadOrder, LoadOrderError, Missing, Module, load_order};
pub use lock::{Archive, Lock, LockError, LockedKernel, LockedPackage, NotLocked, Proof};
pub use manifest::{ChooseError, Entry, Manifest, ManifestError, UnknownGroup, UnknownKernel};
pub use modinfo::{Modinfo, ModinfoError};
pub use package::PackageError;
pub use sha256::{ParseSha256Error, Sha256};
pub use signature::{CertificateError, SignatureError, SignedModule, build_certificate};
pub use tree::{KernelTree, TreeError};
pub use unpack::{Item, Keep, UnpackError, for_each_item, unpack};
pub use vmlinuz::{VmlinuzError, extract_vmlinux, is_arm64_image};
