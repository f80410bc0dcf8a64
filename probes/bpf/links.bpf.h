/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Types of links, by handle: what the kernel knows, and what was learned of that before.
 *
 * A handle becomes that of another link only with an event (a connection that is complete, a CIG that is
 * set up), which the host processes in the work queue that it sends from, after the program has seen it.
 * So what is known of links is right until any event but those that tell of completed packets. Include
 * after MAX_DEVICES.
 */
#ifndef LINKS_BPF_H
#define LINKS_BPF_H

#include "compat.bpf.h"
#include "drops.bpf.h"

/* Bound of a loop: what lies beyond is counted as dropped. */
#define MAX_CONNECTIONS 128

/* Links whose types are remembered, for each device: those of different handle % KNOWN_LINKS. */
#define KNOWN_LINKS 8

/* An entry: KNOWN_LINK, the type and the handle; 0: nothing. */
#define KNOWN_LINK     (1U << 31)
#define KNOWN_TYPE_BIT 16

struct known_links {
	__u32 links[KNOWN_LINKS];
};

/* By the N of hciN. Its work queue is the one writer. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u32);
	__type(value, struct known_links);
} credits_links SEC(".maps");

/*
 * Looks for the link with that handle and gives its type (hci_conn.type), or -1. A function of its own,
 * with numbers as arguments, so that the verifier looks at it once and not once for each call.
 */
__noinline int find_link(__u64 device, __u32 handle)
{
	const struct hci_dev *hdev = (const void *)device;
	const struct list_head *head = &hdev->conn_hash.list;
	const struct list_head *node = BPF_CORE_READ(head, next);

	for (int i = 0; i < MAX_CONNECTIONS; i++) {
		const struct hci_conn *conn;

		if (node == head)
			return -1;
		conn = (const void *)node - bpf_core_field_offset(struct hci_conn, list);
		if (BPF_CORE_READ(conn, handle) == handle)
			return BPF_CORE_READ(conn, type);
		node = BPF_CORE_READ(node, next);
		if (!node) {
			count_drop(DROP_READ_FAILED);
			return -1;
		}
	}
	count_drop(DROP_TRUNCATED);
	return -1;
}

/* Type of the link with that handle (hci_conn.type), or -1. */
static __always_inline int link_type(const struct hci_dev *hdev, __u32 hci, __u32 handle)
{
	struct known_links *known = bpf_map_lookup_elem(&credits_links, &hci);
	__u32 place = handle % KNOWN_LINKS;
	int type;

	if (known && (known->links[place] & (KNOWN_LINK | 0xffff)) == (KNOWN_LINK | handle))
		return known->links[place] >> KNOWN_TYPE_BIT & 0xff;
	type = find_link(address_of(hdev), handle);
	if (known && type >= 0)
		known->links[place] = KNOWN_LINK | type << KNOWN_TYPE_BIT | handle;
	return type;
}

/* An event may change which links there are. */
static __always_inline void forget_links(__u32 hci)
{
	struct known_links *known = bpf_map_lookup_elem(&credits_links, &hci);

	if (known)
		__builtin_memset(known, 0, sizeof(*known));
}

#endif /* LINKS_BPF_H */
