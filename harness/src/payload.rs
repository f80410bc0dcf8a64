//! The payload as `cargo xtask payload` built it.

use crate::drive::Payload;
use anyhow::{Context as _, ensure};
use metrics::Family;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Names the folder with `stage0`, `agent` and `objects/*.bpf.o`. xtask sets it.
pub const VARIABLE: &str = "BT_PAYLOAD";

/// How the name of a kernel's BTF ends; before it is the kernel's release.
pub const BTF_SUFFIX: &str = ".btf";

/// Is this file of no use to a kernel of that release?
#[must_use]
pub fn is_of_another_kernel(name: &str, release: Option<&str>) -> bool {
    name.strip_suffix(BTF_SUFFIX)
        .is_some_and(|of| release != Some(of))
}

/// Everything that was built for guests.
#[derive(Debug, Clone)]
pub struct Built {
    /// PID 1 of the guest.
    pub stage0: Vec<u8>,
    /// What is pushed. Its objects are the real ones, in order of their names.
    pub payload: Payload,
    folder: PathBuf,
}

impl Built {
    /// Reads the folder that [`VARIABLE`] names.
    ///
    /// # Errors
    /// The variable is not set, or something is missing in the folder.
    pub fn load() -> anyhow::Result<Self> {
        let folder = env::var_os(VARIABLE).map(PathBuf::from).with_context(|| {
            format!("{VARIABLE} is not set; run this through `cargo xtask test-kernels` or `cargo xtask test`")
        })?;
        let payload = Payload {
            agent: read(&folder.join("agent"))?,
            objects: objects(&folder.join("objects"))?,
            agent_arguments: Vec::new(),
        };
        Ok(Self {
            stage0: read(&folder.join("stage0"))?,
            payload,
            folder,
        })
    }

    /// An object that is not pushed into every guest.
    ///
    /// # Errors
    /// It is not in the folder.
    pub fn extra_object(&self, name: &str) -> anyhow::Result<(String, Vec<u8>)> {
        let bytes = read(&self.folder.join("objects").join(name))?;
        Ok((name.to_owned(), bytes))
    }

    /// The same payload with the command btmetrics, whose values are judged in place of the agent's.
    ///
    /// # Errors
    /// It is not in the folder.
    pub fn with_btmetrics(&self) -> anyhow::Result<Payload> {
        let mut payload = self.payload.clone();
        let program = read(&self.folder.join("btmetrics"))?;
        payload.objects.push(("btmetrics".to_owned(), program));
        payload.agent_arguments.push("--btmetrics".to_owned());
        Ok(payload)
    }

    /// The same payload with one object in place of another: for showing that a wrong probe is
    /// noticed.
    ///
    /// # Errors
    /// The other object is not in the folder.
    pub fn with_object(&self, name: &str, instead: &str) -> anyhow::Result<Payload> {
        let bytes = read(&self.folder.join("objects").join(instead))?;
        let mut payload = self.payload.clone();
        let place = payload.objects.iter_mut().find(|(known, _)| known == name);
        place
            .with_context(|| format!("the payload has no object {name}"))?
            .1 = bytes;
        Ok(payload)
    }
}

/// One object per family, and BTFs of kernels that lack it. What else is there counts wrong on
/// purpose, for tests.
fn objects(folder: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut objects = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let family = name.strip_suffix(".bpf.o");
        let is_family = Family::ALL
            .iter()
            .any(|known| family == Some(known.as_str()));
        if is_family || name.ends_with(BTF_SUFFIX) {
            objects.push((name.to_owned(), read(&path)?));
        }
    }
    ensure!(!objects.is_empty(), "no .bpf.o in {}", folder.display());
    objects.sort();
    Ok(objects)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::is_of_another_kernel;
    use rstest::rstest;

    /// Check that a kernel gets the objects and its own BTF, and nobody else's.
    #[rstest]
    #[case("socket.bpf.o", Some("5.10.0-46-amd64"), false)]
    #[case("5.10.0-46-amd64.btf", Some("5.10.0-46-amd64"), false)]
    #[case("5.10.0-46-amd64.btf", Some("5.10.0-30-amd64"), true)]
    #[case("5.10.0-46-amd64.btf", None, true)]
    fn btfs_are_for_their_kernel(
        #[case] name: &str,
        #[case] release: Option<&str>,
        #[case] expected: bool,
    ) {
        assert_eq!(is_of_another_kernel(name, release), expected);
    }
}
