// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * HCI family: packets between host and controller, commands, events, and what goes wrong.
 *
 * Where: hci_send_to_monitor, which hci_send_frame calls for each packet to a driver and hci_rx_work
 * for each packet from one, before anything else looks at it; the return of hci_send_frame, for what
 * drivers refuse; and the work functions that run when a command is not answered or a controller has
 * to be reset.
 * Cost: a packet, a look-up in an array and two additions; one to the driver, another such look-up.
 * Commands and events are read, by one call each. With kprobes each member of the kernel's structures is
 * a call too, some four a packet, and one to the driver writes and removes an entry of a hash map.
 */
#include "compat.bpf.h"
#include "config.bpf.h"
#include "drops.bpf.h"
#include "sending.bpf.h"
#include "times.bpf.h"

/* Packet indicators are 1 to 5; 0 counts what is neither. */
#define KINDS 6

enum packet_way {
	SENT,
	RECEIVED,
	WAYS,
};

/*
 * Commands that the specification has, group after group; then the vendor's, and the rest. The loader
 * has the same table.
 */
#define COMMAND_VENDOR 480
#define COMMAND_OTHER  481
#define COMMANDS       482

/* Commands that wait for their answer. The host sends one at a time, except after a time-out. */
#define MAX_PENDING 4

enum hci_error {
	ERROR_HARDWARE,
	ERROR_COMMAND_TIMEOUT,
	ERROR_CREDIT_TIMEOUT,
	ERROR_RESET,
	ERRORS,
};

#ifndef FIRST_PACKET
/* What the first packet of each kind and way counts; the negative control has another number. */
#define FIRST_PACKET 1
#endif

struct pending {
	__u64 sent_ns; /* 0: none */
	__u64 opcode;
};

struct device_counts {
	struct {
		__u64 packets;
		__u64 bytes;
	} moved[WAYS][KINDS];
	__u64 refused[KINDS]; /* by the driver */
	__u64 errors[ERRORS];
	__u64 unanswered; /* commands that were given up */
	__u64 unmatched; /* answers without a command */
	struct pending pending[MAX_PENDING];
	struct times answered;
	__u64 failures[256]; /* by status */
	__u64 events[256]; /* by code */
	__u64 subevents[256]; /* of LE Meta events */
	__u64 commands[COMMANDS];
};
_Static_assert(sizeof(struct device_counts) == 10520, "the loader decodes 10520 bytes");

/*
 * By the N of hciN. Packets to and from one controller are handled in one ordered work queue, so that
 * commands and answers have one writer; vendor commands of a driver's set-up alone pass it by. Counters
 * are added to atomically.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u32);
	__type(value, struct device_counts);
} hci_devices SEC(".maps");

/* An element of hci_devices is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct device_counts);
} hci_no_device SEC(".maps");

static __always_inline void increase(__u64 *counter, __u64 by)
{
	__sync_fetch_and_add(counter, by);
}

/* The counters of a device, or 0 for one that goes or has no room. */
static __always_inline struct device_counts *device_of(bool typed, const struct hci_dev *hdev)
{
	__u32 index = READ(typed, hdev, id);
	struct device_counts *device;

	if (hci_is_going(typed, hdev))
		return 0;
	device = bpf_map_lookup_elem(&hci_devices, &index);
	if (!device)
		count_drop(DROP_MAP_FULL);
	return device;
}

/* Spec: Core 5.4, Vol 4, Part E, 5.4.1. */
static __always_inline __u32 command_index(__u16 opcode)
{
	__u32 command = opcode & 0x03ff;
	__u32 first;
	__u32 count;

	switch (opcode >> 10) {
	case 0x01: /* link control */
		first = 0;
		count = 80;
		break;
	case 0x02: /* link policy */
		first = 80;
		count = 32;
		break;
	case 0x03: /* controller and baseband */
		first = 112;
		count = 144;
		break;
	case 0x04: /* informational parameters */
		first = 256;
		count = 16;
		break;
	case 0x05: /* status parameters */
		first = 272;
		count = 16;
		break;
	case 0x06: /* testing */
		first = 288;
		count = 16;
		break;
	case 0x08: /* LE controller */
		first = 304;
		count = 176;
		break;
	case 0x3f:
		return COMMAND_VENDOR;
	default:
		return COMMAND_OTHER;
	}
	return command < count ? first + command : COMMAND_OTHER;
}

