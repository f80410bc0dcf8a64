// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Credits family: free packet slots in the controllers, and the events that free them.
 *
 * Where: hci_send_to_monitor, which hci_send_frame calls for each packet to a driver, before the
 * scheduler takes the packet's slot, and hci_rx_work for each event before the host processes it; and
 * hci_dev_list, which slots_run walks when the loader runs it. The code that changes the counters is
 * inlined in every kernel and cannot be probed. For devices on the user channel the kernel counts
 * nothing: user_channel.bpf.h does.
 * Cost: a packet sent, some ten reads and one look-up; if the controller has both ACL and LE slots,
 * also a walk over its connections. Other packets, three reads. Nothing at all runs for the gauges
 * until a snapshot is taken.
 */
#include "compat.bpf.h"
#include "completed.bpf.h"
#include "config.bpf.h"
#include "drops.bpf.h"
#include "times.bpf.h"

/* Bounds of loops: what lies beyond is counted as dropped. */
#define MAX_CONNECTIONS 128
#define MAX_DEVICES	64

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

struct pool_key {
	__u16 hci;
	__u8 pool; /* enum pool */
	__u8 pad;
};
_Static_assert(sizeof(struct pool_key) == 4, "the loader decodes 4 bytes");

struct sends {
	__u64 sum;
	__u64 minimum;
	__u64 packets[MAX_EXACT_SLOTS + 2]; /* by number of slots free after the packet */
};
_Static_assert(sizeof(struct sends) == 2080, "the loader decodes 2080 bytes");

struct completed {
	__u64 events; /* with pool POOL_UNKNOWN alone */
	__u64 packets;
};
_Static_assert(sizeof(struct completed) == 16, "the loader decodes 16 bytes");

struct slots {
	__u32 hci;
	__u32 free[POOLS];
	__u32 capacity[POOLS];
	__u8 sco_flow_control;
	__u8 user_channel;
	__u16 pad;
};
_Static_assert(sizeof(struct slots) == 40, "the loader decodes 40 bytes");

/* How long no slot was free, each time. */
struct exhausted {
	__u64 since_ns; /* 0: slots are free */
	struct times times;
};
_Static_assert(sizeof(struct exhausted) == 176, "the loader decodes 176 bytes");

/*
 * Packets to one controller are sent from its ordered work queue, one at a time, and its events are
 * handled there too. So each entry has one writer, and no entry needs a copy for each CPU. Entries
 * go with their device.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DEVICES *POOLS);
	__type(key, struct pool_key);
	__type(value, struct sends);
} credits_sends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DEVICES *(POOLS + 1));
	__type(key, struct pool_key);
	__type(value, struct completed);
} credits_completed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u32);
	__type(value, struct slots);
} credits_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DEVICES *POOLS);
	__type(key, struct pool_key);
	__type(value, struct exhausted);
} credits_exhausted SEC(".maps");

/* Packets that were sent to one controller's LE slots since its last event. */
struct turn {
	__u64 counted; /* the host's counter at the last of them, or NO_TURN */
	__u64 uncounted; /* how many before that had not been counted */
};
#define NO_TURN (~0ULL)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u32);
	__type(value, struct turn);
} credits_turns SEC(".maps");

/* An entry of credits_sends is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sends);
} credits_no_sends SEC(".maps");

/*
 * Type of the link with that handle (hci_conn.type), or -1. A function of its own, with numbers as
 * arguments, so that the verifier looks at it once and not once for each call.
 */
__noinline int link_type(__u64 device, __u32 handle)
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

/* The pool that LE links use: hci_sched_le. */
static __always_inline enum pool le_pool(const struct hci_dev *hdev)
{
	return BPF_CORE_READ(hdev, le_pkts) ? POOL_LE : POOL_ACL;
}

/* The pool that ISO links use: hci_sched_iso. Since 6.18 there is no falling back to another. */
static __always_inline enum pool iso_pool(const struct hci_dev *hdev)
{
	return hci_iso_pkts(hdev) ? POOL_ISO : le_pool(hdev);
}

static __always_inline enum pool pool_of_link(const struct hci_dev *hdev, int type)
{
	switch (type) {
	case ACL_LINK:
		return POOL_ACL;
	case LE_LINK:
		return le_pool(hdev);
	case SCO_LINK:
	case ESCO_LINK:
		return POOL_SCO;
	case CIS_LINK:
	case BIS_LINK:
		return iso_pool(hdev);
	default:
		return POOL_UNKNOWN;
	}
}

/*
 * The pool of the link with that handle. A function of its own, out of the loop that calls it: clang
 * takes the offset of a member out of a loop, away from the test whether the kernel has that member.
 */
__noinline int pool_of_handle(__u64 device, __u32 handle)
{
	return pool_of_link((const void *)device, link_type(device, handle));
}

static __always_inline unsigned int free_slots(const struct hci_dev *hdev, enum pool pool)
{
	switch (pool) {
	case POOL_ACL:
		return BPF_CORE_READ(hdev, acl_cnt);
	case POOL_SCO:
		return BPF_CORE_READ(hdev, sco_cnt);
	case POOL_LE:
		return BPF_CORE_READ(hdev, le_cnt);
	case POOL_ISO:
		return hci_iso_cnt(hdev);
	default:
		return 0;
	}
}

