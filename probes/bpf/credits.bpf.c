// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Credits family: free packet slots in the controllers, and the events that free them.
 *
 * Where: hci_send_to_monitor, which hci_send_frame calls for each packet to a driver, before the
 * scheduler takes the packet's slot, and hci_rx_work for each event before the host processes it; and
 * hci_dev_list, which slots_run walks when the loader runs it. The code that changes the counters is
 * inlined in every kernel and cannot be probed. For devices on the user channel the kernel counts
 * nothing: user_channel.bpf.h does.
 * Cost: a packet sent, a look-up in an array; if the controller has both ACL and LE slots, also one read
 * of its header, and once after each change of its links, a walk over its connections. An event, one
 * read, and one more for each link but the first that it tells of. With kprobes each member of the
 * kernel's structures is a read too, some eight a packet. Nothing at all runs for the gauges until a
 * snapshot is taken.
 */
#include "compat.bpf.h"
#include "completed.bpf.h"
#include "config.bpf.h"
#include "drops.bpf.h"
#include "times.bpf.h"

/* What lies beyond is counted as dropped. */
#define MAX_DEVICES 32

#include "links.bpf.h"

/* Free slots up to this number are counted one by one; more are counted together. */
#define MAX_EXACT_SLOTS 256

enum pool {
	POOL_ACL,
	POOL_SCO,
	POOL_LE,
	POOL_ISO,
	POOL_UNKNOWN,
};
#define POOLS POOL_UNKNOWN

struct sends {
	__u64 sum;
	__u64 minimum; /* one more than it is; 0: no packet took a slot */
	__u64 packets[MAX_EXACT_SLOTS + 2]; /* by number of slots free after the packet */
};
_Static_assert(sizeof(struct sends) == 2080, "the loader decodes 2080 bytes");

struct completed {
	__u64 events; /* with pool POOL_UNKNOWN alone */
	__u64 packets;
};
_Static_assert(sizeof(struct completed) == 16, "the loader decodes 16 bytes");

/* How long no slot was free, each time. */
struct exhausted {
	__u64 since_ns; /* 0: slots are free */
	struct times times;
};
_Static_assert(sizeof(struct exhausted) == 176, "the loader decodes 176 bytes");

struct pool_counts {
	struct sends sends;
	struct completed completed;
	struct exhausted exhausted;
};
_Static_assert(sizeof(struct pool_counts) == 2272, "the loader decodes 2272 bytes");

struct slots {
	__u32 hci;
	__u32 free[POOLS];
	__u32 capacity[POOLS];
	__u8 sco_flow_control;
	__u8 user_channel;
	__u16 pad;
};
_Static_assert(sizeof(struct slots) == 40, "the loader decodes 40 bytes");

/*
 * By the N of hciN times (POOLS + 1), plus the pool. Packets to one controller are sent from its ordered
 * work queue, one at a time, and its events are handled there too. So each entry has one writer, and no
 * entry needs a copy for each CPU.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_DEVICES *(POOLS + 1));
	__type(key, __u32);
	__type(value, struct pool_counts);
} credits_pools SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u32);
	__type(value, struct slots);
} credits_slots SEC(".maps");

/* Packets that were sent to one controller's LE slots since its last event. */
struct turn {
	__u64 counted; /* the host's counter at the last of them; 0: there is none */
	__u64 uncounted; /* how many before that had not been counted */
};

/* By the N of hciN. One writer, as above. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u32);
	__type(value, struct turn);
} credits_turns SEC(".maps");

/* An entry of credits_pools is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pool_counts);
} credits_no_pool SEC(".maps");

/* The counts of a pool, or 0 for a device that has no room. */
static __always_inline struct pool_counts *counts_of(__u32 hci, __u32 pool)
{
	__u32 index = hci * (POOLS + 1) + pool;
	struct pool_counts *counts = bpf_map_lookup_elem(&credits_pools, &index);

	if (!counts)
		count_drop(DROP_MAP_FULL);
	return counts;
}

/* The pool that LE links use: hci_sched_le. */
static __always_inline enum pool le_pool(bool typed, const struct hci_dev *hdev)
{
	return READ(typed, hdev, le_pkts) ? POOL_LE : POOL_ACL;
}

