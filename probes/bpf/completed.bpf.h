/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Number Of Completed Packets events. Spec: Core 5.4, Vol 4, Part E, 7.7.19. */
#ifndef COMPLETED_BPF_H
#define COMPLETED_BPF_H

#include "compat.bpf.h"
#include "drops.bpf.h"

/* An event holds at most 255 bytes: the number of entries, then 4 bytes each. */
#define MAX_HANDLES 63

/* Code, length and number of entries come before them. */
#define COMPLETED_HEADER_BYTES 3

struct completed_entry {
	__u16 handle;
	__u16 count;
};

/*
 * Says how many entries an event of this length has. The host
 * trusts the length of the packet, not that in the header: hci_num_comp_pkts_evt. False: malformed.
 */
static __always_inline bool completed_entries(const unsigned char *data, __u32 len, __u32 *entries)
{
	__u8 header[COMPLETED_HEADER_BYTES];

	if (len < sizeof(header) || bpf_probe_read_kernel(header, sizeof(header), data) ||
	    len - sizeof(header) < header[2] * sizeof(struct completed_entry)) {
		count_drop(DROP_MALFORMED);
		return false;
	}
	*entries = header[2];
	if (header[2] > MAX_HANDLES)
		count_drop(DROP_TRUNCATED);
	return true;
}

/* Reads one entry; false if it cannot be read. */
static __always_inline bool completed_entry(__u64 data, __u32 index, struct completed_entry *entry)
{
	const unsigned char *from = (const void *)data;

	from += COMPLETED_HEADER_BYTES + index * sizeof(*entry);
	if (!bpf_probe_read_kernel(entry, sizeof(*entry), from))
		return true;
	count_drop(DROP_READ_FAILED);
	return false;
}

#endif /* COMPLETED_BPF_H */
