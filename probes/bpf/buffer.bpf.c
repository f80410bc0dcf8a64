// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Buffer family: how full the send buffers of Bluetooth sockets are, why writes that do not wait are
 * turned away, and how long a full buffer stays full.
 *
 * Where: entry and return of sock_alloc_send_pskb, where each message, or each fragment of one, gets
 * its memory; the return of bt_sock_wait_ready, where an L2CAP channel that may not send turns writes
 * away before that; the entry of hci_send_frame, where a packet's memory goes back to its socket; and
 * bt_sock_unlink, where a socket ends.
 * Cost: sock_alloc_send_pskb serves Unix and packet sockets too, for which nothing but the family is
 * looked at (and with kprobes, one look-up more at the return). A Bluetooth message, one look-up in an
 * array; a packet that has a socket, one in a hash map that is empty unless some buffer is full. With
 * kprobes each member of the kernel's structures is a read too, some ten a message and one a packet.
 */
#include "compat.bpf.h"
#include "drops.bpf.h"
#include "times.bpf.h"

/* sk_wmem_alloc begins at 1: SK_WMEM_ALLOC_BIAS. A negative control forgets it. */
#ifndef WMEM_BIAS
#define WMEM_BIAS 1
#endif

/* One more than the largest BTPROTO_*. */
#define PROTOCOLS 9

/* Where writes that are turned away are counted, by cause. A negative control takes one for the other. */
#ifndef TURNED_AWAY_FULL
#define TURNED_AWAY_FULL full
#define TURNED_AWAY_SUSPENDED suspended
#endif

/* Inclusive upper bounds; the catalogue has the same. */
#define BYTE_BOUNDS 14
#define FILL_BOUNDS 13
static const __u32 byte_bounds[BYTE_BOUNDS] = {
	512,   1024,  2048,   4096,   8192,   16384,   32768,
	65536, 98304, 131072, 212992, 425984, 1048576, 4194304,
};
static const __u32 fill_bounds[FILL_BOUNDS] = {
	5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99, 110, 150,
};

struct buffer {
	__u64 messages;
	__u64 bytes; /* sum over messages of the bytes occupied after each */
	__u64 fill; /* the same in percent of the limit */
	__u64 full; /* writes turned away: no room */
	__u64 suspended; /* writes turned away: the channel may not send */
	__u64 by_bytes[BYTE_BOUNDS];
	__u64 by_fill[FILL_BOUNDS];
};
_Static_assert(sizeof(struct buffer) == 256, "the loader decodes 256 bytes");

/* By BTPROTO_*. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PROTOCOLS);
	__type(key, __u32);
	__type(value, struct buffer);
} buffer_counts SEC(".maps");

/* By BTPROTO_*. Packets of several devices leave at the same time: counted with atomic operations. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROTOCOLS);
	__type(key, __u32);
	__type(value, struct times);
} buffer_full_times SEC(".maps");
_Static_assert(sizeof(struct times) == 168, "the loader decodes 168 bytes");

/* Sockets whose buffer is full, by the address of their struct sock: since when. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} buffer_full SEC(".maps");

/* What return probes cannot see: sock and errcode of calls under way, by thread and function. */
struct call_key {
	__u64 thread;
	__u64 function;
};
enum function {
	ALLOC,
	WAIT,
};
struct call {
	__u64 sk;
	__u64 errcode;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct call_key);
	__type(value, struct call);
} buffer_calls SEC(".maps");

static __always_inline bool is_bluetooth(bool typed, const struct sock *sk)
{
	return READ(typed, sk, __sk_common.skc_family) == AF_BLUETOOTH;
}

static __always_inline struct buffer *buffer_of(bool typed, const struct sock *sk)
{
	__u32 proto = READ(typed, sk, sk_protocol);
	struct buffer *buffer = bpf_map_lookup_elem(&buffer_counts, &proto);

	if (!buffer)
		count_drop(DROP_UNEXPECTED);
	return buffer;
}

/* Bytes that a socket's unsent messages occupy. */
static __always_inline __s64 occupied(bool typed, const struct sock *sk)
{
	return (__s64)READ(typed, sk, sk_wmem_alloc.refs.counter) - WMEM_BIAS;
}