static __always_inline void handle_command(struct device_counts *device, const unsigned char *data,
					   __u32 len)
{
	__u64 oldest_ns = ~0ULL;
	__u32 index;
	__u32 place = 0;
	__u16 opcode;

	if (len < sizeof(opcode) || bpf_probe_read_kernel(&opcode, sizeof(opcode), data)) {
		count_drop(DROP_MALFORMED);
		return;
	}
	index = command_index(opcode);
	barrier_var(index); /* what is checked is what is used */
	if (index < COMMANDS)
		increase(&device->commands[index], 1);
	/* The place that is free, or was taken first. */
	for (int i = 0; i < MAX_PENDING; i++) {
		if (device->pending[i].sent_ns < oldest_ns) {
			oldest_ns = device->pending[i].sent_ns;
			place = i;
		}
	}
	barrier_var(place);
	if (place >= MAX_PENDING)
		return;
	if (oldest_ns)
		increase(&device->unanswered, 1);
	device->pending[place].sent_ns = bpf_ktime_get_ns();
	device->pending[place].opcode = opcode;
}

/* An answer to a command: Command Complete or Command Status. */
static __always_inline void handle_answer(struct device_counts *device, __u16 opcode, __u8 status)
{
	if (status)
		increase(&device->failures[status], 1);
	if (!opcode) /* The controller says that it takes commands again. */
		return;
	for (int i = 0; i < MAX_PENDING; i++) {
		struct pending *pending = &device->pending[i];

		if (!pending->sent_ns || pending->opcode != opcode)
			continue;
		add_time(&device->answered, bpf_ktime_get_ns() - pending->sent_ns);
		pending->sent_ns = 0;
		return;
	}
	increase(&device->unmatched, 1);
}

static __always_inline void handle_event(struct device_counts *device, const unsigned char *data,
					 __u32 len)
{
	/* Code, length, number of commands, opcode, status. What is beyond the packet's end is read with it:
	 * an skb's data are followed by more than that (struct skb_shared_info). */
	__u8 event[6];

	if (!len || bpf_probe_read_kernel(event, sizeof(event), data)) {
		count_drop(DROP_MALFORMED);
		return;
	}
	increase(&device->events[event[0]], 1);
	switch (event[0]) {
	case HCI_EV_CMD_COMPLETE:
		if (len < 5)
			break;
		/* Without return parameters there is no status. */
		handle_answer(device, event[3] | event[4] << 8, len > 5 ? event[5] : 0);
		return;
	case HCI_EV_CMD_STATUS:
		if (len < 6)
			break;
		handle_answer(device, event[4] | event[5] << 8, event[2]);
		return;
	case HCI_EV_LE_META:
		if (len < 3)
			break;
		increase(&device->subevents[event[2]], 1);
		return;
	case HCI_EV_HARDWARE_ERROR:
		increase(&device->errors[ERROR_HARDWARE], 1);
		return;
	default:
		return;
	}
	count_drop(DROP_MALFORMED);
}

