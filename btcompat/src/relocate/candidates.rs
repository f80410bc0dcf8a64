//! Which types of the kernel may be meant by a type of the object.

use super::LibbpfVersion;
use crate::btf::{Btf, Kind};
use std::ptr;
use std::sync::Arc;

/// One type of the kernel with the right name and kind.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'t> {
    /// The BTF it is defined in.
    pub btf: &'t Btf,
    /// Module that defines it; `None` for the kernel itself.
    pub module: Option<&'t str>,
    /// Its id.
    pub id: u32,
}

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.btf, other.btf) && self.id == other.id
    }
}

impl Eq for Candidate<'_> {}

/// The BTFs that a loader would search, in its order.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The kernel's own.
    pub vmlinux: Arc<Btf>,
    /// Loaded modules with readable BTF, in the order they were loaded.
    pub modules: Vec<(String, Arc<Btf>)>,
    /// Whether the loader may read module BTF (`CAP_SYS_ADMIN`).
    pub may_read_modules: bool,
}

/// The loader may not read module BTF and gives up instead of going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("module BTF cannot be read without CAP_SYS_ADMIN, and libbpf before 1.3 gives up")]
pub struct ModulesUnreadable;

impl Targets {
    /// The kernel alone, without modules.
    #[must_use]
    pub fn vmlinux_only(vmlinux: Arc<Btf>) -> Self {
        Self {
            vmlinux,
            modules: Vec::new(),
            may_read_modules: true,
        }
    }

    /// Candidates for the type `id` of an object. Modules are searched only
    /// when the kernel itself has none.
    ///
    /// # Errors
    /// When an old libbpf would fail for lack of privileges.
    pub fn candidates(
        &self,
        local: &Btf,
        id: u32,
        version: LibbpfVersion,
    ) -> Result<Vec<Candidate<'_>>, ModulesUnreadable> {
        let Some(root) = local.ty(id).filter(|t| !t.name().is_empty()) else {
            return Ok(Vec::new());
        };
        let mut found = add_candidates(&self.vmlinux, None, root.name(), root.kind());
        if !found.is_empty() {
            return Ok(found);
        }
        if !self.may_read_modules && !self.modules.is_empty() {
            if version.skips_unreadable_modules() {
                return Ok(found);
            }
            return Err(ModulesUnreadable);
        }
        for (name, btf) in &self.modules {
            found.extend(add_candidates(btf, Some(name), root.name(), root.kind()));
        }
        Ok(found)
    }
}

fn add_candidates<'t>(
    btf: &'t Btf,
    module: Option<&'t str>,
    name: &str,
    kind: Kind,
) -> Vec<Candidate<'t>> {
    btf.own_by_essential_name(name)
        .filter(|t| t.kind().core_compatible(kind))
        .map(|t| t.id)
        .map(|id| Candidate { btf, module, id })
        .collect()
}