static __always_inline void add_to(__u64 *buckets, const __u32 *bounds, int count, __u64 value)
{
#pragma unroll
	for (int i = 0; i < count; i++) {
		if (value <= bounds[i]) {
			buckets[i] += 1;
			return;
		}
	}
}

static __always_inline void count_message(bool typed, const struct sock *sk)
{
	struct buffer *buffer = buffer_of(typed, sk);
	__s64 bytes = occupied(typed, sk);
	__s64 limit = READ(typed, sk, sk_sndbuf);
	__u64 fill;

	if (!buffer)
		return;
	if (bytes < 0 || limit <= 0) {
		count_drop(DROP_UNEXPECTED);
		return;
	}
	fill = (__u64)bytes * 100 / (__u64)limit;
	buffer->messages += 1;
	buffer->bytes += bytes;
	buffer->fill += fill;
	add_to(buffer->by_bytes, byte_bounds, BYTE_BOUNDS, bytes);
	add_to(buffer->by_fill, fill_bounds, FILL_BOUNDS, fill);
}

/* Is there no room for another message? The condition of sock_alloc_send_pskb. */
static __always_inline bool is_full(bool typed, const struct sock *sk)
{
	return occupied(typed, sk) >= READ(typed, sk, sk_sndbuf);
}

/* Remembers when a write first found the buffer full. */
static __always_inline void note_full(bool typed, const struct sock *sk)
{
	__u64 key = (__u64)sk;
	__u64 now;

	/*
	 * Of RFCOMM's messages none reaches a driver: their bytes are copied to the session's L2CAP
	 * socket. When they go back is not seen.
	 */
	if (!is_full(typed, sk) || READ(typed, sk, sk_protocol) == BTPROTO_RFCOMM)
		return;
	now = bpf_ktime_get_ns();
	if (bpf_map_lookup_elem(&buffer_full, &key))
		return;
	if (bpf_map_update_elem(&buffer_full, &key, &now, BPF_NOEXIST)) {
		count_drop(DROP_MAP_FULL);
		return;
	}
	/* A packet may have left between the look and the note, and seen no note. */
	if (!is_full(typed, sk))
		bpf_map_delete_elem(&buffer_full, &key);
}

/* There was no memory for a message, or no room and the write does not wait: errcode says which. */
static __always_inline void count_failure(bool typed, const struct sock *sk, const int *errcode)
{
	struct buffer *buffer;
	int error = 0;

	if (bpf_probe_read_kernel(&error, sizeof(error), errcode)) {
		count_drop(DROP_READ_FAILED);
		return;
	}
	if (error != -EAGAIN)
		return;
	buffer = buffer_of(typed, sk);
	if (buffer)
		buffer->TURNED_AWAY_FULL += 1;
}

static __always_inline void count_wait(bool typed, const struct sock *sk, int ret)
{
	struct buffer *buffer;

	if (ret != -EAGAIN)
		return;
	buffer = buffer_of(typed, sk);
	if (buffer)
		buffer->TURNED_AWAY_SUSPENDED += 1;
}

static __always_inline struct call_key call_key(enum function function)
{
	return (struct call_key){.thread = bpf_get_current_pid_tgid(), .function = function};
}

static __always_inline void remember(enum function function, const struct sock *sk,
				     const int *errcode)
{
	struct call call = {.sk = (__u64)sk, .errcode = (__u64)errcode};
	struct call_key key = call_key(function);

	if (bpf_map_update_elem(&buffer_calls, &key, &call, BPF_ANY))
		count_drop(DROP_MAP_FULL);
}

/* Gives what was remembered and forgets it; false if there is nothing, as for other families. */
static __always_inline bool recall(enum function function, struct call *call)
{
	struct call_key key = call_key(function);
	struct call *found = bpf_map_lookup_elem(&buffer_calls, &key);

	if (!found)
		return false;
	*call = *found;
	bpf_map_delete_elem(&buffer_calls, &key);
	return true;
}

