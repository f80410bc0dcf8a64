// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * For measuring costs alone: the socket family as generic exporters write such things. A kretprobe at
 * each function and hash maps shared by all processors, counted with atomic operations. It tells
 * neither peeks from reads nor the kernel's own calls from those of processes.
 */
#include "../compat.bpf.h"

struct key {
	__u32 proto;
	__u32 is_read;
	__s32 error;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, __u64);
} socket_calls_total SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, __u64);
} socket_bytes_total SEC(".maps");

static __always_inline void increment(void *map, const struct key *key, __u64 by)
{
	__u64 zero = 0;
	__u64 *count = bpf_map_lookup_elem(map, key);

	if (!count) {
		bpf_map_update_elem(map, key, &zero, BPF_NOEXIST);
		count = bpf_map_lookup_elem(map, key);
	}
	if (count)
		__sync_fetch_and_add(count, by);
}

static __always_inline int count(__u32 proto, __u32 is_read, int ret)
{
	struct key key = {.proto = proto, .is_read = is_read, .error = ret < 0 ? ret : 0};

	increment(&socket_calls_total, &key, 1);
	if (ret > 0)
		increment(&socket_bytes_total, &key, ret);
	return 0;
}

#define PLAIN_PROGS(name, proto)                                                                   \
	SEC("kretprobe/" #name "_sock_sendmsg")                                                    \
	int BPF_KRETPROBE(name##_sendmsg, int ret)                                                 \
	{                                                                                          \
		return count(proto, 0, ret);                                                       \
	}                                                                                          \
	SEC("kretprobe/" #name "_sock_recvmsg")                                                    \
	int BPF_KRETPROBE(name##_recvmsg, int ret)                                                 \
	{                                                                                          \
		return count(proto, 1, ret);                                                       \
	}

PLAIN_PROGS(l2cap, BTPROTO_L2CAP)
PLAIN_PROGS(sco, BTPROTO_SCO)
PLAIN_PROGS(hci, BTPROTO_HCI)
PLAIN_PROGS(rfcomm, BTPROTO_RFCOMM)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
