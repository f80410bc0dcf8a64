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
	__u16 packets;
};

/* What an event begins with. Of another event, the code alone means something. */
struct completed_head {
	__u8 code;
	__u8 length;
	__u8 entries;
	struct completed_entry first;
} __attribute__((packed));

/*
 * Reads the beginning of an event; false if it cannot be read. What is beyond a short event's end is read
 * with it: an skb's data are followed by more than that (struct skb_shared_info).
 */
static __always_inline bool read_completed_head(__u64 data, struct completed_head *head)
{
	return !bpf_probe_read_kernel(head, sizeof(*head), (const void *)data);
}

/*
 * Has an event of this length all entries that it says it has? The host trusts the length of the packet,
 * not that in the header: hci_num_comp_pkts_evt.
 */
static __always_inline bool is_whole(const struct completed_head *head, __u32 len)
{
	if (len < COMPLETED_HEADER_BYTES ||
	    len - COMPLETED_HEADER_BYTES < head->entries * sizeof(struct completed_entry)) {
		count_drop(DROP_MALFORMED);
		return false;
	}
	if (head->entries > MAX_HANDLES)
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
