/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Packets that wait in the host, by the addresses of their skbs.
 *
 * Each packet has one place in a table, where fentry programs put it unless another one is there. Then, and
 * if a kprobe program puts it, it goes to a hash map, at several times the cost. They claim a place with an
 * instruction that kernels know since 5.12 (5ffa25502b5a "bpf: Add instructions for atomic_[cmp]xchg").
 *
 * An skb that is purged stays, until its address is next used with its device; in the map, also until the
 * map needs room.
 */
#ifndef QUEUED_BPF_H
#define QUEUED_BPF_H

#include "compat.bpf.h"
#include "drops.bpf.h"

/* Packets in queues of all links together that are followed: so many in each of the two. */
#define MAX_QUEUED 4096

struct queued {
	__u64 ns;
	__u32 kind; /* enum link_kind */
	__u32 handle; /* of its link: need not be read of the packet again */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_QUEUED);
	__type(key, __u64);
	__type(value, struct queued);
} latency_queued SEC(".maps");

struct place {
	__u64 skb; /* 0: free */
	struct queued queued;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_QUEUED);
	__type(key, __u32);
	__type(value, struct place);
} latency_places SEC(".maps");

/* An skb has 256 bytes or more: what is below that in its address tells no two apart. */
#define SKB_BITS 8

/*
 * The place of a packet. Its distance from its device is taken for its address: the verifier lets a program
 * know no address as a number, but distances.
 */
static __always_inline struct place *place_of(const struct hci_dev *hdev, const struct sk_buff *skb)
{
	__u64 distance = (__u64)skb - (__u64)hdev;
	__u32 index = (distance >> SKB_BITS) % MAX_QUEUED;

	return bpf_map_lookup_elem(&latency_places, &index);
}

/* Puts a packet in its place; false if another one is there. One that was purged may be. */
static __always_inline bool take_place(const struct hci_dev *hdev, const struct sk_buff *skb,
				       const struct queued *queued)
{
	struct place *place = place_of(hdev, skb);

	if (!place || (place->skb != (__u64)skb &&
		       __sync_val_compare_and_swap(&place->skb, 0, (__u64)skb)))
		return false;
	place->queued = *queued;
	return true;
}

/* Remembers a packet; `hdev` is its device in an fentry program, and 0 in others. */
static __always_inline void put_queued(const struct hci_dev *hdev, const struct sk_buff *skb,
				       const struct queued *queued)
{
	__u64 key = (__u64)skb;

	if (hdev && take_place(hdev, skb, queued))
		return;
	if (bpf_map_update_elem(&latency_queued, &key, queued, BPF_ANY))
		count_drop(DROP_MAP_FULL);
}

/* Gives what is known of a packet and forgets it; false if nothing is. */
static __always_inline bool take_queued(const struct hci_dev *hdev, const struct sk_buff *skb,
					struct queued *queued)
{
	struct place *place = place_of(hdev, skb);
	__u64 key = (__u64)skb;
	struct queued *found;

	if (place && place->skb == key) {
		*queued = place->queued;
		place->skb = 0;
		return true;
	}
	found = bpf_map_lookup_elem(&latency_queued, &key);
	if (!found)
		return false;
	*queued = *found;
	bpf_map_delete_elem(&latency_queued, &key);
	return true;
}

#endif /* QUEUED_BPF_H */