/* The pool that ISO links use: hci_sched_iso. Since 6.18 there is no falling back to another. */
static __always_inline enum pool iso_pool(bool typed, const struct hci_dev *hdev)
{
	return hci_iso_pkts(typed, hdev) ? POOL_ISO : le_pool(typed, hdev);
}

static __always_inline enum pool pool_of_link(bool typed, const struct hci_dev *hdev, int type)
{
	switch (type) {
	case ACL_LINK:
		return POOL_ACL;
	case LE_LINK:
		return le_pool(typed, hdev);
	case SCO_LINK:
	case ESCO_LINK:
		return POOL_SCO;
	case CIS_LINK:
	case BIS_LINK:
		return iso_pool(typed, hdev);
	default:
		return POOL_UNKNOWN;
	}
}

static __always_inline unsigned int free_slots(bool typed, const struct hci_dev *hdev, enum pool pool)
{
	switch (pool) {
	case POOL_ACL:
		return READ(typed, hdev, acl_cnt);
	case POOL_SCO:
		return READ(typed, hdev, sco_cnt);
	case POOL_LE:
		return READ(typed, hdev, le_cnt);
	case POOL_ISO:
		return hci_iso_cnt(typed, hdev);
	default:
		return 0;
	}
}

/* Was the packet written to a raw HCI socket? Such packets pass the scheduler by and take no slot. */
static __always_inline bool is_raw(bool typed, const struct sk_buff *skb)
{
	const struct sock *sk = READ(typed, skb, sk);

	return sk && READ(typed, sk, sk_protocol) == BTPROTO_HCI;
}

/* The pool that an ACL packet takes a slot from, where there are two. */
static __always_inline enum pool pool_of_acl(bool typed, const struct hci_dev *hdev, __u32 hci,
					     const struct sk_buff *skb)
{
	__u16 header = 0;
	enum pool pool;

	if (bpf_probe_read_kernel(&header, sizeof(header), READ(typed, skb, data))) {
		count_drop(DROP_READ_FAILED);
		return POOL_UNKNOWN;
	}
	pool = pool_of_link(typed, hdev, link_type(hdev, hci, header & 0x0fff));
	if (pool == POOL_UNKNOWN)
		count_drop(DROP_NO_ENTRY);
	return pool;
}

/* The pool that a packet takes a slot from, or POOL_UNKNOWN if it takes none. */
static __always_inline enum pool pool_of_packet(bool typed, const struct hci_dev *hdev, __u32 hci,
						const struct sk_buff *skb, __u8 type)
{
	switch (type) {
	case HCI_ACLDATA_PKT:
		if (is_raw(typed, skb))
			return POOL_UNKNOWN;
		return le_pool(typed, hdev) == POOL_ACL ? POOL_ACL : pool_of_acl(typed, hdev, hci, skb);
	case HCI_SCODATA_PKT:
		return hci_sco_flow_controlled(typed, hdev) && !is_raw(typed, skb) ? POOL_SCO :
										     POOL_UNKNOWN;
	case HCI_ISODATA_PKT:
		return is_raw(typed, skb) ? POOL_UNKNOWN : iso_pool(typed, hdev);
	default:
		return POOL_UNKNOWN;
	}
}

/* Slots are given back. */
static __always_inline void end_exhausted(struct exhausted *exhausted)
{
	if (!exhausted->since_ns)
		return;
	add_time(&exhausted->times, bpf_ktime_get_ns() - exhausted->since_ns);
	exhausted->since_ns = 0;
}

/* A packet took a slot and left so many. */
static __always_inline int count_send(__u32 hci, enum pool pool, __u64 left)
{
	struct pool_counts *counts = counts_of(hci, pool);
	struct sends *sends;

	if (!counts)
		return 0;
	if (!left)
		counts->exhausted.since_ns = bpf_ktime_get_ns();
	sends = &counts->sends;
	sends->sum += left;
	if (!sends->minimum || left + 1 < sends->minimum)
		sends->minimum = left + 1;
	sends->packets[left <= MAX_EXACT_SLOTS ? left : MAX_EXACT_SLOTS + 1] += 1;
	return 0;
}

/*
 * Free LE slots before a packet is sent, if the host's counter says so many. Where hci_sched_le counts in
 * a local variable and stores it after its last packet (5.10.218), the counter stands still from one
 * packet to the next. Nowhere else can it, unless an event came between.
 */
