//! Every kind of finding: its name, what it means, what can be done.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $title:literal, $text:literal;)*) => {
        /// A kind of finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "each variant carries its text, printed by `explain`")]
        pub enum Code {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl Code {
            /// All codes, by group.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// Name, title and explanation.
            #[must_use]
            pub fn info(self) -> CodeInfo {
                match self {
                    $(Code::$variant => CodeInfo { name: $name, title: $title, text: $text },)*
                }
            }
        }
    };
}

/// Texts of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// Name, as printed.
    pub name: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What it means, why it happens, what can be done.
    pub text: &'static str,
}

codes! {
    FnAbsent = "FN-ABSENT", "function not in this kernel",
        "No symbol of this name is in the kernel or in any module that was read. It was removed, renamed, or the compiler inlined every call. A kprobe on it cannot be attached; a fentry or fexit program cannot be loaded. Attach to a caller or callee that exists, or ship an alternative program and choose at load time.";
    FnInlined = "FN-INLINED", "function inlined everywhere",
        "The kernel's types list the function, its symbol table does not: every call was inlined, so there is no code to attach to.";
    FnOptimized = "FN-OPTIMIZED", "only a compiler-made variant exists",
        "The compiler cloned the function (.isra, .constprop, .part) and dropped the original. Attaching by the plain name fails. The variant can be attached by its full name with a kprobe, but arguments may be missing or in other registers.";
    FnPartial = "FN-PARTIAL", "part of the function was split off",
        "Besides the function there is a .part or .constprop variant of it, which other callers use: calls through it are not seen.";
    FnDuplicate = "FN-DUPLICATE", "several functions have this name",
        "More than one function of this name is in the kernel and its loaded modules. Kernels since 6.6, and stable kernels with the same change, refuse a kprobe by this name (EADDRNOTAVAIL).";
    FnFirstOfMany = "LIE-FIRST-OF-MANY", "attaches to one of several functions",
        "More than one function has this name and the program attaches to whichever is found first. Calls of the others are not counted, without any error.";
    FnNotTraceable = "FN-NOT-TRACEABLE", "function cannot be traced",
        "The function has no ftrace call site: it is marked notrace, or written in assembly. fentry and fexit programs load and then fail to attach; kprobes through perf or tracefs are refused unless the kernel has CONFIG_KPROBE_EVENTS_ON_NOTRACE.";
    FnBlacklisted = "FN-BLACKLISTED", "kprobes refuse this function",
        "The function is on the kprobe blacklist or in a section that must not be probed (noinstr, entry).";
    FnInit = "FN-INIT", "function exists only during boot",
        "The code lies in .init.text, which is freed after boot or after the module was loaded.";
    FnNoBtf = "FN-NO-BTF", "function has no type information",
        "fentry, fexit and similar programs need the function's prototype from the kernel's BTF, and it is not there. The kernel may lack BTF for modules (before 5.11, or CONFIG_DEBUG_INFO_BTF_MODULES unset), or pahole left the function out. A kprobe does not need it.";
    FnNoAddress = "FN-NO-ADDRESS", "function has types but no address",
        "BTF lists the function, the symbol table has only variants of it. Loading a fentry or fexit program fails with ENOENT.";
    FnArguments = "FN-ARGUMENTS", "argument does not exist",
        "The program reads an argument (or the returned value) that the function does not have on this kernel. A fentry or fexit program is refused by the verifier; a kprobe reads whatever the register holds.";
    FnSignature = "LIE-SIGNATURE", "argument has another meaning",
        "The program takes an argument for a pointer to one type, and on this kernel it is something else. Reads through it return unrelated memory.";
    FnTooManyArgs = "FN-TOO-MANY-ARGS", "too many arguments for a trampoline",
        "The function has more than 6 arguments. x86 trampolines support that since 6.6; before, attaching fails with ENOTSUPP.";
    ModNotLoaded = "MOD-NOT-LOADED", "module is not loaded",
        "The function, tracepoint or type lives in a module that is not loaded in this scenario. Load the module first (modprobe), or load the probes when it appears.";
    ModMissing = "MOD-MISSING", "module is not part of this kernel",
        "The module that should hold the function does not exist for this kernel.";
    ModUnread = "MOD-UNREAD", "may be in a module that was not read",
        "The function, tracepoint or type is not in the kernel or in a module that was read, but the kernel has other modules, or it is not known which it has. Give the modules too: --read-modules all, or --read-modules with the name of the module.";
    TpAbsent = "TP-ABSENT", "tracepoint does not exist",
        "No tracepoint of this name is in the kernel or in a loaded module. It was added later, removed, or moved to another category.";
    TpUnknown = "TP-UNKNOWN", "tracepoints could not be read",
        "The list of tracepoints could not be read from the kernel image. On the running host, tracefs has it.";
    HookAbsent = "HOOK-ABSENT", "hook does not exist",
        "The LSM hook, iterator or struct_ops type that the program is for is not in the kernel's BTF.";
    HookUnknown = "HOOK-UNKNOWN", "hook is not judged",
        "Programs of this kind depend on more than the kernel's files tell. Loading it settles the question.";
    TargetUserSpace = "TARGET-USERSPACE", "user space chooses the target",
        "The section does not say what to attach to; the loading program does. Only loading is judged.";
    SectionUnknown = "SECTION-UNKNOWN", "section name is not libbpf's",
        "libbpf knows no such section. The loading program has to set the program's type.";
    RelocMissing = "RELO-MISSING", "field, type or value is not in this kernel",
        "A CO-RE relocation finds nothing to match, and code that can run depends on it. libbpf replaces the instruction by an invalid call, and the verifier refuses the program. Guard the access with bpf_core_field_exists() or bpf_core_type_exists(), or add a flavor for kernels that have it elsewhere.";
    RelocGuarded = "RELO-GUARDED", "missing field is guarded",
        "A CO-RE relocation finds nothing to match, but only code behind an existence check depends on it, and the verifier drops that code.";
    RelocSetting = "RELO-SETTING", "missing field depends on a setting",
        "A CO-RE relocation finds nothing to match, and the code that needs it runs only for some values of global variables that user space sets before loading.";
    RelocAmbiguous = "RELO-AMBIGUOUS", "several types match and disagree",
        "More than one type of the kernel or its modules matches, with different offsets or values. libbpf refuses the whole object. For type ids this happens as soon as two loaded modules carry the type.";
    RelocMalformed = "RELO-MALFORMED", "relocation makes no sense",
        "The relocation does not fit the object's own types, or the instruction it points to. Compiler and object do not agree; compile again.";
    RelocUnsupported = "RELO-UNSUPPORTED", "loader does not know this relocation",
        "The relocation kind is newer than the libbpf that will load the object.";
    RelocWidth = "RELO-WIDTH", "field has a width that cannot be loaded",
        "The field is wider or narrower here, and a direct load cannot be adjusted because it is signed or not a number. libbpf replaces the instruction by an invalid call.";
    LieZero = "LIE-ZERO", "check says no although the kernel has it",
        "An existence check, size or type id becomes 0, not because the kernel lacks the type but because its module is not loaded yet, or its BTF may not be read (CAP_SYS_ADMIN). The program loads and takes the wrong branch for as long as it is loaded.";
    LieWidth = "LIE-WIDTH", "field has another width",
        "The field is read through bpf_probe_read with the width it has in the object; in this kernel it is wider (the value is cut) or narrower (the next field's bytes are read too). CO-RE does not correct that, and nothing fails.";
    LieSign = "LIE-SIGN", "field changed its sign",
        "The field is signed in one place and unsigned in the other. Negative numbers come out as large ones, or the reverse.";
    LiePointee = "LIE-POINTEE", "pointer leads to another type",
        "The field is a pointer in both, but to different types. CO-RE takes any two pointers for the same, so what is read through it is something else.";
    LieFixedOffset = "LIE-FIXED-OFFSET", "offset is not corrected",
        "Kernel memory is read at an offset that was fixed when the object was compiled. If the structure differs on this kernel, the value is wrong, and nothing fails.";
    LieRetprobe = "RETPROBE-POOL", "return probes can run out",
        "A kretprobe keeps one instance per call in flight, and the kernel makes max(10, 2 x CPUs) of them. Calls that sleep (recvmsg) use them up; further calls are not counted. Use fexit, or create the probe with a larger maxactive and watch its missed count.";
    LiePreempted = "LIE-PREEMPTED", "loses events where the kernel preempts itself",
        "A program at a trampoline (fentry, fexit, fmod_ret) can be preempted where the kernel preempts its own code: PREEMPT, PREEMPT_LAZY, PREEMPT_RT, or a kernel with PREEMPT_DYNAMIC that is in the mode full or lazy. A second task that reaches the same program on the same processor meanwhile is passed over, and its event is lost. Few are: none while one task works, up to 0.6 % were measured with eight. The kernel counts them in the program's recursion_misses. Use a kprobe (preemption is off while its program runs), or boot with preempt=voluntary. Kernels before 5.12 do not lose any.";
    LieInterrupted = "LIE-INTERRUPTED", "loses events that come in interrupts",
        "The function runs in softirq context. A kprobe that is hit there while the interrupted code is in a program of another kprobe, on the same processor, is passed over, and nothing counts it: 4 of 97 were lost in a measurement. fentry and fexit programs have a guard of their own each, and lose nothing. On real-time kernels softirqs are tasks, and kprobes lose nothing either.";
    InlineSelective = "LIE-INLINED", "some calls are inlined",
        "The function exists and can be attached to, but the compiler copied its body into some of its callers: what goes through those is not counted, without any error. Attach to a function that it calls, or to the callers as well.";
    InlineUnknown = "INLINE-UNKNOWN", "some calls may be inlined",
        "The function exists, but calls within its own source file may have been inlined, and those are not seen. Only debugging information (DWARF) can tell: give the file from the kernel's debug package with --debug-info.";
    HelperAbsent = "HELPER-ABSENT", "helper not in this kernel",
        "The program calls a helper function whose number this kernel does not know. Guard the call with bpf_core_enum_value_exists(enum bpf_func_id, ...).";
    MapTypeAbsent = "MAP-TYPE-ABSENT", "map type not in this kernel",
        "The object declares a map of a type that this kernel does not know. libbpf creates all maps before loading programs, so the whole object fails unless the loading program turns the map off.";
    MapUnsized = "MAP-UNSIZED", "map size is set by user space",
        "The map is declared without max_entries; the loading program has to set it, or creating it fails.";
    ProgTypeAbsent = "PROG-TYPE-ABSENT", "program type not in this kernel",
        "The kernel's BTF does not list the program type.";
    AttachTypeAbsent = "ATTACH-TYPE-ABSENT", "attach type not in this kernel",
        "The kernel's BTF does not list the attach type.";
    KfuncAbsent = "KFUNC-ABSENT", "kernel function not callable",
        "The program calls a kernel function that is not in the BTF of the kernel or of a loaded module. If it is declared __weak the call must be guarded by bpf_ksym_exists().";
    KfuncSignature = "KFUNC-SIGNATURE", "kernel function has another prototype",
        "The kernel function exists with a prototype that does not fit the object's declaration.";
    KsymAbsent = "KSYM-ABSENT", "kernel symbol missing",
        "The object refers to a kernel symbol that does not exist here; it is not __weak, so opening the object fails.";
    KsymAmbiguous = "KSYM-AMBIGUOUS", "several kernel symbols have this name",
        "libbpf refuses a typeless symbol that stands for several addresses.";
    KconfigAbsent = "KCONFIG-ABSENT", "configuration value missing",
        "The object reads a CONFIG_ value that is not set here; it is not __weak, so opening the object fails.";
    ConfigMissing = "CONFIG-MISSING", "kernel built without a feature",
        "The kernel's build configuration lacks an option that the program needs.";
    BtfAbsent = "BTF-ABSENT", "kernel has no type information",
        "The kernel was built without BTF. CO-RE needs it: give libbpf a BTF file made for this kernel (btf_custom_path), or use a kernel with CONFIG_DEBUG_INFO_BTF.";
    BtfUnreadable = "BTF-UNREADABLE", "loader does not know the kernel's types",
        "The kernel's BTF has kinds of types that are newer than the libbpf that will load the object: floats (known since 0.4), tags (0.6), 64-bit enums (1.0). It refuses all of the BTF, and so every object that needs it. Use a newer libbpf.";
    BtfModuleBroken = "BTF-MODULE-BROKEN", "a module's types cannot be used",
        "The module's BTF is damaged or was made for another build of the kernel. Some loaders refuse to work at all in this state; libbpf fails when it has to look into modules.";
    BtfModulesUnreadable = "BTF-MODULES-UNREADABLE", "module types may not be read",
        "Reading the BTF of modules takes CAP_SYS_ADMIN. libbpf before 1.3 gives up; later ones go on as if there were no modules.";
    IsaUnknown = "ISA-NEW", "instructions of a newer generation",
        "The object uses instructions that kernels accept only from some version on, which BTF does not tell.";
    HostCaps = "HOST-CAPS", "capability missing",
        "Loading or attaching takes a capability that the process does not have. CAP_BPF and CAP_PERFMON suffice for most programs since 5.8, CAP_SYS_ADMIN before and for module BTF.";
    HostLockdown = "HOST-LOCKDOWN", "kernel is locked down",
        "With lockdown=confidentiality the kernel refuses to read its memory through BPF and kprobes. It is set at boot, often by Secure Boot.";
    HostSwitch = "HOST-SWITCH", "a switch is off",
        "A sysctl or debugfs switch keeps probes from working although the kernel supports them.";
    HostMemlock = "HOST-MEMLOCK", "locked memory limit is low",
        "Before 5.11 maps and programs count against RLIMIT_MEMLOCK, and the default of 64 KiB is too small. Raise it (ulimit -l unlimited, LimitMEMLOCK=infinity).";
    SymbolsUnknown = "SYMBOLS-UNKNOWN", "symbols could not be read",
        "The kernel's symbol table could not be read, so that nothing can be said about functions. The message beside it says why.";
    FtraceUnknown = "FTRACE-UNKNOWN", "traceable functions are not known",
        "The set of functions that ftrace can patch could not be read from the kernel image. On the running host, available_filter_functions in tracefs has it (root).";
}

impl Code {
    /// The code of this name, in any case.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|c| c.info().name.eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}