/* Was the packet written to a raw HCI socket? Such packets pass the scheduler by and take no slot. */
static __always_inline bool is_raw(const struct sk_buff *skb)
{
	const struct sock *sk = BPF_CORE_READ(skb, sk);

	return sk && BPF_CORE_READ(sk, sk_protocol) == BTPROTO_HCI;
}

/* The pool that a packet takes a slot from, or POOL_UNKNOWN if it takes none. */
static __always_inline enum pool pool_of_packet(const struct hci_dev *hdev,
						const struct sk_buff *skb)
{
	const unsigned char *data;
	__u16 header = 0;
	enum pool pool;

	switch (hci_skb_pkt_type(skb)) {
	case HCI_ACLDATA_PKT:
		if (is_raw(skb))
			return POOL_UNKNOWN;
		if (le_pool(hdev) == POOL_ACL)
			return POOL_ACL;
		data = BPF_CORE_READ(skb, data);
		if (bpf_probe_read_kernel(&header, sizeof(header), data)) {
			count_drop(DROP_READ_FAILED);
			return POOL_UNKNOWN;
		}
		pool = pool_of_handle(address_of(hdev), header & 0x0fff);
		if (pool == POOL_UNKNOWN)
			count_drop(DROP_NO_ENTRY);
		return pool;
	case HCI_SCODATA_PKT:
		return hci_sco_flow_controlled(hdev) && !is_raw(skb) ? POOL_SCO : POOL_UNKNOWN;
	case HCI_ISODATA_PKT:
		return is_raw(skb) ? POOL_UNKNOWN : iso_pool(hdev);
	default:
		return POOL_UNKNOWN;
	}
}

static __always_inline struct sends *sends_of(const struct pool_key *key)
{
	struct sends *sends = bpf_map_lookup_elem(&credits_sends, key);
	__u32 zero = 0;
	struct sends *none;

	if (sends)
		return sends;
	none = bpf_map_lookup_elem(&credits_no_sends, &zero);
	if (!none || bpf_map_update_elem(&credits_sends, key, none, BPF_NOEXIST))
		return 0;
	sends = bpf_map_lookup_elem(&credits_sends, key);
	if (sends)
		sends->minimum = ~0ULL;
	return sends;
}

/* The last free slot was taken. */
static __always_inline void begin_exhausted(const struct pool_key *key)
{
	struct exhausted *exhausted = bpf_map_lookup_elem(&credits_exhausted, key);
	struct exhausted first = {.since_ns = bpf_ktime_get_ns()};

	if (exhausted)
		exhausted->since_ns = first.since_ns;
	else if (bpf_map_update_elem(&credits_exhausted, key, &first, BPF_NOEXIST))
		count_drop(DROP_MAP_FULL);
}

/* Slots are given back. */
static __always_inline void end_exhausted(const struct pool_key *key)
{
	struct exhausted *exhausted = bpf_map_lookup_elem(&credits_exhausted, key);

	if (!exhausted || !exhausted->since_ns)
		return;
	add_time(&exhausted->times, bpf_ktime_get_ns() - exhausted->since_ns);
	exhausted->since_ns = 0;
}

/* A packet took a slot and left so many. */
static __always_inline int count_send(const struct pool_key *key, __u64 left)
{
	struct sends *sends = sends_of(key);

	if (!sends) {
		count_drop(DROP_MAP_FULL);
		return 0;
	}
	if (!left)
		begin_exhausted(key);
	sends->sum += left;
	if (left < sends->minimum)
		sends->minimum = left;
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
	struct turn first = {.counted = counted};
	struct turn *turn = bpf_map_lookup_elem(&credits_turns, &hci);

	if (!turn) {
		if (bpf_map_update_elem(&credits_turns, &hci, &first, BPF_NOEXIST))
			count_drop(DROP_MAP_FULL);
		return counted;
	}
	turn->uncounted = turn->counted == counted ? turn->uncounted + 1 : 0;
	turn->counted = counted;
	return turn->uncounted < counted ? counted - turn->uncounted : 0;
}

/* An event may change the counter. */
static __always_inline void end_turn(__u32 hci)
{
	struct turn *turn = bpf_map_lookup_elem(&credits_turns, &hci);

	if (turn)
		turn->counted = NO_TURN;
}

static __always_inline int handle_sent(const struct hci_dev *hdev, const struct sk_buff *skb)
{
	enum pool pool = pool_of_packet(hdev, skb);
	struct pool_key key = {};
	__u64 left;

	if (pool == POOL_UNKNOWN)
		return 0;
	key.hci = BPF_CORE_READ(hdev, id);
	key.pool = pool;
	left = free_slots(hdev, pool);
	if (pool == POOL_LE)
		left = le_slots(key.hci, left);
	if (!left) {
		count_drop(DROP_UNEXPECTED);
		return 0;
	}
	/* What the scheduler stores once hci_send_frame has returned. */
	return count_send(&key, left - 1);
}

