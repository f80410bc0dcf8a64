/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which packet a task is handing to a driver: the return of hci_send_frame says whether the driver took
 * it, when nothing may be read of it any more.
 */
#ifndef SENDING_BPF_H
#define SENDING_BPF_H

#include "compat.bpf.h"
#include "config.bpf.h"
#include "drops.bpf.h"

struct sending {
	__u16 hci;
	__u16 kind;
	__u32 handle;
};

/* One for each task that is in hci_send_frame; a task that is in it is in it once. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, __u64);
	__type(value, struct sending);
} sending SEC(".maps");

static __always_inline void remember_sending(__u16 hci, __u16 kind, __u32 handle)
{
	struct sending packet = {.hci = hci, .kind = kind, .handle = handle};
	__u64 task = bpf_get_current_pid_tgid();

	if (config.returns && bpf_map_update_elem(&sending, &task, &packet, BPF_ANY))
		count_drop(DROP_MAP_FULL);
}

/* Gives the packet that the task was handing over and forgets it; false if there is none. */
static __always_inline bool take_sending(struct sending *packet)
{
	__u64 task = bpf_get_current_pid_tgid();
	struct sending *found = bpf_map_lookup_elem(&sending, &task);

	if (!found)
		return false;
	*packet = *found;
	bpf_map_delete_elem(&sending, &task);
	return true;
}

#endif /* SENDING_BPF_H */
