//! The section forms that are known, against libbpf's own table.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests and their helpers"
)]

mod common;

use btcompat::object::{SectionSpec, forms};
use common::oracle::sections::{libbpf_forms, program_type};
use std::collections::BTreeSet;

/// Forms of libbpf after 1.7. Source: libbpf f7081a6b `section_defs[]`.
const LATER: &[&str] = &[
    "fentry.multi+",
    "fentry.multi.s+",
    "fexit.multi+",
    "fexit.multi.s+",
    "fsession.multi+",
    "fsession.multi.s+",
    "raw_tp.s+",
    "raw_tracepoint.s+",
    "tp.s+",
    "tp_btf.s+",
    "tracepoint.s+",
];

/// Check that the forms are those that libbpf itself lists, and those that later ones added, each once.
#[test]
fn forms_are_those_of_libbpf() {
    let theirs: BTreeSet<String> = libbpf_forms().into_iter().collect();
    assert!(theirs.len() > 100, "{theirs:?}");
    let later = LATER.iter().map(|form| (*form).to_owned());
    let known = forms().map(str::to_owned);
    let all: BTreeSet<String> = theirs.into_iter().chain(later).collect();
    assert_eq!(known.collect::<BTreeSet<_>>(), all);
    assert_eq!(forms().count(), all.len());
}

/// Check that each form stands for the program type and the attach type that libbpf gives it, alone and with a target.
#[test]
fn forms_have_the_types_of_libbpf() {
    let mut compared = 0;
    for form in libbpf_forms() {
        let name = form.trim_end_matches('+').to_owned();
        let with_target = form.ends_with('+').then(|| format!("{name}/some/where"));
        for section in with_target.into_iter().chain([name]) {
            let spec = SectionSpec::parse(&section).unwrap();
            let attach = spec.attach_type.as_deref().unwrap_or("");
            let attach = attach.trim_start_matches("BPF_").to_lowercase();
            let (program, theirs) = program_type(&section).unwrap();
            assert_eq!(spec.program_type.to_lowercase(), program, "{section}");
            // Zero is both "none" and the first of all attach types.
            let none = theirs == "cgroup_inet_ingress" && attach.is_empty();
            assert!(none || attach == theirs, "{section}: {attach}, {theirs}");
            compared += 1;
        }
    }
    assert!(compared > 140, "{compared}");
    assert_eq!(program_type("no_such_section"), None);
}
