//! Which parts of a kernel the files of its packages hold, told by their paths.

use std::path::Path;

use crate::compress::Compression;
use crate::lock::is_plain_path;

/// A part of a kernel that a file of a package holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Vmlinuz,
    Config,
    Builtin,
    Module {
        name: &'a str,
        compression: Option<Compression>,
    },
}

impl<'a> Part<'a> {
    /// What the file `path` holds, and of which release.
    pub(crate) fn of(path: &'a Path) -> Option<(&'a str, Self)> {
        let path = path.to_str()?;
        let (release, part) = if let Some(name) = path.strip_prefix("boot/") {
            let (kind, release) = name.split_once('-')?;
            (release, Self::in_boot(kind)?)
        } else {
            let path = path.strip_prefix("usr/").unwrap_or(path);
            let (release, path) = path.strip_prefix("lib/modules/")?.split_once('/')?;
            (release, Self::in_modules(path)?)
        };
        (is_plain_path(release) && !release.contains('/')).then_some((release, part))
    }

    fn in_boot(kind: &str) -> Option<Self> {
        match kind {
            "vmlinuz" => Some(Self::Vmlinuz),
            "config" => Some(Self::Config),
            _ => None,
        }
    }

    fn in_modules(path: &'a str) -> Option<Self> {
        match path {
            "vmlinuz" => return Some(Self::Vmlinuz),
            "config" => return Some(Self::Config),
            "modules.builtin" => return Some(Self::Builtin),
            _ => {}
        }
        let (name, compression) = Self::module(path.rsplit('/').next()?)?;
        Some(Self::Module { name, compression })
    }

    /// The name and the compression of a module whose file is named `file`.
    pub(crate) fn module(file: &'a str) -> Option<(&'a str, Option<Compression>)> {
        let (name, extension) = file.split_once(".ko")?;
        let compression = match extension {
            "" => None,
            extension => Some(Compression::of_extension(extension.strip_prefix('.')?)?),
        };
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (plain && !name.is_empty()).then_some((name, compression))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Check which files are parts of a kernel.
    #[rstest]
    #[case("boot/vmlinuz-6.1", Some(("6.1", Part::Vmlinuz)))]
    #[case("usr/lib/modules/6.1/vmlinuz", Some(("6.1", Part::Vmlinuz)))]
    #[case("lib/modules/6.1/kernel/a-b.ko.xz", Some(("6.1", Part::Module { name: "a-b", compression: Some(Compression::Xz) })))]
    #[case("lib/modules/6.1/kernel/a.ko", Some(("6.1", Part::Module { name: "a", compression: None })))]
    #[case("lib/modules/6.1/kernel/a.ko.lzma", None)]
    #[case("lib/modules/6.1/kernel/a b.ko", None)]
    #[case("lib/modules/6.1/modules.order", None)]
    #[case("boot/initrd.img-6.1", None)]
    #[case("boot/vmlinuz-a b", None)]
    fn part_of_kernel_is_told_by_path(
        #[case] path: &str,
        #[case] expected: Option<(&str, Part<'_>)>,
    ) {
        assert_eq!(Part::of(Path::new(path)), expected);
    }
}
