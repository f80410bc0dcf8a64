// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Latency family: how long data packets wait in the host, and how long controllers take to complete
 * them.
 *
 * Where: hci_send_acl, hci_send_sco and hci_send_iso, where a packet enters its queue;
 * hci_send_to_monitor, which hci_send_frame calls for each packet to a driver and hci_rx_work for each
 * event; the return of hci_send_frame, for packets that the driver refuses; hci_conn_del.
 * Cost: a packet sent, a look-up in a hash map and some six in arrays; one that did not enter a queue by
 * itself, as fragments do not, also a read of its header and one more look-up in a hash map. An event,
 * one read and one look-up for each link that it tells of. With kprobes each member of the kernel's
 * structures is a read too, and a packet takes an entry of a hash map while it waits (queued.bpf.h) and
 * another while it is handed over (sending.bpf.h). What is remembered of packets in a controller goes
 * with the link.
 */
#include "compat.bpf.h"
#include "completed.bpf.h"
#include "config.bpf.h"
#include "drops.bpf.h"
#include "queued.bpf.h"
#include "sending.bpf.h"
#include "times.bpf.h"

/* Links of all devices together, and packets of one link in the controller, that are followed. */
#define MAX_LINKS     128
#define MAX_IN_FLIGHT 64

enum link_kind {
	KIND_ACL,
	KIND_LE,
	KIND_SCO,
	KIND_ISO,
	KIND_UNKNOWN, /* the host knows no such link: packets of a raw socket or of the user channel */
	KINDS,
};

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

static __always_inline int handle_queue(bool typed, const struct hci_conn *conn,
					const struct sk_buff *skb, enum link_kind kind)
{
	struct queued queued = {
		.ns = bpf_ktime_get_ns(),
		.kind = kind,
		.handle = READ(typed, conn, handle),
	};

	/* Others cannot claim a place: not even the device need be read. */
	put_queued(typed ? READ(typed, conn, hdev) : 0, skb, &queued);
	return 0;
}

/* ACL packets are those of LE links, too. */
static __always_inline int handle_queue_acl(bool typed, const struct hci_chan *chan,
					    const struct sk_buff *skb)
{
	const struct hci_conn *conn = READ(typed, chan, conn);
	__u8 type = READ(typed, conn, type);

	return handle_queue(typed, conn, skb, type == LE_LINK ? KIND_LE : KIND_ACL);
}

static __always_inline void user_link(bool typed, const struct hci_dev *hdev,
				      const struct link_key *key);
static __always_inline bool user_counts_sco(bool typed, const struct hci_dev *hdev, __u32 hci);

static __always_inline struct link *link_of(bool typed, const struct hci_dev *hdev,
					    const struct link_key *key)
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
	user_link(typed, hdev, key);
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

/*
 * Ends the time in the queue; `queued` is 0 for a packet that is not known to have entered one. Fragments
 * entered it together with the first of them.
 */
