/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which packet was being handed to a driver: the return of hci_send_frame says whether the driver took
 * it, when nothing may be read of it any more.
 *
 * An fexit program is told the device and the address of the packet: a note for each device does, which
 * costs next to nothing. A kretprobe is told neither: it takes an entry of a hash map for each task.
 */
#ifndef SENDING_BPF_H
#define SENDING_BPF_H

#include "compat.bpf.h"
#include "config.bpf.h"
#include "drops.bpf.h"

/* hciN has the lowest N that is free; devices from here on are counted as dropped. */
#define MAX_DEVICES 32

struct sending {
	__u64 skb; /* its address */
	__u16 hci;
	__u16 kind;
	__u32 handle;
};

/*
 * By the N of hciN: the last packet. Packets are handed over in one ordered work queue; vendor commands
 * of a driver's set-up alone pass it by, and may take the place of a packet that is under way.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u32);
	__type(value, struct sending);
} sending_by_device SEC(".maps");

/* One for each task that is in hci_send_frame; a task that is in it is in it once. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, __u64);
	__type(value, struct sending);
} sending_by_task SEC(".maps");

static __always_inline void remember_sending(__u32 hci, const struct sk_buff *skb, __u16 kind,
					     __u32 handle)
{
	struct sending packet = {.hci = hci, .kind = kind, .handle = handle};

	if (config.returns == RETURNS_FEXIT) {
		struct sending *note = bpf_map_lookup_elem(&sending_by_device, &hci);

		if (note) {
			*note = packet;
			note->skb = (__u64)skb;
		}
	} else if (config.returns == RETURNS_KRETPROBE) {
		__u64 task = bpf_get_current_pid_tgid();

		if (bpf_map_update_elem(&sending_by_task, &task, &packet, BPF_ANY))
			count_drop(DROP_MAP_FULL);
	}
}

/* Gives what was noted of a packet and forgets it; false if it was not noted, or another one since. */
static __always_inline bool take_sending(__u32 hci, const struct sk_buff *skb,
					 struct sending *packet)
{
	struct sending *note = bpf_map_lookup_elem(&sending_by_device, &hci);

	if (!note || note->skb != (__u64)skb)
		return false;
	*packet = *note;
	note->skb = 0;
	return true;
}

/* Gives the packet that the task was handing over and forgets it; false if there is none. */
static __always_inline bool take_sending_of_task(struct sending *packet)
{
	__u64 task = bpf_get_current_pid_tgid();
	struct sending *found = bpf_map_lookup_elem(&sending_by_task, &task);

	if (!found)
		return false;
	*packet = *found;
	bpf_map_delete_elem(&sending_by_task, &task);
	return true;
}

#endif /* SENDING_BPF_H */
