//! libbpf's table of section forms, as it tells it.

use libbpf_sys::{__va_list_tag, libbpf_print_level};
use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::Mutex;

unsafe extern "C" {
    fn vsnprintf(
        out: *mut c_char,
        len: usize,
        format: *const c_char,
        arguments: *mut __va_list_tag,
    ) -> c_int;
}

/// What libbpf said last.
static SAID: Mutex<String> = Mutex::new(String::new());

unsafe extern "C" fn keep(
    _level: libbpf_print_level,
    format: *const c_char,
    arguments: *mut __va_list_tag,
) -> c_int {
    let mut line = [0u8; 16384];
    // SAFETY: libbpf's format fits its arguments, and at most the buffer's length is written, with a NUL.
    unsafe { vsnprintf(line.as_mut_ptr().cast(), line.len(), format, arguments) };
    let line = CStr::from_bytes_until_nul(&line).unwrap();
    SAID.lock().unwrap().push_str(&line.to_string_lossy());
    0
}

/// All forms: libbpf lists them when it is asked for a section that it does not know.
pub(crate) fn libbpf_forms() -> Vec<String> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap();
    SAID.lock().unwrap().clear();
    // SAFETY: the callback lives as long as the program.
    unsafe { libbpf_sys::libbpf_set_print(Some(keep)) };
    assert_eq!(program_type("no such section"), None);
    super::sys::be_quiet();
    let said = SAID.lock().unwrap();
    let (_, list) = said
        .split_once("supported section(type) names are:")
        .unwrap();
    list.split_whitespace().map(str::to_owned).collect()
}

/// Program type and attach type of a section by libbpf's names for them, if it knows the section.
pub(crate) fn program_type(section: &str) -> Option<(String, String)> {
    let section = CString::new(section).unwrap();
    let (mut program, mut attach) = (0, 0);
    // SAFETY: the name ends with NUL, and both places are there to be written.
    let error = unsafe {
        libbpf_sys::libbpf_prog_type_by_name(section.as_ptr(), &raw mut program, &raw mut attach)
    };
    if error != 0 {
        return None;
    }
    // SAFETY: libbpf returns a string of its own, or null, for any number.
    let program = unsafe { libbpf_sys::libbpf_bpf_prog_type_str(program) };
    // SAFETY: as above.
    let attach = unsafe { libbpf_sys::libbpf_bpf_attach_type_str(attach) };
    let text = |name| {
        // SAFETY: libbpf has just set both numbers, so that it has names for them.
        let name = unsafe { CStr::from_ptr(name) };
        name.to_string_lossy().into_owned()
    };
    Some((text(program), text(attach)))
}