static __always_inline void leave_queue(struct link *link, const struct queued *queued, __u16 hci,
					bool continues, __u64 now)
{
	struct latency *latency;

	if (queued) {
		link->queued_ns = queued->ns;
		link->queued_kind = queued->kind;
		if (!link->followed && !link->unfollowed)
			link->kind = queued->kind;
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

/* Reads a data packet's handle and flags. */
static __always_inline bool read_header(bool typed, const struct sk_buff *skb, __u16 *header)
{
	return READ(typed, skb, len) >= sizeof(*header) &&
	       !bpf_probe_read_kernel(header, sizeof(*header), READ(typed, skb, data));
}

static __always_inline int handle_sent(bool typed, const struct hci_dev *hdev,
				       const struct sk_buff *skb, __u8 type)
{
	struct link_key key = {.hci = READ(typed, hdev, id)};
	__u64 now = bpf_ktime_get_ns();
	struct latency *latency;
	struct queued queued;
	bool is_queued = take_queued(hdev, skb, &queued);
	struct link *link;
	__u16 header = 0;

	if (is_queued) {
		key.handle = queued.handle & 0x0fff;
	} else if (read_header(typed, skb, &header)) {
		key.handle = header & 0x0fff;
	} else {
		count_drop(DROP_MALFORMED);
		return 0;
	}
	link = link_of(typed, hdev, &key);
	if (!link) {
		count_drop(DROP_MAP_FULL);
		return 0;
	}
	leave_queue(link, is_queued ? &queued : 0, key.hci, is_continuation(type, header), now);
	/* Such packets are never completed. */
	if (type == HCI_SCODATA_PKT && !hci_sco_flow_controlled(typed, hdev) &&
	    !user_counts_sco(typed, hdev, key.hci))
		return 0;
	enter_controller(link, now);
	latency = latency_of(key.hci, link->kind);
	if (latency)
		__sync_fetch_and_add(&latency->sent, 1);
	remember_sending(key.hci, skb, type, key.handle);
	return 0;
}

/* What the driver refused is not in the controller. */
static __always_inline int leave_controller(const struct sending *packet)
{
	struct link_key key = {.hci = packet->hci, .handle = packet->handle};
	struct link *link = bpf_map_lookup_elem(&latency_links, &key);
	struct latency *latency;

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

/* The return of hci_send_frame: an error is the driver's, or says that the device does not run. */
static __always_inline int handle_sent_frame(const struct hci_dev *hdev, const struct sk_buff *skb,
					     int result)
{
	struct sending packet;

	return take_sending(hdev->id, skb, &packet) && result < 0 ? leave_controller(&packet) : 0;
}

/* The same, where nothing tells which packet it is. */
static __always_inline int handle_return(int result)
{
	struct sending packet;

	return take_sending_of_task(&packet) && result < 0 ? leave_controller(&packet) : 0;
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

/* Completes packets of one link. With numbers as arguments, so that the verifier looks at it once. */
__noinline int complete_link(__u32 hci, __u32 handle, __u32 packets, __u64 now)
{
	struct link_key key = {.hci = hci, .handle = handle & 0x0fff};

	complete(&key, packets, now);
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

static __always_inline int handle_completed(__u32 hci, __u64 data, const struct completed_head *head)
{
	struct completed_entry entry = head->first;
	__u64 now = bpf_ktime_get_ns();

	for (__u32 i = 0; i < MAX_HANDLES; i++) {
		if (i >= head->entries || (i && !completed_entry(data, i, &entry)))
			return 0;
		complete_link(hci, entry.handle, entry.packets, now);
	}
	return 0;
}

static __always_inline int handle_event(bool typed, const struct hci_dev *hdev,
					const struct sk_buff *skb)
{
	__u64 data = (__u64)READ(typed, skb, data);
	__u32 len = READ(typed, skb, len);
	__u16 hci = READ(typed, hdev, id);
	union {
		struct completed_head completed;
		__u8 bytes[sizeof(struct completed_head)];
	} event;

	if (!len || !read_completed_head(data, &event.completed))
		return 0;
	if (event.completed.code == HCI_EV_NUM_COMP_PKTS)
		return is_whole(&event.completed, len) ? handle_completed(hci, data, &event.completed) : 0;
	/* The links of a raw socket's or a user channel's process have no hci_conn. */
	if (event.completed.code == HCI_EV_DISCONN_COMPLETE && len >= 5 && !event.bytes[2]) {
		struct link_key key = {
			.hci = hci,
			.handle = (event.bytes[3] | event.bytes[4] << 8) & 0x0fff,
		};

		forget_link(&key, true);
	}
	return 0;
}

static __always_inline int handle_packet(bool typed, const struct hci_dev *hdev,
					 const struct sk_buff *skb)
{
	__u64 control = hci_skb_control(typed, skb);
	__u8 type = control_pkt_type(control);

	/* Events alone come from the controller; all else that counts goes to it. */
	if (control_incoming(control) != (type == HCI_EVENT_PKT))
		return 0;
	if (hci_is_going(typed, hdev))
		return 0;
	if (READ(typed, hdev, id) >= MAX_DEVICES) {
		count_drop(DROP_MAP_FULL);
		return 0;
	}
	switch (type) {
	case HCI_EVENT_PKT:
		return handle_event(typed, hdev, skb);
	case HCI_ACLDATA_PKT:
	case HCI_SCODATA_PKT:
	case HCI_ISODATA_PKT:
		return handle_sent(typed, hdev, skb, type);
	case HCI_COMMAND_PKT:
		if (hci_is_user_channel(typed, hdev))
			return user_command(READ(typed, hdev, id), (__u64)READ(typed, skb, data));
	}
	return 0;
}

static __always_inline int handle_conn_del(const struct hci_conn *conn)
{
	const struct hci_dev *hdev = BPF_CORE_READ(conn, hdev);
	struct link_key key = {.hci = BPF_CORE_READ(hdev, id), .handle = BPF_CORE_READ(conn, handle)};

	forget_link(&key, !hci_is_going(KPROBE, hdev));
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
	return handle_queue_acl(FENTRY, chan, skb);
}

SEC("kprobe/hci_send_acl")
int BPF_KPROBE(hci_send_acl_kprobe, struct hci_chan *chan, struct sk_buff *skb)
{
	return handle_queue_acl(KPROBE, chan, skb);
}

#define QUEUE_PROGRAMS(function, kind)                                                             \
	SEC("fentry/" #function)                                                                   \
	int BPF_PROG(function##_fentry, struct hci_conn *conn, struct sk_buff *skb)                \
	{                                                                                          \
		return handle_queue(FENTRY, conn, skb, kind);                                      \
	}                                                                                          \
                                                                                                   \
	SEC("kprobe/" #function)                                                                   \
	int BPF_KPROBE(function##_kprobe, struct hci_conn *conn, struct sk_buff *skb)              \
	{                                                                                          \
		return handle_queue(KPROBE, conn, skb, kind);                                      \
	}

QUEUE_PROGRAMS(hci_send_sco, KIND_SCO)
QUEUE_PROGRAMS(hci_send_iso, KIND_ISO)

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

SEC("fexit/hci_send_frame")
int BPF_PROG(hci_send_frame_fexit, struct hci_dev *hdev, struct sk_buff *skb, int result)
{
	return handle_sent_frame(hdev, skb, result);
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
