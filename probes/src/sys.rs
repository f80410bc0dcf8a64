//! The calls that libbpf-rs does not wrap.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int, c_long};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_rs::{AsRawLibbpf, Link, ProgramMut};
use libbpf_sys::{
    BPF_F_SLEEPABLE, BPF_PROG_TYPE_SYSCALL, BPF_PROG_TYPE_TRACING, BPF_STATS_RUN_TIME,
    BPF_TRACE_FENTRY, BPF_TRACE_FEXIT, bpf_attach_type, bpf_btf_get_fd_by_id,
    bpf_btf_get_info_by_fd, bpf_btf_get_next_id, bpf_btf_info, bpf_enable_stats, bpf_kprobe_opts,
    bpf_prog_get_info_by_fd, bpf_prog_info, bpf_prog_load, bpf_prog_load_opts,
    bpf_prog_test_run_opts, bpf_program, bpf_program__attach_kprobe_opts, bpf_test_run_opts,
    libbpf_prog_handler_opts, libbpf_register_prog_handler, libbpf_unregister_prog_handler,
};

/// Runs of a program that the kernel skipped, because it was already running on that CPU.
///
/// Kernels before 5.12 do not count them and answer 0.
pub(crate) fn recursion_misses(prog: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(prog_info(prog)?.recursion_misses)
}

