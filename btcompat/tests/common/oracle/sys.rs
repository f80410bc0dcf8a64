//! libbpf's own relocation functions. They are internal to libbpf but, being
//! in a static library, can be called.

use libbpf_sys::btf;
use std::ffi::{CString, c_char, c_int, c_void};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRelo {
    pub(crate) insn_off: u32,
    pub(crate) type_id: u32,
    pub(crate) access_str_off: u32,
    pub(crate) kind: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Cand {
    btf: *const btf,
    id: u32,
}

#[repr(C)]
struct CandList {
    cands: *mut Cand,
    len: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Res {
    pub(crate) orig_val: u64,
    pub(crate) new_val: u64,
    pub(crate) poison: bool,
    pub(crate) validate: bool,
    pub(crate) fail_memsz_adjust: bool,
    pub(crate) orig_sz: u32,
    pub(crate) orig_type_id: u32,
    pub(crate) new_sz: u32,
    pub(crate) new_type_id: u32,
}

unsafe extern "C" {
    fn bpf_core_calc_relo_insn(
        prog_name: *const c_char,
        relo: *const RawRelo,
        relo_idx: c_int,
        local_btf: *const btf,
        cands: *mut CandList,
        specs_scratch: *mut c_void,
        targ_res: *mut Res,
    ) -> c_int;
    fn bpf_core_patch_insn(
        prog_name: *const c_char,
        insn: *mut [u8; 8],
        insn_idx: c_int,
        relo: *const RawRelo,
        relo_idx: c_int,
        res: *const Res,
    ) -> c_int;
    fn bpf_core_add_cands(
        local_cand: *mut Cand,
        local_essent_len: usize,
        targ_btf: *const btf,
        targ_btf_name: *const c_char,
        targ_start_id: c_int,
        cands: *mut CandList,
    ) -> c_int;
    fn free(ptr: *mut c_void);
}

/// A BTF as libbpf parsed it.
#[derive(Debug)]
pub(crate) struct JudgeBtf(*mut btf);

impl Drop for JudgeBtf {
    fn drop(&mut self) {
        // SAFETY: the pointer came from btf__new*() and is freed once.
        unsafe { libbpf_sys::btf__free(self.0) }
    }
}

/// Silences libbpf's messages.
pub(crate) fn be_quiet() {
    // SAFETY: a null callback is how libbpf is told to print nothing.
    unsafe { libbpf_sys::libbpf_set_print(None) };
}

impl JudgeBtf {
    /// Parses a BTF; `None` when libbpf refuses it. The base must outlive the split.
    pub(crate) fn parse(data: &[u8], base: Option<&Self>) -> Option<Self> {
        let len = u32::try_from(data.len()).ok()?;
        let data = data.as_ptr().cast();
        let btf = match base {
            // SAFETY: `data` holds `len` bytes, which libbpf copies.
            None => unsafe { libbpf_sys::btf__new(data, len) },
            // SAFETY: as above; callers keep the base alive longer.
            Some(base) => unsafe { libbpf_sys::btf__new_split(data, len, base.0) },
        };
        (!btf.is_null()).then_some(Self(btf))
    }

    pub(crate) fn set_pointer_size(&self, bytes: u64) {
        // SAFETY: the BTF is alive.
        unsafe { libbpf_sys::btf__set_pointer_size(self.0, bytes) };
    }

    pub(crate) fn type_count(&self) -> u32 {
        // SAFETY: the BTF is alive.
        unsafe { libbpf_sys::btf__type_cnt(self.0) }
    }
}

/// Candidates of one root type.
pub(crate) struct Candidates(CandList);

impl Drop for Candidates {
    fn drop(&mut self) {
        // SAFETY: libbpf allocated the array with realloc().
        unsafe { free(self.0.cands.cast()) }
    }
}

impl Candidates {
    pub(crate) fn new() -> Self {
        Self(CandList {
            cands: std::ptr::null_mut(),
            len: 0,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Adds the candidates that one BTF has from `start` on.
    pub(crate) fn add(
        &mut self,
        local: &JudgeBtf,
        id: u32,
        essential_len: usize,
        target: &JudgeBtf,
        start: u32,
    ) -> c_int {
        let mut root = Cand { btf: local.0, id };
        let start = c_int::try_from(start).unwrap();
        // SAFETY: all pointers are alive for the call; the list is libbpf's to grow.
        unsafe {
            bpf_core_add_cands(
                &raw mut root,
                essential_len,
                target.0,
                c"target".as_ptr(),
                start,
                &raw mut self.0,
            )
        }
    }
}

/// Resolves one relocation; the error is libbpf's errno.
pub(crate) fn calculate(
    relo: &RawRelo,
    local: &JudgeBtf,
    candidates: &mut Candidates,
) -> Result<Res, c_int> {
    // Three `struct bpf_core_spec` of 1312 bytes.
    let mut scratch = [0u64; 1024];
    let mut res = Res::default();
    let name = CString::new("p").unwrap();
    // SAFETY: all pointers are alive for the call and the scratch is larger than needed.
    let err = unsafe {
        bpf_core_calc_relo_insn(
            name.as_ptr(),
            relo,
            0,
            local.0,
            &raw mut candidates.0,
            scratch.as_mut_ptr().cast(),
            &raw mut res,
        )
    };
    if err == 0 { Ok(res) } else { Err(err) }
}

/// Patches an instruction and its successor; the error is libbpf's errno.
pub(crate) fn patch(relo: &RawRelo, res: &Res, insns: &mut [[u8; 8]; 2]) -> Result<(), c_int> {
    let name = CString::new("p").unwrap();
    // SAFETY: libbpf writes at most two instructions, which there are.
    let err = unsafe { bpf_core_patch_insn(name.as_ptr(), insns.as_mut_ptr(), 0, relo, 0, res) };
    if err == 0 { Ok(()) } else { Err(err) }
}
