// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Socket family: calls to sendmsg and recvmsg of Bluetooth sockets, their results and their bytes.
 *
 * Where: the return of each protocol's functions in struct proto_ops. Their addresses are taken, so
 * no compiler can inline them, and no socket of another family ever reaches them.
 * Cost: one look-up in a per-CPU array a call that succeeds, or in a hash table one that fails; a kprobe
 * pair adds another two, and two reads.
 */
#include "compat.bpf.h"
#include "drops.bpf.h"

/* How many calls the first one of a series counts as. A negative control sets it to 2. */
#ifndef FIRST_CALL
#define FIRST_CALL 1
#endif

enum direction {
	DIRECTION_READ,
	DIRECTION_WRITE,
	DIRECTION_PEEK,
	DIRECTION_ERRQUEUE,
};

struct socket_key {
	__s32 error;    /* 0, or the negative error number */
	__u8 proto;     /* BTPROTO_* */
	__u8 direction; /* enum direction */
	__u8 kernel;    /* 1 if a kernel thread called, or on the kernel's own socket */
	__u8 pad;
};
_Static_assert(sizeof(struct socket_key) == 8, "the loader decodes 8 bytes");

struct socket_count {
	__u64 calls;
	__u64 bytes;
};
_Static_assert(sizeof(struct socket_count) == 16, "the loader decodes 16 bytes");

/* One more than the largest BTPROTO_*, and than the largest direction. */
#define PROTOCOLS  9
#define DIRECTIONS 4

/* Calls that succeed: by proto, direction and kernel, as the digits of a number. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PROTOCOLS *DIRECTIONS * 2);
	__type(key, __u32);
	__type(value, struct socket_count);
} socket_successes SEC(".maps");

/* Calls that fail. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct socket_key);
	__type(value, struct socket_count);
} socket_failures SEC(".maps");

/* One call under way. A thread can be in two: RFCOMM writes to L2CAP while it accepts. */
struct call_key {
	__u64 thread;
	__u32 proto;
	__u32 is_read;
};

/* What a return probe cannot see of a call. */
struct call {
	__u8 direction; /* enum direction */
	__u8 kernel;    /* 1 if the socket is the kernel's own */
};

/* Calls under way that are not plain reads and writes on sockets of processes: those leave no entry. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct call_key);
	__type(value, struct call);
} socket_calls SEC(".maps");

static __always_inline enum direction read_direction(int flags)
{
	if (flags & MSG_ERRQUEUE)
		return DIRECTION_ERRQUEUE;
	return flags & MSG_PEEK ? DIRECTION_PEEK : DIRECTION_READ;
}

/*
 * Is the socket the kernel's own? RFCOMM's sessions run over such L2CAP sockets, and some of their
 * frames are written by the process that opens or closes an RFCOMM socket.
 */
static __always_inline bool is_kernel_socket(bool typed, const struct socket *sock)
{
	return !READ(typed, sock, file);
}

static __always_inline int count_success(__u8 proto, enum direction direction, bool kernel, int bytes)
{
	__u32 index = (proto * DIRECTIONS + direction) * 2 + kernel;
	struct socket_count *count = bpf_map_lookup_elem(&socket_successes, &index);

	if (!count)
		return 0;
	count->calls += count->calls ? 1 : FIRST_CALL;
	count->bytes += bytes;
	return 0;
}

static __always_inline int count_failure(__u8 proto, enum direction direction, bool kernel, int error)
{
	struct socket_key key = {
		.error = error,
		.proto = proto,
		.direction = direction,
		.kernel = kernel,
	};
	struct socket_count first = {.calls = FIRST_CALL};
	struct socket_count *count = bpf_map_lookup_elem(&socket_failures, &key);

	if (!count) {
		if (!bpf_map_update_elem(&socket_failures, &key, &first, BPF_NOEXIST))
			return 0;
		/* Another CPU was first, or the table is full. */
		count = bpf_map_lookup_elem(&socket_failures, &key);
		if (!count) {
			count_drop(DROP_MAP_FULL);
			return 0;
		}
	}
	count->calls += 1;
	return 0;
}