/* A packet goes to the driver: hci_send_frame gives its memory back (skb_orphan). */
static __always_inline int handle_send(bool typed, const struct sk_buff *skb)
{
	const struct sock *sk = READ(typed, skb, sk);
	__u64 key = (__u64)sk;
	struct times *times;
	__u64 *since;
	__u64 ns;
	__u32 proto;

	if (!sk)
		return 0;
	since = bpf_map_lookup_elem(&buffer_full, &key);
	if (!since || occupied(typed, sk) - READ(typed, skb, truesize) >= READ(typed, sk, sk_sndbuf))
		return 0;
	ns = bpf_ktime_get_ns() - *since;
	/* Whoever deletes it counts it. */
	if (bpf_map_delete_elem(&buffer_full, &key))
		return 0;
	proto = READ(typed, sk, sk_protocol);
	times = bpf_map_lookup_elem(&buffer_full_times, &proto);
	if (times)
		add_time(times, ns);
	else
		count_drop(DROP_UNEXPECTED);
	return 0;
}

/* A socket ends. What is at its address next is another one. */
static __always_inline int handle_unlink(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	bpf_map_delete_elem(&buffer_full, &key);
	return 0;
}

SEC("fentry/sock_alloc_send_pskb")
int BPF_PROG(sock_alloc_send_pskb_fentry, struct sock *sk)
{
	if (is_bluetooth(FENTRY, sk))
		note_full(FENTRY, sk);
	return 0;
}

SEC("fexit/sock_alloc_send_pskb")
int BPF_PROG(sock_alloc_send_pskb_fexit, struct sock *sk, unsigned long header_len,
	     unsigned long data_len, int noblock, int *unused, int max_page_order,
	     struct sk_buff *skb)
{
	const int *errcode = 0;

	if (!is_bluetooth(FENTRY, sk))
		return 0;
	if (skb) {
		count_message(FENTRY, sk);
		return 0;
	}
	/* 5.10 does not let a program have an argument that points to an int: it is read instead. */
	if (bpf_probe_read_kernel(&errcode, sizeof(errcode), &ctx[4]))
		count_drop(DROP_READ_FAILED);
	else
		count_failure(FENTRY, sk, errcode);
	return 0;
}

SEC("kprobe/sock_alloc_send_pskb")
int BPF_KPROBE(sock_alloc_send_pskb_kprobe, struct sock *sk, unsigned long header_len,
	       unsigned long data_len, int noblock, int *errcode)
{
	if (!is_bluetooth(KPROBE, sk))
		return 0;
	note_full(KPROBE, sk);
	remember(ALLOC, sk, errcode);
	return 0;
}

SEC("kretprobe/sock_alloc_send_pskb")
int BPF_KRETPROBE(sock_alloc_send_pskb_kretprobe, struct sk_buff *skb)
{
	struct call call;

	if (!recall(ALLOC, &call))
		return 0;
	if (skb)
		count_message(KPROBE, (const void *)call.sk);
	else
		count_failure(KPROBE, (const void *)call.sk, (const void *)call.errcode);
	return 0;
}

SEC("fexit/bt_sock_wait_ready")
int BPF_PROG(bt_sock_wait_ready_fexit, struct sock *sk, unsigned int flags, int ret)
{
	count_wait(FENTRY, sk, ret);
	return 0;
}

SEC("kprobe/bt_sock_wait_ready")
int BPF_KPROBE(bt_sock_wait_ready_kprobe, struct sock *sk)
{
	remember(WAIT, sk, 0);
	return 0;
}

SEC("kretprobe/bt_sock_wait_ready")
int BPF_KRETPROBE(bt_sock_wait_ready_kretprobe, int ret)
{
	struct call call;

	if (recall(WAIT, &call))
		count_wait(KPROBE, (const void *)call.sk, ret);
	else
		count_drop(DROP_NO_ENTRY);
	return 0;
}

SEC("fentry/hci_send_frame")
int BPF_PROG(hci_send_frame_fentry, struct hci_dev *hdev, struct sk_buff *skb)
{
	return handle_send(FENTRY, skb);
}

SEC("kprobe/hci_send_frame")
int BPF_KPROBE(hci_send_frame_kprobe, struct hci_dev *hdev, struct sk_buff *skb)
{
	return handle_send(KPROBE, skb);
}

SEC("fentry/bt_sock_unlink")
int BPF_PROG(bt_sock_unlink_fentry, void *list, struct sock *sk)
{
	return handle_unlink(sk);
}

SEC("kprobe/bt_sock_unlink")
int BPF_KPROBE(bt_sock_unlink_kprobe, void *list, struct sock *sk)
{
	return handle_unlink(sk);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