static __always_inline __u64 le_slots(__u32 hci, __u64 counted)
{
	struct turn *turn = bpf_map_lookup_elem(&credits_turns, &hci);

	if (!turn)
		return counted;
	turn->uncounted = turn->counted == counted ? turn->uncounted + 1 : 0;
	turn->counted = counted;
	return turn->uncounted < counted ? counted - turn->uncounted : 0;
}

/* An event may change the counter. */
static __always_inline void end_turn(__u32 hci)
{
	struct turn *turn = bpf_map_lookup_elem(&credits_turns, &hci);

	if (turn)
		turn->counted = 0;
}

static __always_inline int handle_sent(bool typed, const struct hci_dev *hdev,
				       const struct sk_buff *skb, __u8 type)
{
	__u32 hci = READ(typed, hdev, id);
	enum pool pool = pool_of_packet(typed, hdev, hci, skb, type);
	__u64 left;

	if (pool == POOL_UNKNOWN)
		return 0;
	left = free_slots(typed, hdev, pool);
	if (pool == POOL_LE)
		left = le_slots(hci, left);
	if (!left) {
		count_drop(DROP_UNEXPECTED);
		return 0;
	}
	/* What the scheduler stores once hci_send_frame has returned. */
	return count_send(hci, pool, left - 1);
}

/* Packets of one link were completed. */
static __always_inline void count_completed(__u32 hci, __u32 pool, __u16 packets)
{
	struct pool_counts *counts = counts_of(hci, pool);

	if (!counts)
		return;
	counts->completed.packets += packets;
	if (packets)
		end_exhausted(&counts->exhausted);
}

/*
 * Packets of one link were completed. A function of its own, with numbers as arguments, so that the
 * verifier looks at it once; and out of the loop that calls it: clang takes the offset of a member out of
 * a loop, away from the test whether the kernel has that member.
 */
__noinline int complete(__u64 device, __u32 hci, __u32 handle, __u32 packets)
{
	const struct hci_dev *hdev = (const void *)device;

	count_completed(hci, pool_of_link(KPROBE, hdev, link_type(hdev, hci, handle)), packets);
	return 0;
}

#include "user_channel.bpf.h"

/* Completed packets of the host's, or of the process that is in its place. */
static __always_inline int handle_completed(const struct hci_dev *hdev, __u32 hci, __u64 data,
					    struct completed_head *head, bool is_user)
{
	struct pool_counts *counts = counts_of(hci, POOL_UNKNOWN);
	__u64 device = is_user ? 0 : address_of(hdev);
	struct completed_entry entry = head->first;

	if (counts)
		counts->completed.events += 1;
	for (__u32 i = 0; i < MAX_HANDLES; i++) {
		if (i >= head->entries || (i && !completed_entry(data, i, &entry)))
			return 0;
		if (is_user)
			user_complete(hci, entry.handle, entry.packets);
		else
			complete(device, hci, entry.handle, entry.packets);
	}
	return 0;
}

/* An event of the host's, or of the process that is in its place. */
static __always_inline int handle_event(bool typed, const struct hci_dev *hdev,
					const struct sk_buff *skb, bool is_user)
{
	__u64 data = (__u64)READ(typed, skb, data);
	__u32 len = READ(typed, skb, len);
	__u32 hci = READ(typed, hdev, id);
	struct completed_head head;

	if (!read_completed_head(data, &head)) {
		count_drop(DROP_READ_FAILED);
		return 0;
	}
	end_turn(hci);
	if (head.code != HCI_EV_NUM_COMP_PKTS) {
		forget_links(hci);
		return is_user ? user_event(hci, data, len) : 0;
	}
	return is_whole(&head, len) ? handle_completed(hdev, hci, data, &head, is_user) : 0;
}

static __always_inline int handle_packet(bool typed, const struct hci_dev *hdev,
					 const struct sk_buff *skb)
{
	__u64 control = hci_skb_control(typed, skb);
	__u8 type = control_pkt_type(control);
	bool incoming = control_incoming(control);

	if ((incoming && type != HCI_EVENT_PKT) || hci_is_going(typed, hdev))
		return 0;
	if (incoming)
		return handle_event(typed, hdev, skb, hci_is_user_channel(typed, hdev));
	if (hci_is_user_channel(typed, hdev))
		return user_packet(typed, READ(typed, hdev, id), skb, type);
	if (type == HCI_COMMAND_PKT)
		return user_forget(READ(typed, hdev, id));
	return handle_sent(typed, hdev, skb, type);
}