static __always_inline int count_call(bool typed, __u8 proto, enum direction direction, bool kernel,
				      int ret)
{
	kernel = kernel || current_is_kthread(typed);
	return ret < 0 ? count_failure(proto, direction, kernel, ret) :
			 count_success(proto, direction, kernel, ret);
}

static __always_inline int handle_call(const struct socket *sock, __u8 proto,
				       enum direction direction, int ret)
{
	return count_call(FENTRY, proto, direction, is_kernel_socket(FENTRY, sock), ret);
}

static __always_inline struct call_key call_key(__u8 proto, bool is_read)
{
	return (struct call_key){
		.thread = bpf_get_current_pid_tgid(),
		.proto = proto,
		.is_read = is_read,
	};
}

static __always_inline int handle_entry(const struct socket *sock, __u8 proto,
					enum direction direction)
{
	struct call_key key = call_key(proto, direction != DIRECTION_WRITE);
	struct call call = {.direction = direction, .kernel = is_kernel_socket(KPROBE, sock)};

	if (!call.kernel && (direction == DIRECTION_READ || direction == DIRECTION_WRITE))
		/* Nothing is there, unless the return of an earlier call was missed. */
		bpf_map_delete_elem(&socket_calls, &key);
	else if (bpf_map_update_elem(&socket_calls, &key, &call, BPF_ANY))
		count_drop(DROP_MAP_FULL);
	return 0;
}

static __always_inline int handle_return(__u8 proto, enum direction plain, int ret)
{
	struct call_key key = call_key(proto, plain != DIRECTION_WRITE);
	struct call *entry = bpf_map_lookup_elem(&socket_calls, &key);
	struct call call = {.direction = plain};

	if (entry) {
		call = *entry;
		bpf_map_delete_elem(&socket_calls, &key);
	}
	return count_call(KPROBE, proto, call.direction, call.kernel, ret);
}

/* The programs of one protocol: either the two fexit ones are loaded, or the four kprobe ones. */
#define SOCKET_PROGS(name, proto)                                                                  \
	SEC("fexit/" #name "_sock_sendmsg")                                                        \
	int BPF_PROG(name##_sock_sendmsg_fexit, struct socket *sock, struct msghdr *msg,           \
		     unsigned long len, int ret)                                                   \
	{                                                                                          \
		return handle_call(sock, proto, DIRECTION_WRITE, ret);                             \
	}                                                                                          \
	SEC("fexit/" #name "_sock_recvmsg")                                                        \
	int BPF_PROG(name##_sock_recvmsg_fexit, struct socket *sock, struct msghdr *msg,           \
		     unsigned long len, int flags, int ret)                                        \
	{                                                                                          \
		return handle_call(sock, proto, read_direction(flags), ret);                       \
	}                                                                                          \
	SEC("kprobe/" #name "_sock_sendmsg")                                                       \
	int BPF_KPROBE(name##_sock_sendmsg_kprobe, struct socket *sock)                            \
	{                                                                                          \
		return handle_entry(sock, proto, DIRECTION_WRITE);                                 \
	}                                                                                          \
	SEC("kretprobe/" #name "_sock_sendmsg")                                                    \
	int BPF_KRETPROBE(name##_sock_sendmsg_kretprobe, int ret)                                  \
	{                                                                                          \
		return handle_return(proto, DIRECTION_WRITE, ret);                                 \
	}                                                                                          \
	SEC("kprobe/" #name "_sock_recvmsg")                                                       \
	int BPF_KPROBE(name##_sock_recvmsg_kprobe, struct socket *sock, struct msghdr *msg,        \
		       unsigned long len, int flags)                                               \
	{                                                                                          \
		return handle_entry(sock, proto, read_direction(flags));                           \
	}                                                                                          \
	SEC("kretprobe/" #name "_sock_recvmsg")                                                    \
	int BPF_KRETPROBE(name##_sock_recvmsg_kretprobe, int ret)                                  \
	{                                                                                          \
		return handle_return(proto, DIRECTION_READ, ret);                                  \
	}

SOCKET_PROGS(l2cap, BTPROTO_L2CAP)
SOCKET_PROGS(sco, BTPROTO_SCO)
SOCKET_PROGS(hci, BTPROTO_HCI)
SOCKET_PROGS(rfcomm, BTPROTO_RFCOMM)
SOCKET_PROGS(iso, BTPROTO_ISO)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
