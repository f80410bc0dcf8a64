//! Putting a report into files.

use super::Report;
use crate::bundle;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where a report is to go, form by form.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Files {
    /// Write everything into this folder: report.json, junit.xml, report.md, index.html, and a
    /// bundle for each failure
    #[arg(long, value_name = "FOLDER")]
    pub report: Option<PathBuf>,
    /// Write JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write Markdown to this file
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write one self-contained HTML page to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Why a report is not in its file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file cannot be written.
    #[error("failed to write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name or text cannot be XML.
    #[error("failed to make JUnit XML")]
    Junit(#[from] quick_junit::SerializeError),
    /// It cannot be JSON.
    #[error("failed to make JSON")]
    Json(#[from] serde_json::Error),
}

impl Files {
    /// The folder for bundles, if there is to be one.
    #[must_use]
    pub fn bundles(&self) -> Option<PathBuf> {
        self.report
            .as_ref()
            .map(|folder| folder.join(bundle::FOLDER))
    }

    /// Writes every form that is asked for.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write(&self, report: &Report) -> Result<(), WriteError> {
        let within = |name: &str| self.report.as_ref().map(|folder| folder.join(name));
        for file in [&self.junit, &within("junit.xml")].into_iter().flatten() {
            put(file, &report.to_junit()?)?;
        }
        for file in [&self.markdown, &within("report.md")].into_iter().flatten() {
            put(file, &report.to_markdown())?;
        }
        for file in [&self.html, &within("index.html")].into_iter().flatten() {
            put(file, &report.to_html())?;
        }
        if let Some(file) = within("report.json") {
            put(&file, &report.to_json()?)?;
        }
        Ok(())
    }
}

impl Report {
    /// JSON, for [`Report::read`] and for other tools.
    ///
    /// # Errors
    /// A value cannot be JSON.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|text| text + "\n")
    }
}

/// The JSON Schema of a report.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(Report);
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}

/// Writes beside the file, then takes its place: a reader sees the old or the new, never half.
fn put(path: &Path, text: &str) -> Result<(), WriteError> {
    let failed = |source| WriteError::Io {
        path: path.to_owned(),
        source,
    };
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    fs::write(file.path(), text).map_err(failed)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(file.path(), readable).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::samples::{differs, report};

    /// Check that the schema in the repository is that of the code. To renew it:
    /// `cargo xtask report --schema > harness/report.schema.json`.
    #[test]
    fn schema_file_is_current() {
        let kept = include_str!("../../report.schema.json");
        assert!(
            kept == schema(),
            "harness/report.schema.json is out of date"
        );
    }

    /// Check that a folder gets every form, and that nothing else stays in it.
    #[test]
    fn write_to_folder_leaves_every_form_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files {
            report: Some(folder.path().join("new/report")),
            ..Files::default()
        };
        files
            .write(&report(vec![Outcome::Passed, differs()]))
            .unwrap();
        let entries = fs::read_dir(folder.path().join("new/report")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(
            names,
            ["index.html", "junit.xml", "report.json", "report.md"]
        );
    }

    /// Check that a place that cannot be written is named.
    #[test]
    fn write_to_impossible_place_names_it() {
        let files = Files {
            html: Some("/proc/nowhere/x.html".into()),
            ..Files::default()
        };
        let error = files.write(&report(vec![Outcome::Passed])).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    }
}
