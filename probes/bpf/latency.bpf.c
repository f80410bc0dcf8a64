// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Latency family: how long data packets wait in the host, and how long controllers take to complete
 * them.
 *
 * Where: hci_send_acl, hci_send_sco and hci_send_iso, where a packet enters its queue;
 * hci_send_to_monitor, which hci_send_frame calls for each packet to a driver and hci_rx_work for each
 * event; the return of hci_send_frame, for packets that the driver refuses; hci_conn_del.
 * Cost: a packet sent, two writes to hash maps, two look-ups and two deletions; an event, four reads. What is
 * remembered of a packet in its queue is dropped when the map is full; what is remembered of packets
 * in a controller goes with the link.
 */
#include "compat.bpf.h"
#include "completed.bpf.h"
#include "config.bpf.h"
#include "drops.bpf.h"
#include "sending.bpf.h"
#include "times.bpf.h"

/* hciN has the lowest N that is free; devices from here on are counted as dropped. */
#define MAX_DEVICES 32
/* Links of all devices together, and packets of one link in the controller, that are followed. */
#define MAX_LINKS     128
#define MAX_IN_FLIGHT 64
/* Packets in queues of all links together that are followed. */
#define MAX_QUEUED 4096

enum link_kind {
	KIND_ACL,
	KIND_LE,
	KIND_SCO,
	KIND_ISO,
	KIND_UNKNOWN, /* the host knows no such link: packets of a raw socket or of the user channel */
	KINDS,
};

struct queued {
	__u64 ns;
	__u64 kind; /* enum link_kind */
};

/* By the address of the skb. An skb that is purged leaves its entry, which the next use of that
 * address replaces, or the map when it needs room. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_QUEUED);
	__type(key, __u64);
	__type(value, struct queued);
} latency_queued SEC(".maps");

struct link_key {
	__u16 hci;
	__u16 handle;
};

/*
 * Packets to one controller, and its events, are handled in one ordered work queue: each entry has one
 * writer.
 */
struct link {
	__u64 queued_ns; /* when the packet entered its queue whose fragments follow; 0: not known */
	__u32 queued_kind; /* its enum link_kind */
	__u32 kind; /* enum link_kind of the packets in the controller */
	__u32 first; /* number of the oldest of them */
	__u32 followed; /* how many there are whose times are known */
	__u32 unfollowed; /* how many there are beyond MAX_IN_FLIGHT */
	__u32 pad;
	__u64 sent_ns[MAX_IN_FLIGHT];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_LINKS);
	__type(key, struct link_key);
	__type(value, struct link);
} latency_links SEC(".maps");

/* An entry of latency_links is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct link);
} latency_no_link SEC(".maps");

struct latency {
	__u64 sent; /* packets that the controller is to complete */
	__u64 completed;
	__u64 abandoned; /* never completed: their link is gone */
	__u64 unmatched; /* completed and never sent; of KIND_UNKNOWN alone */
	struct times queue;
	struct times ack;
};
_Static_assert(sizeof(struct latency) == 368, "the loader decodes 368 bytes");

