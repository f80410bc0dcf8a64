//! Finding the probe objects.

use std::env;
use std::path::{Path, PathBuf};

use metrics::Family;
use thiserror::Error;

/// The objects of one folder.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The folder.
    pub folder: PathBuf,
    /// Those that are there, in the order of the catalogue.
    pub files: Vec<(Family, PathBuf)>,
    /// The families that should have one and do not.
    pub missing: Vec<Family>,
}

/// No folder has any.
#[derive(Debug, Error)]
#[error(
    "no probe objects (socket.bpf.o …) in {}; say where they are with --objects",
    folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
)]
pub struct NoObjects {
    /// Where they were looked for.
    pub folders: Vec<PathBuf>,
}

/// Where packages put them, below the prefix.
const BELOW_PREFIX: &str = "lib/bluetooth-metrics";

impl Objects {
    /// The objects in `folder`, or in the first of the usual folders that has any: beside the
    /// program, `objects` beside it, `lib/bluetooth-metrics` of its prefix, of `/usr/local`, of
    /// `/usr`.
    ///
    /// # Errors
    ///
    /// Names the folders that have none.
    pub fn find(folder: Option<&Path>) -> Result<Self, NoObjects> {
        let folders = match folder {
            Some(folder) => vec![folder.to_owned()],
            None => usual_folders(env::current_exe().ok().as_deref()),
        };
        let found = folders.iter().map(|folder| Self::of(folder));
        let found = found.into_iter().find(|objects| !objects.files.is_empty());
        found.ok_or(NoObjects { folders })
    }

    fn of(folder: &Path) -> Self {
        let file = |family: &Family| folder.join(probes::object_name(*family));
        let (there, missing): (Vec<Family>, Vec<Family>) = probes::FAMILIES
            .iter()
            .partition(|family| file(family).is_file());
        Self {
            folder: folder.to_owned(),
            files: there.iter().map(|family| (*family, file(family))).collect(),
            missing,
        }
    }
}

fn usual_folders(program: Option<&Path>) -> Vec<PathBuf> {
    let beside = program.and_then(Path::parent);
    let own = beside.into_iter().flat_map(|beside| {
        let prefix = beside.parent().map(|prefix| prefix.join(BELOW_PREFIX));
        [
            Some(beside.to_owned()),
            Some(beside.join("objects")),
            prefix,
        ]
    });
    let installed = ["/usr/local", "/usr"].map(|prefix| Some(Path::new(prefix).join(BELOW_PREFIX)));
    let mut folders: Vec<PathBuf> = own.chain(installed).flatten().collect();
    folders.dedup();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a program in a prefix looks beside itself first, then where packages put objects.
    #[test]
    fn usual_folders_begin_beside_the_program() {
        let folders = usual_folders(Some(Path::new("/opt/bt/bin/btmetrics")));
        let expected = [
            "/opt/bt/bin",
            "/opt/bt/bin/objects",
            "/opt/bt/lib/bluetooth-metrics",
            "/usr/local/lib/bluetooth-metrics",
            "/usr/lib/bluetooth-metrics",
        ];
        assert_eq!(folders, expected.map(PathBuf::from));
    }

    /// Check that a folder without objects is an error that names it and the way out.
    #[test]
    fn find_in_folder_without_objects_names_it() {
        let error = Objects::find(Some(Path::new("/nowhere"))).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("/nowhere") && text.contains("--objects"),
            "{text}"
        );
    }
}
