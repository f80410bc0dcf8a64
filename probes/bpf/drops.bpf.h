/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Events that a program saw and could not count. Each object has this map; the loader reads it. */
#ifndef DROPS_BPF_H
#define DROPS_BPF_H

#include "compat.bpf.h"

/* Index into the map; the loader's table of reasons is in the same order. */
enum drop_reason {
	DROP_MAP_FULL,
	DROP_READ_FAILED,
	DROP_NO_ENTRY,
	DROP_MALFORMED,
	DROP_TRUNCATED,
	DROP_UNEXPECTED,
	DROP_REASONS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DROP_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} drops SEC(".maps");

static __always_inline void count_drop(enum drop_reason reason)
{
	__u32 index = reason;
	__u64 *count = bpf_map_lookup_elem(&drops, &index);

	if (count)
		*count += 1;
}

#endif /* DROPS_BPF_H */