/* Forgets a device that goes, so that the next one of its number starts at 0. */
static __always_inline int handle_unregister(const struct hci_dev *hdev)
{
	__u32 hci = BPF_CORE_READ(hdev, id);
	__u32 zero = 0;
	struct pool_counts *none = bpf_map_lookup_elem(&credits_no_pool, &zero);

	if (hci >= MAX_DEVICES || !none)
		return 0;
	end_turn(hci);
	forget_links(hci);
	for (int pool = POOL_ACL; pool <= POOL_UNKNOWN; pool++) {
		__u32 index = hci * (POOLS + 1) + pool;

		bpf_map_update_elem(&credits_pools, &index, none, BPF_ANY);
	}
	return user_forget(hci);
}

static __always_inline void store_kernels(struct slots *slots, const struct hci_dev *hdev)
{
	slots->free[POOL_ACL] = free_slots(KPROBE, hdev, POOL_ACL);
	slots->free[POOL_SCO] = free_slots(KPROBE, hdev, POOL_SCO);
	slots->free[POOL_LE] = free_slots(KPROBE, hdev, POOL_LE);
	slots->free[POOL_ISO] = free_slots(KPROBE, hdev, POOL_ISO);
	slots->capacity[POOL_ACL] = BPF_CORE_READ(hdev, acl_pkts);
	slots->capacity[POOL_SCO] = BPF_CORE_READ(hdev, sco_pkts);
	slots->capacity[POOL_LE] = BPF_CORE_READ(hdev, le_pkts);
	slots->capacity[POOL_ISO] = hci_iso_pkts(KPROBE, hdev);
	slots->sco_flow_control = hci_sco_flow_controlled(KPROBE, hdev);
}

/*
 * Writes the counters of one device; 0, or -1 if the table has no room. With numbers as arguments, so
 * that the verifier looks at it once and not once for each device.
 */
__noinline int store_slots(__u32 index, __u64 device)
{
	const struct hci_dev *hdev = (const void *)device;
	struct slots *slots = bpf_map_lookup_elem(&credits_slots, &index);

	if (!slots)
		return -1;
	slots->hci = BPF_CORE_READ(hdev, id);
	slots->user_channel = hci_is_user_channel(KPROBE, hdev);
	if (slots->user_channel)
		user_store(slots);
	else
		store_kernels(slots, hdev);
	return 0;
}

/*
 * Walks the list whose address is the first argument. Nothing is locked: a device that is removed
 * meanwhile ends the walk, which is then counted as a failed read, and the loader walks again.
 * Returns how many devices were stored, or a negative number if the walk did not reach the end.
 */
static __always_inline int handle_run(const struct list_head *head)
{
	const struct list_head *node = BPF_CORE_READ(head, next);

	for (int i = 0; i < MAX_DEVICES; i++) {
		if (node == head)
			return i;
		if (!node)
			break;
		if (store_slots(i, (__u64)node - bpf_core_field_offset(struct hci_dev, list)))
			break;
		node = BPF_CORE_READ(node, next);
	}
	return node == head ? MAX_DEVICES : -1;
}

SEC("fentry/hci_send_to_monitor")
int BPF_PROG(hci_send_to_monitor_fentry, struct hci_dev *hdev, struct sk_buff *skb)
{
	return handle_packet(FENTRY, hdev, skb);
}

SEC("kprobe/hci_send_to_monitor")
int BPF_KPROBE(hci_send_to_monitor_kprobe, struct hci_dev *hdev, struct sk_buff *skb)
{
	return handle_packet(KPROBE, hdev, skb);
}

SEC("fentry/hci_unregister_dev")
int BPF_PROG(hci_unregister_dev_fentry, struct hci_dev *hdev)
{
	return handle_unregister(hdev);
}

SEC("kprobe/hci_unregister_dev")
int BPF_KPROBE(hci_unregister_dev_kprobe, struct hci_dev *hdev)
{
	return handle_unregister(hdev);
}

/* Never attached: the loader runs it, with the address of hci_dev_list as its argument. */
SEC("raw_tp")
int BPF_PROG(slots_run, struct list_head *head)
{
	return handle_run(head);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