/* By the N of hciN times KINDS, plus the kind. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_DEVICES *KINDS);
	__type(key, __u32);
	__type(value, struct latency);
} latency_times SEC(".maps");

static __always_inline struct latency *latency_of(__u16 hci, __u32 kind)
{
	__u32 index = hci * KINDS + kind;

	return kind < KINDS ? bpf_map_lookup_elem(&latency_times, &index) : 0;
}

static __always_inline int handle_queue(const struct sk_buff *skb, enum link_kind kind)
{
	struct queued queued = {.ns = bpf_ktime_get_ns(), .kind = kind};
	__u64 key = address_of(skb);

	if (bpf_map_update_elem(&latency_queued, &key, &queued, BPF_ANY))
		count_drop(DROP_MAP_FULL);
	return 0;
}

static __always_inline enum link_kind kind_of_chan(const struct hci_chan *chan)
{
	__u8 type = BPF_CORE_READ(chan, conn, type);

	return type == LE_LINK ? KIND_LE : KIND_ACL;
}

static __always_inline void user_link(const struct hci_dev *hdev, const struct link_key *key);
static __always_inline bool user_counts_sco(const struct hci_dev *hdev, __u32 hci);

static __always_inline struct link *link_of(const struct hci_dev *hdev, const struct link_key *key)
{
	struct link *link = bpf_map_lookup_elem(&latency_links, key);
	__u32 zero = 0;
	struct link *none;

	if (link)
		return link;
	none = bpf_map_lookup_elem(&latency_no_link, &zero);
	if (!none || bpf_map_update_elem(&latency_links, key, none, BPF_NOEXIST))
		return 0;
	link = bpf_map_lookup_elem(&latency_links, key);
	if (link)
		link->kind = KIND_UNKNOWN;
	user_link(hdev, key);
	return link;
}

/*
 * Does a packet go on with what the one before it on the link began? Its header's bits 12 and 13.
 * Spec: Core 5.4, Vol 4, Part E, 5.4.2 and 5.4.5.
 */
static __always_inline bool is_continuation(__u8 type, __u16 header)
{
	__u8 boundary = header >> 12 & 3;

	return (type == HCI_ACLDATA_PKT && boundary == 1) ||
	       (type == HCI_ISODATA_PKT && boundary & 1);
}

/* Ends the time in the queue. Fragments entered it together with the first of them. */
static __always_inline void leave_queue(struct link *link, const struct sk_buff *skb, __u16 hci,
					bool continues, __u64 now)
{
	__u64 key = address_of(skb);
	struct queued *queued = bpf_map_lookup_elem(&latency_queued, &key);
	struct latency *latency;

	if (queued) {
		link->queued_ns = queued->ns;
		link->queued_kind = queued->kind;
		if (!link->followed && !link->unfollowed)
			link->kind = queued->kind;
		bpf_map_delete_elem(&latency_queued, &key);
	} else if (!continues) {
		link->queued_ns = 0;
	}
	if (!link->queued_ns)
		return;
	latency = latency_of(hci, link->queued_kind);
	if (latency)
		add_time(&latency->queue, now - link->queued_ns);
}

/* Begins the time in the controller. */
static __always_inline void enter_controller(struct link *link, __u64 now)
{
	if (link->followed >= MAX_IN_FLIGHT || link->unfollowed) {
		link->unfollowed += 1;
		count_drop(DROP_TRUNCATED);
		return;
	}
	link->sent_ns[(link->first + link->followed) % MAX_IN_FLIGHT] = now;
	link->followed += 1;
}

static __always_inline int handle_sent(const struct hci_dev *hdev, const struct sk_buff *skb,
				       __u8 type)
{
	struct link_key key = {.hci = BPF_CORE_READ(hdev, id)};
	__u64 now = bpf_ktime_get_ns();
	struct latency *latency;
	struct link *link;
	__u16 header;

	if (BPF_CORE_READ(skb, len) < sizeof(header) ||
	    bpf_probe_read_kernel(&header, sizeof(header), BPF_CORE_READ(skb, data))) {
		count_drop(DROP_MALFORMED);
		return 0;
	}
	key.handle = header & 0x0fff;
	link = link_of(hdev, &key);
	if (!link) {
		count_drop(DROP_MAP_FULL);
		return 0;
	}
	leave_queue(link, skb, key.hci, is_continuation(type, header), now);
	/* Such packets are never completed. */
	if (type == HCI_SCODATA_PKT && !hci_sco_flow_controlled(hdev) &&
	    !user_counts_sco(hdev, key.hci))
		return 0;
	enter_controller(link, now);
	latency = latency_of(key.hci, link->kind);
	if (latency)
		__sync_fetch_and_add(&latency->sent, 1);
	remember_sending(key.hci, type, key.handle);
	return 0;
}

