/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Devices on the user channel: what a process's commands mean for packets in the controller.
 *
 * Its links have no hci_conn. They end with a Disconnection Complete event, or without a word with the
 * process's Reset; and its SCO packets are completed if the process asked for that.
 *
 * Included by latency.bpf.c after its own functions on links.
 */
#ifndef LATENCY_USER_BPF_H
#define LATENCY_USER_BPF_H

/* Spec: Core 5.4, Vol 4, Part E, 7.3.2, 7.3.37. */
#define HCI_OP_RESET		  0x0c03
#define HCI_OP_WRITE_SYNC_FLOWCTL 0x0c2f

/* Links of one device that a Reset can end. */
#define MAX_USER_LINKS 16

struct user {
	__u32 links; /* how many were seen */
	__u32 sco_flow_control;
	__u16 handles[MAX_USER_LINKS]; /* of those that were seen last */
};

/* By the N of hciN. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u32);
	__type(value, struct user);
} latency_users SEC(".maps");

static __always_inline struct user *user_of(bool typed, const struct hci_dev *hdev, __u32 hci)
{
	return hci_is_user_channel(typed, hdev) ? bpf_map_lookup_elem(&latency_users, &hci) : 0;
}

/* A process's link has its first packet. */
static __always_inline void user_link(bool typed, const struct hci_dev *hdev,
				      const struct link_key *key)
{
	struct user *user = user_of(typed, hdev, key->hci);

	if (user)
		user->handles[user->links++ % MAX_USER_LINKS] = key->handle;
}

/* Are the SCO packets of this device's process completed? */
static __always_inline bool user_counts_sco(bool typed, const struct hci_dev *hdev, __u32 hci)
{
	const struct user *user = user_of(typed, hdev, hci);

	return user && user->sco_flow_control;
}

/* A command of a process's. With numbers as arguments: the verifier looks at it once. */
__noinline int user_command(__u32 hci, __u64 data)
{
	struct user *user = bpf_map_lookup_elem(&latency_users, &hci);
	struct link_key key = {.hci = hci};
	struct {
		__u16 opcode;
		__u8 length;
		__u8 parameter;
	} command = {};

	/* Without a parameter, what is beyond the end is read with it: struct skb_shared_info. */
	if (!user || bpf_probe_read_kernel(&command, sizeof(command), (const void *)data))
		return 0;
	if (command.opcode == HCI_OP_WRITE_SYNC_FLOWCTL)
		user->sco_flow_control = command.parameter;
	if (command.opcode != HCI_OP_RESET)
		return 0;
	user->sco_flow_control = 0;
	for (int i = 0; i < MAX_USER_LINKS; i++) {
		key.handle = user->handles[i];
		forget_link(&key, true);
	}
	return 0;
}

#endif /* LATENCY_USER_BPF_H */
