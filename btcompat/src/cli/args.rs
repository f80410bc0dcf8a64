//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Says whether eBPF objects work on kernels, and why, without booting them.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit status:
  0  everything asked about works
  1  the question could not be answered (a file is missing or damaged)
  2  wrong usage
  3  some of it works
  4  nothing of it works
  5  it cannot be told
  6  something really came otherwise than foretold (check --load)

A KERNEL is one of:
  host              the running kernel
  FILE              a snapshot, vmlinuz or vmlinux (--module-dir adds modules), or .deb or .rpm packages joined by commas
  DIRECTORY         an unpacked package or kernel, or a build tree
  debian:6.12       a kernel of kernels.lock that is in the cache";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Which metrics or programs work here, or on the given kernels
    Check {
        /// Really load and attach every program into this kernel, as root, and compare
        #[arg(long, conflicts_with = "kernel")]
        load: bool,
        #[command(flatten)]
        judging: Judging,
    },
    /// Objects against many kernels, as a table
    Matrix(Judging),
    /// What an object asks of a kernel, as JSON
    Requirements {
        /// Compiled object (.bpf.o)
        object: PathBuf,
    },
    /// What a kernel offers, in a few lines
    Surface {
        /// Kernel
        #[arg(default_value = "host")]
        kernel: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        inputs: Inputs,
    },
    /// Write what a kernel offers to one small file
    Snapshot {
        /// Kernel
        #[arg(default_value = "host")]
        kernel: String,
        /// File to write
        #[arg(short, long)]
        output: PathBuf,
        #[command(flatten)]
        inputs: Inputs,
    },
    /// What changed between two kernels, for objects or for all Bluetooth functions
    Diff {
        /// Old kernel
        old: String,
        /// New kernel
        new: String,
        /// Only what these objects use
        #[arg(long)]
        object: Vec<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        inputs: Inputs,
    },
    /// What a code means and what can be done
    Explain {
        /// Code, such as FN-INLINED; all are listed without one
        code: Option<String>,
    },
    /// Print what makes a shell complete this program's words
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Where kernels are found.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Inputs {
    /// Modules to read besides the Bluetooth ones: names joined by commas, or all
    #[arg(long, value_name = "NAMES", default_value = "")]
    pub(crate) read_modules: String,
    /// Folder with the modules of a kernel that is given as one file
    #[arg(long, value_name = "FOLDER")]
    pub(crate) module_dir: Option<PathBuf>,
    /// Debugging information of the kernel or of modules (vmlinux, .ko, .ko.debug): tells inlined calls
    #[arg(long, value_name = "FILE")]
    pub(crate) debug_info: Vec<PathBuf>,
    /// Lock file that kernel ids are looked up in
    #[arg(long, value_name = "FILE", default_value = "kernels.lock")]
    pub(crate) lock: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Judging {
    /// Object or directory of objects; this project's probes by default
    #[arg(long, short = 'O', value_name = "FILE")]
    pub(crate) object: Vec<PathBuf>,
    /// Kernel, may be given more than once; the running one by default
    #[arg(long, short = 'K', value_name = "KERNEL", num_args = 1..)]
    pub(crate) kernel: Vec<String>,
    /// Modules taken for loaded: actual, all, none, or names joined by commas
    #[arg(long, value_name = "NAMES", default_value = "actual")]
    pub(crate) modules: String,
    /// Capabilities of the loading process: all, none, or bpf,perfmon,sys_admin
    #[arg(long, value_name = "CAPS")]
    pub(crate) caps: Option<String>,
    /// BTF that objects are loaded with in place of the kernel's own (this project's probes: besides it), for kernels without module BTF
    #[arg(long, value_name = "FILE")]
    pub(crate) btf: Option<PathBuf>,
    /// Rules of this libbpf
    #[arg(long, value_name = "VERSION", default_value = "1.7")]
    pub(crate) libbpf_version: String,
    /// Output
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// Same as --format json
    #[arg(long)]
    pub(crate) json: bool,
    /// All programs and notes
    #[arg(long, short)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) inputs: Inputs,
}

impl Judging {
    /// The output that is asked for.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs, see the schema
    Json,
    /// For merge requests
    Markdown,
    /// For continuous integration
    Junit,
    /// Heat map
    Html,
}
