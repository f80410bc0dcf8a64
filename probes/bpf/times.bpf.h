/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Histograms of times. */
#ifndef TIMES_BPF_H
#define TIMES_BPF_H

#include "compat.bpf.h"

/* Inclusive upper bounds, nanoseconds: the catalogue has the same. Longer times are in the count alone. */
#define TIME_BOUNDS 19
static const __u64 time_bounds[TIME_BOUNDS] = {
	10000,	   20000,      50000,	  100000,    200000,	500000,	   1000000,
	2000000,   5000000,    10000000,  20000000,  50000000,	100000000, 200000000,
	500000000, 1000000000, 2000000000, 5000000000, 10000000000,
};

struct times {
	__u64 count;
	__u64 sum_ns;
	__u64 buckets[TIME_BOUNDS];
};

/*
 * The bucket of a time. A function of its own, so that the verifier looks at it once, and what follows
 * once and not for each bucket.
 */
__noinline int time_bucket(__u64 ns)
{
	int bucket;

#pragma unroll
	for (bucket = 0; bucket < TIME_BOUNDS; bucket++) {
		if (ns <= time_bounds[bucket])
			break;
	}
	return bucket;
}

#ifndef TIME_SHIFT
/* Times are counted as they are; the negative control has another number. */
#define TIME_SHIFT 0
#endif

static __always_inline void add_time(struct times *times, __u64 ns)
{
	__u32 bucket;

	ns >>= TIME_SHIFT;
	bucket = time_bucket(ns);
	__sync_fetch_and_add(&times->count, 1);
	__sync_fetch_and_add(&times->sum_ns, ns);
	barrier_var(bucket); /* what is checked is what is used */
	if (bucket < TIME_BOUNDS)
		__sync_fetch_and_add(&times->buckets[bucket], 1);
}

#endif /* TIMES_BPF_H */
