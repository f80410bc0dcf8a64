//! `cache`: what is kept on disk, and what of it may go.

use super::print;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use harness::size::Size;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use vm_images::{Cache, Entry, Kind};

/// Options of `cache`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Folder for packages, kernels, images and saved machines [default: bluetooth-metrics in the user's cache folder]
    #[arg(long, value_name = "FOLDER", env = "BT_CACHE", global = true)]
    cache: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List every entry: size, last use, what it is (what `cache` alone does)
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what was not used for longest, until the rest is small enough; what is in use stays
    Evict {
        /// How much may stay, e.g. 20G; 0 removes everything that is not in use
        #[arg(long, value_name = "SIZE")]
        limit: Size,
        /// Only entries of this kind; may be given more than once [default: all]
        #[arg(long, value_enum)]
        kind: Vec<KindName>,
    },
    /// Read every entry and name those that are damaged; exit code 1 if there are any
    Verify {
        /// Remove what is damaged; it is made again when it is next wanted
        #[arg(long)]
        remove: bool,
    },
}

/// A kind of entry on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum KindName {
    /// Packages as downloaded
    Packages,
    /// Unpacked kernels
    Trees,
    /// Initramfs images
    Images,
    /// Saved machines
    Saves,
}

impl KindName {
    fn kind(self) -> Kind {
        match self {
            Self::Packages => Kind::Package,
            Self::Trees => Kind::Tree,
            Self::Images => Kind::Image,
            Self::Saves => Kind::Save,
        }
    }
}

/// An entry, for machines.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    kind: &'static str,
    name: &'a str,
    what: &'a str,
    path: String,
    size_bytes: u64,
    last_used_unix_seconds: u64,
    in_use: bool,
}

/// Lists, removes or checks.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let cache = Cache::open(options.cache.as_deref())?;
    match &options.command {
        None => list(&cache, false),
        Some(Command::List { json }) => list(&cache, *json),
        Some(Command::Evict { limit, kind }) => evict(&cache, *limit, kind),
        Some(Command::Verify { remove }) => verify(&cache, *remove),
    }
}

fn list(cache: &Cache, json: bool) -> anyhow::Result<ExitCode> {
    let entries = cache.entries()?;
    print(&if json {
        let listed: Vec<Listed<'_>> = entries.iter().map(Listed::new).collect();
        serde_json::to_string_pretty(&listed)? + "\n"
    } else {
        describe(cache, &entries, SystemTime::now())
    });
    Ok(ExitCode::SUCCESS)
}

impl<'a> Listed<'a> {
    fn new(entry: &'a Entry) -> Self {
        let since = entry.last_used.duration_since(UNIX_EPOCH);
        Self {
            kind: entry.kind.folder(),
            name: &entry.name,
            what: &entry.what,
            path: entry.path.display().to_string(),
            size_bytes: entry.size_bytes,
            last_used_unix_seconds: since.map_or(0, |since| since.as_secs()),
            in_use: entry.in_use,
        }
    }
}

/// The longest unused last, kind by kind, then the sums.
fn describe(cache: &Cache, entries: &[Entry], now: SystemTime) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["kind", "size", "last used", "what"]);
    for column in [1, 2] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by_key(|entry| (entry.kind, std::cmp::Reverse(entry.last_used)));
    for entry in &sorted {
        let used = if entry.in_use {
            "in use".to_owned()
        } else {
            ago(now, entry.last_used)
        };
        let size = bytes(entry.size_bytes);
        table.add_row([entry.kind.folder(), &size, &used, &entry.what]);
    }
    let mut text = format!("{table}\n\n");
    for kind in Kind::ALL {
        let of_kind = entries.iter().filter(|entry| entry.kind == kind);
        let (count, sum) = of_kind.fold((0, 0), |(n, sum), e| (n + 1, sum + e.size_bytes));
        let _ = writeln!(text, "{:>10}  {:<9} {count}", bytes(sum), kind.folder());
    }
    let sum = entries.iter().map(|entry| entry.size_bytes).sum();
    let _ = writeln!(
        text,
        "{:>10}  in all, in {}",
        bytes(sum),
        cache.root().display()
    );
    text
}

fn bytes(bytes: u64) -> String {
    Size { bytes }.to_string()
}

/// How long ago, in the largest unit.
fn ago(now: SystemTime, then: SystemTime) -> String {
    let seconds = now.duration_since(then).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

fn evict(cache: &Cache, limit: Size, kinds: &[KindName]) -> anyhow::Result<ExitCode> {
    let kinds: Vec<Kind> = kinds.iter().map(|name| name.kind()).collect();
    let evicted = cache.evict_of(limit.bytes, |entry| {
        kinds.is_empty() || kinds.contains(&entry.kind)
    })?;
    let mut text = String::new();
    for entry in &evicted.removed {
        let size = bytes(entry.size_bytes);
        let _ = writeln!(text, "removed  {size:>10}  {}", entry.what);
    }
    let (freed, left) = (bytes(evicted.freed_bytes), bytes(evicted.left_bytes));
    let _ = writeln!(text, "{freed} freed, {left} left");
    if evicted.left_bytes > limit.bytes {
        let _ = writeln!(text, "that is more than {limit}: the rest is in use");
    }
    print(&text);
    Ok(ExitCode::SUCCESS)
}

fn verify(cache: &Cache, remove: bool) -> anyhow::Result<ExitCode> {
    let mut damaged = cache.verify()?;
    damaged.extend(harness::saves::damaged(cache)?);
    let mut text = String::new();
    for found in &damaged {
        let _ = write!(text, "{}: {}", found.entry.path.display(), found.why);
        let removed = remove && cache.remove(&found.entry).context("failed to remove it")?;
        let _ = writeln!(text, "{}", if removed { "; removed" } else { "" });
    }
    if damaged.is_empty() {
        text.push_str("every entry is as it was made\n");
    }
    print(&text);
    Ok(ExitCode::from(u8::from(!damaged.is_empty() && !remove)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Check that a time is told in its largest unit, and one in the future as now.
    #[test]
    fn ago_tells_the_largest_unit() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let told = |seconds| ago(now, now - Duration::from_secs(seconds));
        assert_eq!(
            [0, 59, 60, 7200, 200_000].map(told),
            ["0 s ago", "59 s ago", "1 min ago", "2 h ago", "2 d ago"]
        );
        assert_eq!(ago(now, now + Duration::from_secs(9)), "0 s ago");
    }
}
