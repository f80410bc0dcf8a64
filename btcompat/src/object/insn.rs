//! One BPF instruction. Source: kernel `Documentation/bpf/standardization/instruction-set.rst`.

use crate::bytes::Endian;

/// An 8-byte instruction, decoded but not interpreted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insn {
    /// Opcode.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register, or what kind of call or constant it is.
    pub src: u8,
    /// Offset: of memory in bytes, of a jump in instructions.
    pub off: i16,
    /// Immediate operand.
    pub imm: i32,
}

#[expect(missing_docs, reason = "instruction classes under the kernel's names")]
impl Insn {
    pub const LD: u8 = 0;
    pub const LDX: u8 = 1;
    pub const ST: u8 = 2;
    pub const STX: u8 = 3;
    pub const ALU: u8 = 4;
    pub const JMP: u8 = 5;
    pub const JMP32: u8 = 6;
    pub const ALU64: u8 = 7;
    /// Bytes of an encoded instruction.
    pub const SIZE: usize = 8;
}

impl Insn {
    /// Decodes a section of instructions; a rest of less than 8 bytes is dropped.
    #[must_use]
    pub fn decode_all(data: &[u8], endian: Endian) -> Vec<Self> {
        data.chunks_exact(Self::SIZE)
            .filter_map(|raw| {
                let (dst, src) = match endian {
                    Endian::Little => (raw[1] & 0xf, raw[1] >> 4),
                    Endian::Big => (raw[1] >> 4, raw[1] & 0xf),
                };
                Some(Self {
                    code: raw[0],
                    dst,
                    src,
                    off: endian.u16(raw, 2)?.cast_signed(),
                    imm: endian.u32(raw, 4)?.cast_signed(),
                })
            })
            .collect()
    }

    /// The instruction class.
    #[must_use]
    pub fn class(self) -> u8 {
        self.code & 7
    }

    /// First half of a 64-bit constant load.
    #[must_use]
    pub fn is_ldimm64(self) -> bool {
        self.code == 0x18
    }

    /// A call of a helper, a subprogram or a kernel function.
    #[must_use]
    pub fn is_call(self) -> bool {
        self.code == 0x85
    }

    /// End of a function.
    #[must_use]
    pub fn is_exit(self) -> bool {
        self.code == 0x95
    }

    /// Bytes that a load or store moves.
    #[must_use]
    pub fn memory_width(self) -> u32 {
        match self.code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        }
    }

    /// The opcode bits for a load or store of `bytes`.
    #[must_use]
    pub fn width_bits(bytes: u32) -> Option<u8> {
        match bytes {
            4 => Some(0x00),
            2 => Some(0x08),
            1 => Some(0x10),
            8 => Some(0x18),
            _ => None,
        }
    }

    /// The instruction as libbpf keeps it in memory on a little-endian machine.
    #[must_use]
    pub fn encode(self) -> [u8; 8] {
        let off = self.off.to_le_bytes();
        let imm = self.imm.to_le_bytes();
        let regs = self.dst | self.src << 4;
        [
            self.code, regs, off[0], off[1], imm[0], imm[1], imm[2], imm[3],
        ]
    }
}
