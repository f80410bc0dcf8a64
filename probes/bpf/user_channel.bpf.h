/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Devices on the user channel: the slots as the process that drives the device has to count them.
 *
 * The kernel hands such packets through and counts nothing (hci_sock.c hci_sock_sendmsg(), hci_core.c
 * hci_tx_work(), hci_rx_work()). What the process knows is in the packets themselves: how many buffers
 * the controller has, which handles are which links, what was sent, and what was completed. From the
 * process's Reset on all of it is seen; before that there is no model, and no series.
 *
 * Included by credits.bpf.c after its own functions.
 */
#ifndef USER_CHANNEL_BPF_H
#define USER_CHANNEL_BPF_H

/* Links of all such devices together. */
#define MAX_USER_LINKS 256

/* Spec: Core 5.4, Vol 4, Part E, 7.3.2, 7.3.37, 7.4.5, 7.8.2. */
#define HCI_OP_RESET		       0x0c03
#define HCI_OP_WRITE_SYNC_FLOWCTL      0x0c2f
#define HCI_OP_READ_BUFFER_SIZE	       0x1005
#define HCI_OP_LE_READ_BUFFER_SIZE     0x2002
#define HCI_OP_LE_READ_BUFFER_SIZE_V2  0x2060

/* Spec: Core 5.4, Vol 4, Part E, 7.7. */
#define HCI_EV_CONN_COMPLETE	  0x03
#define HCI_EV_SYNC_CONN_COMPLETE 0x2c
/* Spec: Core 5.4, Vol 4, Part E, 7.7.65. */
#define HCI_EV_LE_CONN_COMPLETE		 0x01
#define HCI_EV_LE_ENHANCED_CONN_COMPLETE 0x0a
#define HCI_EV_LE_CIS_ESTABLISHED	 0x19

struct user {
	__u32 capacity[POOLS];
	__u32 taken[POOLS];
	/* Goes up with each Reset: links of an earlier number are gone. */
	__u32 resets;
	__u8 sco_flow_control;
	__u8 sco_wanted; /* what the command asks for that is not answered yet */
	__u16 pad;
};

/* By the N of hciN. Packets and events of one controller are handled one at a time: one writer. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u32);
	__type(value, struct user);
} credits_users SEC(".maps");

struct user_link_key {
	__u16 hci;
	__u16 handle;
};

struct user_link {
	__u32 pool; /* enum pool; POOL_LE also if the controller has no buffers for LE alone */
	__u32 taken;
	__u32 resets;
};

/* A link that goes without a word, with a Reset, leaves its entry to the next of that handle. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_USER_LINKS);
	__type(key, struct user_link_key);
	__type(value, struct user_link);
} credits_user_links SEC(".maps");

static __always_inline struct user *user_of(__u32 hci)
{
	return bpf_map_lookup_elem(&credits_users, &hci);
}

/* The process is gone, or its device. */
static __always_inline int user_forget(__u32 hci)
{
	bpf_map_delete_elem(&credits_users, &hci);
	return 0;
}

/* The link with that handle, unless it went with a Reset. */
static __always_inline struct user_link *user_link_of(const struct user *user, __u32 hci,
						      __u16 handle)
{
	struct user_link_key key = {.hci = hci, .handle = handle & 0x0fff};
	struct user_link *link = bpf_map_lookup_elem(&credits_user_links, &key);

	return link && link->resets == user->resets ? link : 0;
}

/* The pool that a link's packets take their slots from. */
static __always_inline enum pool user_pool(const struct user *user, const struct user_link *link)
{
	switch (link->pool) {
	case POOL_ACL:
	case POOL_SCO:
		return link->pool;
	case POOL_ISO:
		/* Without it the kernel has no such series, for no device: the loader says so. */
		if (!hci_has_iso_pool())
			return POOL_UNKNOWN;
		if (user->capacity[POOL_ISO])
			return POOL_ISO;
		/* fallthrough */
	default:
		return user->capacity[POOL_LE] ? POOL_LE : POOL_ACL;
	}
}

/* The process sends data: the packet takes a slot, if such packets do. */
static __always_inline int user_data(__u32 hci, struct user *user, __u16 handle)
{
	struct user_link *link = user_link_of(user, hci, handle);
	__u32 pool;

	if (!link) {
		count_drop(DROP_NO_ENTRY);
		return 0;
	}
	pool = user_pool(user, link);
	barrier_var(pool); /* what is checked is what is used */
	if (pool >= POOLS || (pool == POOL_SCO && !user->sco_flow_control))
		return 0;
	if (user->taken[pool] >= user->capacity[pool]) {
		count_drop(DROP_UNEXPECTED);
		return 0;
	}
	user->taken[pool] += 1;
	link->taken += 1;
	return count_send(hci, pool, user->capacity[pool] - user->taken[pool]);
}

/* A packet of the process's, of any kind. */
static __always_inline int user_packet(bool typed, __u32 hci, const struct sk_buff *skb,
				       __u8 type)
{
	struct user *user = user_of(hci);
	struct user none = {};
	struct {
		__u16 first; /* opcode, or handle and flags */
		__u8 length;
		__u8 parameter;
	} head = {};

	if (READ(typed, skb, len) < 3 ||
	    bpf_probe_read_kernel(&head, sizeof(head), READ(typed, skb, data))) {
		count_drop(DROP_MALFORMED);
		return 0;
	}
	if (type == HCI_ACLDATA_PKT || type == HCI_SCODATA_PKT || type == HCI_ISODATA_PKT)
		return user ? user_data(hci, user, head.first) : 0;
	if (type != HCI_COMMAND_PKT) /* the driver's own */
		return 0;
	if (head.first == HCI_OP_WRITE_SYNC_FLOWCTL && user)
		user->sco_wanted = head.parameter;
	if (head.first == HCI_OP_RESET && !user &&
	    bpf_map_update_elem(&credits_users, &hci, &none, BPF_NOEXIST))
		count_drop(DROP_MAP_FULL);
	return 0;
}