/* The return of hci_send_frame: what the driver refused is not in the controller. */
static __always_inline int handle_return(int result)
{
	struct sending packet;
	struct link_key key;
	struct latency *latency;
	struct link *link;

	if (!take_sending(&packet) || result >= 0)
		return 0;
	key.hci = packet.hci;
	key.handle = packet.handle;
	link = bpf_map_lookup_elem(&latency_links, &key);
	if (!link)
		return 0;
	if (link->unfollowed)
		link->unfollowed -= 1;
	else if (link->followed)
		link->followed -= 1;
	latency = latency_of(key.hci, link->kind);
	if (latency)
		__sync_fetch_and_add(&latency->sent, -1);
	return 0;
}

/* A number of packets of one link have been completed. */
static __always_inline void complete(const struct link_key *key, __u32 packets, __u64 now)
{
	struct link *link = bpf_map_lookup_elem(&latency_links, key);
	struct latency *latency = latency_of(key->hci, link ? link->kind : KIND_UNKNOWN);
	__u32 matched = 0;

	if (link && latency) {
		for (int i = 0; i < MAX_IN_FLIGHT; i++) {
			if (matched == packets || !link->followed)
				break;
			add_time(&latency->ack, now - link->sent_ns[link->first % MAX_IN_FLIGHT]);
			link->first += 1;
			link->followed -= 1;
			matched += 1;
		}
		if (link->unfollowed && matched < packets) {
			__u32 rest = packets - matched;

			if (rest > link->unfollowed)
				rest = link->unfollowed;
			link->unfollowed -= rest;
			matched += rest;
		}
		__sync_fetch_and_add(&latency->completed, matched);
	}
	if (matched == packets)
		return;
	latency = latency_of(key->hci, KIND_UNKNOWN);
	if (latency)
		__sync_fetch_and_add(&latency->unmatched, packets - matched);
}

/* Completes what one entry of an event says. With numbers as arguments: the verifier looks at it once. */
__noinline int complete_entry(__u32 hci, __u64 data, __u32 index, __u64 now)
{
	struct link_key key = {.hci = hci};
	struct completed_entry entry;

	if (!completed_entry(data, index, &entry))
		return -1;
	key.handle = entry.handle & 0x0fff;
	complete(&key, entry.count, now);
	return 0;
}

/* Forgets a link; what it had in the controller will not be completed. */
static __always_inline void forget_link(const struct link_key *key, bool counts)
{
	struct link *link = bpf_map_lookup_elem(&latency_links, key);
	struct latency *latency;

	if (!link)
		return;
	latency = counts ? latency_of(key->hci, link->kind) : 0;
	if (latency)
		__sync_fetch_and_add(&latency->abandoned, link->followed + link->unfollowed);
	bpf_map_delete_elem(&latency_links, key);
}

#include "latency_user.bpf.h"

static __always_inline int handle_completed(__u16 hci, const unsigned char *data, __u32 len)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 entries;

	if (!completed_entries(data, len, &entries))
		return 0;
	for (__u32 i = 0; i < MAX_HANDLES; i++) {
		if (i >= entries || complete_entry(hci, (__u64)data, i, now))
			return 0;
	}
	return 0;
}

static __always_inline int handle_event(const struct hci_dev *hdev, const struct sk_buff *skb)
{
	const unsigned char *data = BPF_CORE_READ(skb, data);
	__u32 len = BPF_CORE_READ(skb, len);
	__u16 hci = BPF_CORE_READ(hdev, id);
	__u8 event[5];

	if (!len || bpf_probe_read_kernel(event, 1, data))
		return 0;
	if (event[0] == HCI_EV_NUM_COMP_PKTS)
		return handle_completed(hci, data, len);
	/* The links of a raw socket's or a user channel's process have no hci_conn. */
	if (event[0] == HCI_EV_DISCONN_COMPLETE && len >= sizeof(event) &&
	    !bpf_probe_read_kernel(event, sizeof(event), data) && !event[2]) {
		struct link_key key = {.hci = hci, .handle = (event[3] | event[4] << 8) & 0x0fff};

		forget_link(&key, true);
	}
	return 0;
}

