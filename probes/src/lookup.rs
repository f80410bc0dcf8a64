//! Looking up one symbol, without having the kernel write all of them.
//!
//! A BPF program of type syscall may ask for the address of a name (kernel 5.16 and newer). It is a
//! dozen instructions, put together here.
//!
//! Kernel: v6.12 kernel/bpf/syscall.c `bpf_kallsyms_lookup_name()`.

use libbpf_sys::BPF_FUNC_kallsyms_lookup_name;

use crate::sys::run_syscall_program;

/// Bytes of a name, with the 0 that ends it.
const NAME_BYTES: usize = 64;
/// What the program is given: room for the address, and the name.
const CONTEXT_BYTES: usize = 8 + NAME_BYTES;

/// The address of a symbol, `module:symbol` or `symbol`. `None`: there is none, the kernel hides it, or it
/// has no such look-up.
pub(crate) fn symbol_address(name: &str) -> Option<u64> {
    let mut context = [0; CONTEXT_BYTES];
    let (_, room) = context.split_at_mut(8);
    // The last byte stays 0.
    room[..NAME_BYTES - 1]
        .get_mut(..name.len())?
        .copy_from_slice(name.as_bytes());
    let returned = run_syscall_program(&program(), &mut context).ok()?;
    let address = u64::from_ne_bytes(*context.first_chunk()?);
    (returned == 0 && address != 0).then_some(address)
}

/// Operations. Kernel: Documentation/bpf/standardization/instruction-set.rst.
const LOAD: u8 = 0x79;
const STORE: u8 = 0x7b;
const STORE_NUMBER: u8 = 0x7a;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// The register that holds the stack's end.
const STACK: u8 = 10;
/// Places on the stack.
const NAME: i16 = -64;
const ADDRESS: i16 = -72;

/// Copies the name to the stack, has its address looked up and writes that to the context.
fn program() -> Vec<u64> {
    let mut code = vec![instruction(COPY, 6, 1, 0, 0)];
    for at in (0..64).step_by(8) {
        code.push(instruction(LOAD, 2, 6, 8 + at, 0));
        code.push(instruction(STORE, STACK, 2, NAME + at, 0));
    }
    code.extend([
        instruction(STORE_NUMBER, STACK, 0, ADDRESS, 0),
        instruction(COPY, 1, STACK, 0, 0),
        instruction(ADD, 1, 0, 0, NAME.into()),
        instruction(SET, 2, 0, 0, 64),
        instruction(SET, 3, 0, 0, 0),
        instruction(COPY, 4, STACK, 0, 0),
        instruction(ADD, 4, 0, 0, ADDRESS.into()),
        instruction(CALL, 0, 0, 0, BPF_FUNC_kallsyms_lookup_name.cast_signed()),
        instruction(LOAD, 2, STACK, ADDRESS, 0),
        instruction(STORE, 6, 2, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    code
}

/// One instruction as it lies in memory, on machines that keep the low byte first.
fn instruction(operation: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    let [offset_low, offset_high] = offset.to_le_bytes();
    let [a, b, c, d] = number.to_le_bytes();
    u64::from_ne_bytes([
        operation,
        from << 4 | to,
        offset_low,
        offset_high,
        a,
        b,
        c,
        d,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that instructions lie in memory as the kernel reads them: operation, registers, offset, number.
    #[test]
    fn instruction_lies_in_memory_as_the_kernel_reads_it() {
        let bytes = instruction(LOAD, 2, STACK, ADDRESS, -3).to_ne_bytes();
        assert_eq!(bytes, [0x79, 0xa2, 0xb8, 0xff, 0xfd, 0xff, 0xff, 0xff]);
        assert_eq!(program().len(), 1 + 2 * 8 + 11);
    }

    /// Check that a name that does not fit is not looked up by a part of it.
    #[test]
    fn name_that_is_too_long_is_not_found() {
        assert_eq!(symbol_address(&"x".repeat(64)), None);
    }
}