static __always_inline int handle_packet(bool typed, const struct hci_dev *hdev,
					 const struct sk_buff *skb)
{
	struct device_counts *device = device_of(typed, hdev);
	__u64 control = hci_skb_control(typed, skb);
	enum packet_way way = control_incoming(control) ? RECEIVED : SENT;
	__u32 kind = control_pkt_type(control);
	__u32 len = READ(typed, skb, len);
	__u64 packets = 1;

	if (!device)
		return 0;
	if (kind >= KINDS)
		kind = 0;
	barrier_var(kind);
	if (kind >= KINDS)
		return 0;
	if (FIRST_PACKET != 1 && !device->moved[way][kind].packets)
		packets = FIRST_PACKET;
	increase(&device->moved[way][kind].packets, packets);
	increase(&device->moved[way][kind].bytes, len);
	if (way == SENT) {
		remember_sending(READ(typed, hdev, id), skb, kind, 0);
		if (kind == HCI_COMMAND_PKT)
			handle_command(device, READ(typed, skb, data), len);
	} else if (kind == HCI_EVENT_PKT) {
		handle_event(device, READ(typed, skb, data), len);
	}
	return 0;
}

static __always_inline int count_refused(struct device_counts *device, __u32 kind)
{
	barrier_var(kind); /* what is checked is what is used */
	if (device && kind < KINDS)
		increase(&device->refused[kind], 1);
	return 0;
}

/* The return of hci_send_frame: an error is the driver's, or says that the device does not run. */
static __always_inline int handle_sent(const struct hci_dev *hdev, const struct sk_buff *skb, int result)
{
	struct device_counts *device;
	struct sending packet;

	if (result >= 0)
		return 0;
	device = device_of(FENTRY, hdev);
	if (!device)
		return 0;
	if (!take_sending(hdev->id, skb, &packet)) {
		count_drop(DROP_NO_ENTRY);
		return 0;
	}
	return count_refused(device, packet.kind);
}

/* The same, where nothing tells which packet it is. */
static __always_inline int handle_return(int result)
{
	struct sending packet;
	__u32 index;

	if (!take_sending_of_task(&packet) || result >= 0)
		return 0;
	index = packet.hci;
	return count_refused(bpf_map_lookup_elem(&hci_devices, &index), packet.kind);
}

static __always_inline int handle_error(const struct hci_dev *hdev, enum hci_error error)
{
	struct device_counts *device = device_of(KPROBE, hdev);

	if (!device)
		return 0;
	increase(&device->errors[error], 1);
	if (error != ERROR_COMMAND_TIMEOUT)
		return 0;
	/* The host gives up what it waits for. */
	for (int i = 0; i < MAX_PENDING; i++) {
		if (device->pending[i].sent_ns)
			increase(&device->unanswered, 1);
		device->pending[i].sent_ns = 0;
	}
	return 0;
}

/* Forgets a device that goes, so that the next one of its number starts at 0. */
static __always_inline int handle_unregister(const struct hci_dev *hdev)
{
	__u32 index = BPF_CORE_READ(hdev, id);
	__u32 zero = 0;
	struct device_counts *none = bpf_map_lookup_elem(&hci_no_device, &zero);

	if (none && index < MAX_DEVICES)
		bpf_map_update_elem(&hci_devices, &index, none, BPF_ANY);
	return 0;
}

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
	return handle_sent(hdev, skb, result);
}

SEC("kretprobe/hci_send_frame")
int BPF_KRETPROBE(hci_send_frame_kretprobe, int result)
{
	return handle_return(result);
}

#define ERROR_PROGRAMS(function, member, error)                                                    \
	SEC("fentry/" #function)                                                                   \
	int BPF_PROG(function##_fentry, struct work_struct *work)                                  \
	{                                                                                          \
		return handle_error(hci_dev_of(work, member), error);                              \
	}                                                                                          \
                                                                                                   \
	SEC("kprobe/" #function)                                                                   \
	int BPF_KPROBE(function##_kprobe, struct work_struct *work)                                \
	{                                                                                          \
		return handle_error(hci_dev_of(work, member), error);                              \
	}

ERROR_PROGRAMS(hci_cmd_timeout, cmd_timer, ERROR_COMMAND_TIMEOUT)
ERROR_PROGRAMS(hci_ncmd_timeout, ncmd_timer, ERROR_CREDIT_TIMEOUT)
ERROR_PROGRAMS(hci_error_reset, error_reset, ERROR_RESET)

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