/// What the kernel tells of a program. What a kernel does not know is 0.
pub(crate) fn prog_info(prog: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    let mut info = bpf_prog_info::default();
    let mut length = u32::try_from(size_of::<bpf_prog_info>()).map_err(io::Error::other)?;
    // SAFETY: `info` is writable for `length` bytes, and all its pointers and counts are 0, so that
    // the kernel writes to nothing else.
    let result =
        unsafe { bpf_prog_get_info_by_fd(prog.as_raw_fd(), &raw mut info, &raw mut length) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(info)
}

/// Attaches a program at the entry or return of the function at an address.
///
/// An empty name makes the offset an address. Kernel: v6.12 kernel/trace/trace_event_perf.c perf_kprobe_init().
pub(crate) fn attach_kprobe_at(
    program: &ProgramMut<'_>,
    is_return: bool,
    address: usize,
) -> io::Result<Link> {
    let options = bpf_kprobe_opts {
        sz: size_of::<bpf_kprobe_opts>() as u64,
        offset: address as u64,
        retprobe: is_return,
        ..Default::default()
    };
    let raw = program.as_libbpf_object().as_ptr();
    // SAFETY: `raw` is a program of libbpf's that is loaded and outlives the call, as do the empty name,
    // which ends with 0, and the options, whose size is theirs.
    let link = unsafe { bpf_program__attach_kprobe_opts(raw, c"".as_ptr(), &raw const options) };
    let link = NonNull::new(link).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: libbpf just made this link and nobody else has it.
    Ok(unsafe { Link::from_ptr(link) })
}

/// Has the kernel count runs and times of all programs, while the descriptor is open.
pub(crate) fn enable_run_stats() -> io::Result<OwnedFd> {
    // SAFETY: takes no memory.
    let raw = unsafe { bpf_enable_stats(BPF_STATS_RUN_TIME) };
    if raw < 0 {
        return Err(io::Error::from_raw_os_error(-raw));
    }
    // SAFETY: the kernel just returned this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A file without a name, gone with this value.
#[derive(Debug)]
pub(crate) struct MemoryFile(File);

impl MemoryFile {
    /// Makes one with this content.
    pub(crate) fn new(content: &[u8]) -> io::Result<Self> {
        // SAFETY: the name is a string that ends with 0; the result is checked below.
        let raw = unsafe { libc::memfd_create(c"btf".as_ptr(), libc::MFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just returned this descriptor and nobody else has it.
        let mut file = File::from(unsafe { OwnedFd::from_raw_fd(raw) });
        file.write_all(content)?;
        Ok(Self(file))
    }

    /// The name by which this process can open it.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// Handles of the kernel's BTFs, by the module's name; the kernel's own is `vmlinux`.
pub(crate) type KernelBtfs = HashMap<String, OwnedFd>;

/// The kernel's BTFs: handles that attachments refer to.
///
/// # Errors
///
/// What bpf(2) says; kernels before 5.11 have none of modules.
pub(crate) fn kernel_btfs() -> io::Result<KernelBtfs> {
    let mut found = HashMap::new();
    let mut id = 0;
    loop {
        // SAFETY: `id` is read and written for the call alone.
        if unsafe { bpf_btf_get_next_id(id, &raw mut id) } < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOENT) => Ok(found),
                _ => Err(error),
            };
        }
        // SAFETY: takes no memory.
        let raw = unsafe { bpf_btf_get_fd_by_id(id) };
        if raw < 0 {
            // It may have gone meanwhile.
            continue;
        }
        // SAFETY: the kernel just returned this descriptor and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        if let Some(name) = kernel_btf_name(&fd)? {
            found.insert(name, fd);
        }
    }
}

/// The name of a BTF if it is the kernel's or a module's.
fn kernel_btf_name(btf: &OwnedFd) -> io::Result<Option<String>> {
    let mut name = [0_u8; 64];
    let mut info = bpf_btf_info {
        name: name.as_mut_ptr().expose_provenance() as u64,
        name_len: 64,
        ..Default::default()
    };
    let mut length = u32::try_from(size_of::<bpf_btf_info>()).map_err(io::Error::other)?;
    // SAFETY: `info` is writable for `length` bytes, and its one pointer is good for `name_len`.
    let result = unsafe { bpf_btf_get_info_by_fd(btf.as_raw_fd(), &raw mut info, &raw mut length) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    let name = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    Ok((info.kernel_btf != 0).then(|| name.to_string_lossy().into_owned()))
}

/// The bytes of a BTF.
pub(crate) fn btf_bytes(btf: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::new();
    // Once for the length, once for the bytes.
    for _ in 0..2 {
        let mut info = bpf_btf_info {
            btf: bytes.as_mut_ptr().expose_provenance() as u64,
            btf_size: u32::try_from(bytes.len()).map_err(io::Error::other)?,
            ..Default::default()
        };
        let mut length = u32::try_from(size_of::<bpf_btf_info>()).map_err(io::Error::other)?;
        // SAFETY: `info` is writable for `length` bytes, and its one pointer is good for `btf_size`.
        let result =
            unsafe { bpf_btf_get_info_by_fd(btf.as_raw_fd(), &raw mut info, &raw mut length) };
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        bytes.resize(info.btf_size as usize, 0);
    }
    Ok(bytes)
}

/// Loads a program of type syscall and runs it once with this context, which it may write to; says what it
/// returned. Instructions are numbers as they lie in memory.
///
/// # Errors
///
/// What bpf(2) says; kernels before 5.14 have no such programs.
pub(crate) fn run_syscall_program(code: &[u64], context: &mut [u8]) -> io::Result<u32> {
    let mut options = bpf_prog_load_opts {
        sz: size_of::<bpf_prog_load_opts>() as u64,
        prog_flags: BPF_F_SLEEPABLE,
        ..Default::default()
    };
    // SAFETY: the strings end with 0, there are `len` instructions of 8 bytes each at the pointer, and all
    // of it outlives the call.
    let raw = unsafe {
        bpf_prog_load(
            BPF_PROG_TYPE_SYSCALL,
            c"look_up".as_ptr(),
            c"Dual BSD/GPL".as_ptr(),
            code.as_ptr().cast(),
            code.len() as u64,
            &raw mut options,
        )
    };
    if raw < 0 {
        return Err(io::Error::from_raw_os_error(-raw));
    }
    // SAFETY: the kernel just returned this descriptor and nobody else has it.
    let program = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut run = bpf_test_run_opts {
        sz: size_of::<bpf_test_run_opts>() as u64,
        ctx_in: context.as_mut_ptr().cast_const().cast(),
        ctx_size_in: u32::try_from(context.len()).map_err(io::Error::other)?,
        ..Default::default()
    };
    // SAFETY: the kernel reads and writes `ctx_size_in` bytes at `ctx_in`, which is made from a pointer that
    // may be written to.
    let result = unsafe { bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut run) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(run.retval)
}

/// A function as the kernel wants it named for fentry and fexit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BtfTarget {
    /// Handle of the module's BTF; 0: vmlinux's.
    pub(crate) btf_fd: u32,
    /// Number of the function there.
    pub(crate) function: u32,
}

static TARGETS: Mutex<Vec<BtfTarget>> = Mutex::new(Vec::new());

fn targets() -> MutexGuard<'static, Vec<BtfTarget>> {
    TARGETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has libbpf take the targets of fentry and fexit programs from [`TargetHandlers::ticket`], while
/// it lives, instead of looking for their names in all BTFs of the kernel.
///
/// libbpf has one table of handlers for the process: no other thread may load such programs then.
#[derive(Debug)]
pub(crate) struct TargetHandlers(Vec<c_int>);

impl TargetHandlers {
    /// Puts the handlers in place.
    pub(crate) fn install() -> io::Result<Self> {
        let mut handlers = Self(Vec::new());
        handlers.add(c"fentry+".into(), BPF_TRACE_FENTRY)?;
        handlers.add(c"fexit+".into(), BPF_TRACE_FEXIT)?;
        Ok(handlers)
    }

    fn add(&mut self, section: CString, attach: bpf_attach_type) -> io::Result<()> {
        let options = libbpf_prog_handler_opts {
            sz: size_of::<libbpf_prog_handler_opts>() as u64,
            prog_prepare_load_fn: Some(set_target),
            ..Default::default()
        };
        // SAFETY: libbpf copies the name and the options; the callback is a function of this
        // program and lives as long as it.
        let handler = unsafe {
            libbpf_register_prog_handler(
                section.as_ptr(),
                BPF_PROG_TYPE_TRACING,
                attach,
                &raw const options,
            )
        };
        if handler < 0 {
            return Err(io::Error::from_raw_os_error(-handler));
        }
        self.0.push(handler);
        Ok(())
    }

    /// What to give a program as the descriptor of the program that it attaches to, so that it
    /// attaches to this target. A number that libbpf hands on to the handler and to nobody else.
    #[expect(clippy::unused_self, reason = "only while the handlers are in place")]
    pub(crate) fn ticket(&self, target: BtfTarget) -> i32 {
        let mut targets = targets();
        targets.push(target);
        i32::try_from(targets.len()).unwrap_or(i32::MAX)
    }
}

impl Drop for TargetHandlers {
    fn drop(&mut self) {
        for handler in &self.0 {
            // SAFETY: takes no memory. It was registered by this value.
            unsafe { libbpf_unregister_prog_handler(*handler) };
        }
        targets().clear();
    }
}

/// Exchanges the ticket of a program for its target.
unsafe extern "C" fn set_target(
    _prog: *mut bpf_program,
    options: *mut bpf_prog_load_opts,
    _cookie: c_long,
) -> c_int {
    // SAFETY: libbpf calls this with options of its own, which nobody else uses meanwhile.
    let options = unsafe { &mut *options };
    let index = (options.attach_prog_fd as usize).checked_sub(1);
    let Some(target) = index.and_then(|index| targets().get(index).copied()) else {
        return -libc::EINVAL;
    };
    options.attach_prog_fd = 0;
    options.attach_btf_obj_fd = target.btf_fd;
    options.attach_btf_id = target.function;
    0
}