/* Gives slots of a link back. */
static __always_inline void user_give_back(struct user *user, struct user_link *link, __u32 packets)
{
	__u32 pool = user_pool(user, link);

	if (packets > link->taken)
		packets = link->taken;
	link->taken -= packets;
	barrier_var(pool);
	if (pool < POOLS)
		user->taken[pool] -= packets < user->taken[pool] ? packets : user->taken[pool];
}

/* Packets of one link were completed: an entry of a Number Of Completed Packets event. */
__noinline int user_complete(__u32 hci, __u32 handle, __u32 packets)
{
	struct user *user = user_of(hci);
	struct user_link *link = user ? user_link_of(user, hci, handle) : 0;

	if (link && user_pool(user, link) == POOL_UNKNOWN)
		return 0;
	if (link)
		user_give_back(user, link, packets);
	count_completed(hci, link ? user_pool(user, link) : POOL_UNKNOWN, packets);
	return 0;
}

/* A link stands. */
static __always_inline int user_connected(__u32 hci, struct user *user, __u16 handle, enum pool pool)
{
	struct user_link_key key = {.hci = hci, .handle = handle & 0x0fff};
	struct user_link link = {.pool = pool, .resets = user->resets};

	if (bpf_map_update_elem(&credits_user_links, &key, &link, BPF_ANY))
		count_drop(DROP_MAP_FULL);
	return 0;
}

/* A link is gone, and what it had in the controller with it. */
static __always_inline int user_disconnected(__u32 hci, struct user *user, __u16 handle)
{
	struct user_link_key key = {.hci = hci, .handle = handle & 0x0fff};
	struct user_link *link = user_link_of(user, hci, handle);

	if (link)
		user_give_back(user, link, link->taken);
	bpf_map_delete_elem(&credits_user_links, &key);
	return 0;
}

/* The longest answer that is read: that to LE Read Buffer Size v2. */
#define USER_EVENT_BYTES 13

static __always_inline __u16 le16(const __u8 *bytes)
{
	return bytes[0] | bytes[1] << 8;
}

/* The controller has carried out a command. */
static __always_inline int user_answer(struct user *user, const __u8 *event)
{
	const __u8 *parameters = event + 6;

	switch (le16(event + 3)) {
	case HCI_OP_RESET: {
		struct user none = {.resets = user->resets + 1};

		*user = none;
		break;
	}
	case HCI_OP_WRITE_SYNC_FLOWCTL:
		user->sco_flow_control = user->sco_wanted;
		break;
	case HCI_OP_READ_BUFFER_SIZE:
		user->capacity[POOL_ACL] = le16(parameters + 3);
		user->capacity[POOL_SCO] = le16(parameters + 5);
		break;
	case HCI_OP_LE_READ_BUFFER_SIZE_V2:
		if (hci_has_iso_pool())
			user->capacity[POOL_ISO] = parameters[5];
		/* fallthrough */
	case HCI_OP_LE_READ_BUFFER_SIZE:
		user->capacity[POOL_LE] = parameters[2];
		break;
	}
	return 0;
}

/*
 * An event for the process that does not report completed packets. What is beyond a short event's end
 * is read with it: an skb's data are followed by more than that (struct skb_shared_info).
 */
__noinline int user_event(__u32 hci, __u64 data, __u32 len)
{
	struct user *user = user_of(hci);
	__u8 event[USER_EVENT_BYTES] = {};

	if (!user)
		return 0;
	if (len < 3 || bpf_probe_read_kernel(event, sizeof(event), (const void *)data)) {
		count_drop(DROP_MALFORMED);
		return 0;
	}
	switch (event[0]) {
	case HCI_EV_CMD_COMPLETE:
		return len >= 6 && !event[5] ? user_answer(user, event) : 0;
	case HCI_EV_CONN_COMPLETE:
	case HCI_EV_SYNC_CONN_COMPLETE:
		if (event[2] || len < 12)
			return 0;
		return user_connected(hci, user, le16(event + 3),
				      event[11] == ACL_LINK ? POOL_ACL : POOL_SCO);
	case HCI_EV_DISCONN_COMPLETE:
		return event[2] || len < 5 ? 0 : user_disconnected(hci, user, le16(event + 3));
	case HCI_EV_LE_META:
		if (event[3] || len < 6)
			return 0;
		if (event[2] == HCI_EV_LE_CONN_COMPLETE || event[2] == HCI_EV_LE_ENHANCED_CONN_COMPLETE)
			return user_connected(hci, user, le16(event + 4), POOL_LE);
		if (event[2] == HCI_EV_LE_CIS_ESTABLISHED)
			return user_connected(hci, user, le16(event + 4), POOL_ISO);
	}
	return 0;
}

/* Writes the counters of a device for slots_run. */
static __always_inline void user_store(struct slots *slots)
{
	const struct user *user = user_of(slots->hci);

	for (int pool = 0; pool < POOLS; pool++) {
		slots->capacity[pool] = user ? user->capacity[pool] : 0;
		slots->free[pool] = user ? user->capacity[pool] - user->taken[pool] : 0;
	}
	slots->sco_flow_control = user ? user->sco_flow_control : 0;
}

#endif /* USER_CHANNEL_BPF_H */