static __always_inline void add_completed(const struct pool_key *key, __u64 events, __u64 packets)
{
	struct completed first = {.events = events, .packets = packets};
	struct completed *completed = bpf_map_lookup_elem(&credits_completed, key);

	if (completed) {
		completed->events += events;
		completed->packets += packets;
	} else if (bpf_map_update_elem(&credits_completed, key, &first, BPF_NOEXIST)) {
		count_drop(DROP_MAP_FULL);
	}
}

/* Packets of one link were completed. */
static __always_inline void count_completed(struct pool_key *key, enum pool pool, __u16 count)
{
	key->pool = pool;
	add_completed(key, 0, count);
	if (count)
		end_exhausted(key);
}

/* One entry of an event. With numbers as arguments, so that the verifier looks at it once. */
__noinline int complete_entry(__u64 device, __u64 data, __u32 index)
{
	const struct hci_dev *hdev = (const void *)device;
	struct pool_key key = {.hci = BPF_CORE_READ(hdev, id)};
	struct completed_entry entry;

	if (!completed_entry(data, index, &entry))
		return -1;
	count_completed(&key, pool_of_handle(device, entry.handle), entry.count);
	return 0;
}

#include "user_channel.bpf.h"

/* An event of the host's, or of the process that is in its place. */
static __always_inline int handle_event(const struct hci_dev *hdev, const struct sk_buff *skb,
					bool is_user)
{
	const unsigned char *data = BPF_CORE_READ(skb, data);
	struct pool_key key = {.hci = BPF_CORE_READ(hdev, id), .pool = POOL_UNKNOWN};
	__u32 len = BPF_CORE_READ(skb, len);
	__u8 code = 0;
	__u32 entries;

	if (bpf_probe_read_kernel(&code, sizeof(code), data)) {
		count_drop(DROP_READ_FAILED);
		return 0;
	}
	end_turn(key.hci);
	if (code != HCI_EV_NUM_COMP_PKTS)
		return is_user ? user_event(key.hci, (__u64)data, len) : 0;
	if (!completed_entries(data, len, &entries))
		return 0;
	add_completed(&key, 1, 0);
	for (__u32 i = 0; i < MAX_HANDLES; i++) {
		if (i >= entries)
			return 0;
		if (is_user ? user_complete_entry(key.hci, (__u64)data, i) :
			      complete_entry(address_of(hdev), (__u64)data, i))
			return 0;
	}
	return 0;
}

static __always_inline int handle_packet(const struct hci_dev *hdev, const struct sk_buff *skb)
{
	__u8 type = hci_skb_pkt_type(skb);

	if (hci_is_going(hdev))
		return 0;
	if (hci_skb_incoming(skb))
		return type == HCI_EVENT_PKT ? handle_event(hdev, skb, hci_is_user_channel(hdev)) : 0;
	if (hci_is_user_channel(hdev))
		return user_packet(BPF_CORE_READ(hdev, id), skb, type);
	if (type == HCI_COMMAND_PKT)
		return user_forget(BPF_CORE_READ(hdev, id));
	return handle_sent(hdev, skb);
}

/* Forgets a device that goes, so that the next one of its number starts at 0. */
static __always_inline int handle_unregister(const struct hci_dev *hdev)
{
	struct pool_key key = {.hci = BPF_CORE_READ(hdev, id)};
	__u32 hci = key.hci;

	bpf_map_delete_elem(&credits_turns, &hci);
	for (int pool = POOL_ACL; pool <= POOL_UNKNOWN; pool++) {
		key.pool = pool;
		bpf_map_delete_elem(&credits_sends, &key);
		bpf_map_delete_elem(&credits_completed, &key);
		bpf_map_delete_elem(&credits_exhausted, &key);
	}
	return user_forget(key.hci);
}

static __always_inline void store_kernels(struct slots *slots, const struct hci_dev *hdev)
{
	slots->free[POOL_ACL] = free_slots(hdev, POOL_ACL);
	slots->free[POOL_SCO] = free_slots(hdev, POOL_SCO);
	slots->free[POOL_LE] = free_slots(hdev, POOL_LE);
	slots->free[POOL_ISO] = free_slots(hdev, POOL_ISO);
	slots->capacity[POOL_ACL] = BPF_CORE_READ(hdev, acl_pkts);
	slots->capacity[POOL_SCO] = BPF_CORE_READ(hdev, sco_pkts);
	slots->capacity[POOL_LE] = BPF_CORE_READ(hdev, le_pkts);
	slots->capacity[POOL_ISO] = hci_iso_pkts(hdev);
	slots->sco_flow_control = hci_sco_flow_controlled(hdev);
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
	slots->user_channel = hci_is_user_channel(hdev);
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
	return handle_packet(hdev, skb);
}

SEC("kprobe/hci_send_to_monitor")
int BPF_KPROBE(hci_send_to_monitor_kprobe, struct hci_dev *hdev, struct sk_buff *skb)
{
	return handle_packet(hdev, skb);
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