static __always_inline int handle_packet(const struct hci_dev *hdev, const struct sk_buff *skb)
{
	__u8 type = hci_skb_pkt_type(skb);

	if (hci_is_going(hdev))
		return 0;
	if (BPF_CORE_READ(hdev, id) >= MAX_DEVICES) {
		count_drop(DROP_MAP_FULL);
		return 0;
	}
	if (hci_skb_incoming(skb))
		return type == HCI_EVENT_PKT ? handle_event(hdev, skb) : 0;
	if (type == HCI_ACLDATA_PKT || type == HCI_SCODATA_PKT || type == HCI_ISODATA_PKT)
		return handle_sent(hdev, skb, type);
	if (type == HCI_COMMAND_PKT && hci_is_user_channel(hdev))
		return user_command(BPF_CORE_READ(hdev, id), (__u64)BPF_CORE_READ(skb, data));
	return 0;
}

static __always_inline int handle_conn_del(const struct hci_conn *conn)
{
	const struct hci_dev *hdev = BPF_CORE_READ(conn, hdev);
	struct link_key key = {
		.hci = BPF_CORE_READ(hdev, id),
		.handle = BPF_CORE_READ(conn, handle),
	};

	forget_link(&key, !hci_is_going(hdev));
	return 0;
}

/* Forgets a device that goes, so that the next one of its number starts at 0. */
static __always_inline int handle_unregister(const struct hci_dev *hdev)
{
	__u32 hci = BPF_CORE_READ(hdev, id);
	struct latency none = {};

	for (__u32 kind = 0; kind < KINDS; kind++) {
		__u32 index = hci * KINDS + kind;

		if (index < MAX_DEVICES * KINDS)
			bpf_map_update_elem(&latency_times, &index, &none, BPF_ANY);
	}
	return 0;
}

SEC("fentry/hci_send_acl")
int BPF_PROG(hci_send_acl_fentry, struct hci_chan *chan, struct sk_buff *skb)
{
	return handle_queue(skb, kind_of_chan(chan));
}

SEC("kprobe/hci_send_acl")
int BPF_KPROBE(hci_send_acl_kprobe, struct hci_chan *chan, struct sk_buff *skb)
{
	return handle_queue(skb, kind_of_chan(chan));
}

SEC("fentry/hci_send_sco")
int BPF_PROG(hci_send_sco_fentry, struct hci_conn *conn, struct sk_buff *skb)
{
	return handle_queue(skb, KIND_SCO);
}

SEC("kprobe/hci_send_sco")
int BPF_KPROBE(hci_send_sco_kprobe, struct hci_conn *conn, struct sk_buff *skb)
{
	return handle_queue(skb, KIND_SCO);
}

SEC("fentry/hci_send_iso")
int BPF_PROG(hci_send_iso_fentry, struct hci_conn *conn, struct sk_buff *skb)
{
	return handle_queue(skb, KIND_ISO);
}

SEC("kprobe/hci_send_iso")
int BPF_KPROBE(hci_send_iso_kprobe, struct hci_conn *conn, struct sk_buff *skb)
{
	return handle_queue(skb, KIND_ISO);
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

SEC("fexit/hci_send_frame")
int BPF_PROG(hci_send_frame_fexit, struct hci_dev *hdev, struct sk_buff *skb, int result)
{
	return handle_return(result);
}

SEC("kretprobe/hci_send_frame")
int BPF_KRETPROBE(hci_send_frame_kretprobe, int result)
{
	return handle_return(result);
}

SEC("fentry/hci_conn_del")
int BPF_PROG(hci_conn_del_fentry, struct hci_conn *conn)
{
	return handle_conn_del(conn);
}

SEC("kprobe/hci_conn_del")
int BPF_KPROBE(hci_conn_del_kprobe, struct hci_conn *conn)
{
	return handle_conn_del(conn);
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

char LICENSE[] SEC("license") = "Dual BSD/GPL";
