// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * URB family: USB request blocks of Bluetooth controllers, from submission to completion.
 *
 * Where: the entries of usb_submit_urb and __usb_hcd_giveback_urb, which each URB of each driver
 * passes, and of usb_anchor_urb and usb_unanchor_urb, with which btusb marks what it submits, defers
 * and has failed to submit. All are usbcore's: the driver can be unloaded while this is attached.
 * Which devices are controllers is learned from hci_sock_dev_event, which tells of each device that
 * comes and goes, and from hci_dev_list, which devices_run walks when the loader runs it.
 * Cost: an URB of another device, two reads and at most one look-up at submission and two at
 * completion. An URB of a controller, some five look-ups and updates in all.
 *
 * Completions come in softirq context, and URBs towards the host are submitted again there, in the
 * middle of another submission or of another program. So what is counted of them is counted at
 * completion alone, where nothing is missed. Where no program sees completions without missing some
 * (kprobes, in a kernel that passes them over in the middle of another program), only what tasks
 * submit is counted: nothing interrupts another program there.
 */
#include "compat.bpf.h"
#include "drops.bpf.h"
#include "times.bpf.h"
#include "usb_devices.bpf.h"
#include "usb_outcomes.bpf.h"

/* Bounds: what lies beyond is counted as dropped. */
#define MAX_URBS	4096
#define MAX_ISO_PACKETS 32

/* usb_pipetype(): include/uapi/linux/usb/ch9.h and include/linux/usb.h. */
enum kind {
	KIND_ISOC,
	KIND_INTERRUPT,
	KIND_CONTROL,
	KIND_BULK,
};
#define PIPE_KIND_SHIFT 30
#define PIPE_IN		0x80

/* Standard, class or vendor request. */
#define USB_TYPE_MASK 0x60

/* include/net/bluetooth/hci.h */
#define HCI_DEV_UNREG 2

/* How often a completion counts. A negative control sets it to 2. */
#ifndef ONE_COMPLETION
#define ONE_COMPLETION 1
#endif

/* Does a program see URBs end? Set by the loader. If not, what begins is counted and nothing else. */
const volatile __u64 sees_ends = 1;

struct urb_key {
	__u16 hci;
	__u8 kind; /* enum kind */
	__u8 in;   /* 1: towards the host */
};
_Static_assert(sizeof(struct urb_key) == 4, "the loader decodes 4 bytes");

struct urb_count {
	__u64 submitted;
	__u64 refused; /* of these, not taken by the host controller's driver */
	__u64 deferred;
	__u64 bytes;
	__u64 completed[OUTCOMES];
	__u64 iso_packets[OUTCOMES];
	struct times latency;
};
_Static_assert(sizeof(struct urb_count) == 472, "the loader decodes 472 bytes");

struct flight {
	__u64 since;
	__u64 device;
	struct urb_key key;
	__u8 pad[4];
};
_Static_assert(sizeof(struct flight) == 24, "the loader decodes 24 bytes");

/* An URB that is marked and not yet submitted. */
struct anchored {
	__u64 since;
	__u64 times;
};

/* By the address of the URB. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_URBS);
	__type(key, __u64);
	__type(value, struct flight);
} urb_flights SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_URBS);
	__type(key, __u64);
	__type(value, struct anchored);
} urb_anchored SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, MAX_DEVICES * 8);
	__type(key, struct urb_key);
	__type(value, struct urb_count);
} urb_counts SEC(".maps");

/* An entry of urb_counts is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct urb_count);
} urb_no_count SEC(".maps");

/* A command is a class or vendor request; what usbcore asks of a device itself is a standard one. */
static __always_inline bool is_standard_request(const struct urb *urb)
{
	const unsigned char *setup = BPF_CORE_READ(urb, setup_packet);
	__u8 type = 0;

	if (!setup || bpf_probe_read_kernel(&type, sizeof(type), setup)) {
		count_drop(DROP_READ_FAILED);
		return 1;
	}
	return !(type & USB_TYPE_MASK);
}

static __always_inline struct urb_count *count_of(const struct urb_key *key)
{
	struct urb_count *count = bpf_map_lookup_elem(&urb_counts, key);
	__u32 zero = 0;
	struct urb_count *none;

	if (count)
		return count;
	none = bpf_map_lookup_elem(&urb_no_count, &zero);
	if (none)
		bpf_map_update_elem(&urb_counts, key, none, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&urb_counts, key);
	if (!count)
		count_drop(DROP_MAP_FULL);
	return count;
}

/* btusb marks an URB once when it submits it, and once before if it has to wait for the device. */
static __always_inline bool was_deferred(__u64 address, const struct device_value *device)
{
	struct anchored *anchored = bpf_map_lookup_elem(&urb_anchored, &address);
	bool deferred;

	if (!anchored)
		return 0;
	deferred = anchored->times > 1 && anchored->since >= device->since;
	bpf_map_delete_elem(&urb_anchored, &address);
	return deferred;
}

/* Says where an URB from the host goes; 0 if it is none, or not a controller's. */
static __always_inline struct device_value *sent_to(const struct urb *urb, struct flight *flight)
{
	unsigned int pipe = BPF_CORE_READ(urb, pipe);
	struct device_value *device;

	if (pipe & PIPE_IN)
		return 0;
	flight->device = device_of(urb);
	device = bpf_map_lookup_elem(&urb_devices, &flight->device);
	if (!device)
		return 0;
	flight->key.hci = device->hci;
	flight->key.kind = pipe >> PIPE_KIND_SHIFT;
	return device;
}

static __always_inline int handle_submit(const struct urb *urb)
{
	__u64 address = address_of(urb);
	struct device_value *device;
	struct flight flight = {};
	struct urb_count *count;

	device = sent_to(urb, &flight);
	if (!device)
		return 0;
	if (flight.key.kind == KIND_CONTROL && is_standard_request(urb))
		return 0;
	count = count_of(&flight.key);
	if (!count)
		return 0;
	count->submitted += 1;
	if (was_deferred(address, device))
		count->deferred += 1;
	if (!sees_ends)
		return 0;
	flight.since = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&urb_flights, &address, &flight, BPF_ANY))
		count_drop(DROP_MAP_FULL);
	return 0;
}

static __always_inline int handle_anchor(const struct urb *urb)
{
	__u64 address = address_of(urb), device_address;
	struct anchored *known, first = {};
	struct device_value *device;

	if (BPF_CORE_READ(urb, pipe) & PIPE_IN)
		return 0;
	device_address = device_of(urb);
	device = bpf_map_lookup_elem(&urb_devices, &device_address);
	if (!device)
		return 0;
	known = bpf_map_lookup_elem(&urb_anchored, &address);
	if (known && known->since >= device->since) {
		known->times += 1;
		return 0;
	}
	first.since = bpf_ktime_get_ns();
	first.times = 1;
	if (bpf_map_update_elem(&urb_anchored, &address, &first, BPF_ANY))
		count_drop(DROP_MAP_FULL);
	return 0;
}

/*
 * Without ends: usbcore uses an URB that it has taken until it has been given back, which is after its
 * mark was taken off. So one that nobody uses was refused. What the driver marks is no standard request.
 */
static __always_inline int handle_unanchor_unused(const struct urb *urb)
{
	struct flight flight = {};
	struct urb_count *count;

	if (BPF_CORE_READ(urb, use_count.counter) || !sent_to(urb, &flight))
		return 0;
	count = count_of(&flight.key);
	if (count)
		count->refused += 1;
	return 0;
}

/* An URB whose mark is taken off while it is under way was refused: a completed one is not any more. */
static __always_inline int handle_unanchor(const struct urb *urb)
{
	__u64 address = address_of(urb);
	struct flight *flight;
	struct urb_count *count;

	if (!sees_ends)
		return handle_unanchor_unused(urb);
	flight = bpf_map_lookup_elem(&urb_flights, &address);
	if (!flight)
		return 0;
	count = count_of(&flight->key);
	if (count)
		count->refused += 1;
	bpf_map_delete_elem(&urb_flights, &address);
	return 0;
}

static __always_inline void add_iso_packets(struct urb_count *count, const struct urb *urb)
{
	const struct usb_iso_packet_descriptor *packet = &urb->iso_frame_desc[0];
	__u32 size = bpf_core_type_size(struct usb_iso_packet_descriptor);
	int packets = BPF_CORE_READ(urb, number_of_packets);

	for (int i = 0; i < MAX_ISO_PACKETS; i++) {
		if (i >= packets)
			return;
		add_outcome(count->iso_packets, BPF_CORE_READ(packet, status), 1);
		packet = (const void *)packet + size;
	}
	if (packets > MAX_ISO_PACKETS)
		count_drop(DROP_TRUNCATED);
}

static __always_inline void count_completion(struct urb_count *count, const struct urb *urb, __u8 kind)
{
	/* Here the status is still in this field: urb->status says that it is under way. */
	add_outcome(count->completed, BPF_CORE_READ(urb, unlinked), ONE_COMPLETION);
	count->bytes += BPF_CORE_READ(urb, actual_length);
	if (kind == KIND_ISOC)
		add_iso_packets(count, urb);
}

/* The key of an URB towards the host, if it is a controller's. */
static __always_inline bool received_key(const struct urb *urb, struct urb_key *key)
{
	unsigned int pipe = BPF_CORE_READ(urb, pipe);
	struct device_value *device;
	__u64 device_address;

	if (!(pipe & PIPE_IN))
		return 0;
	device_address = device_of(urb);
	device = bpf_map_lookup_elem(&urb_devices, &device_address);
	if (!device)
		return 0;
	key->hci = device->hci;
	key->kind = pipe >> PIPE_KIND_SHIFT;
	key->in = 1;
	return key->kind != KIND_CONTROL || !is_standard_request(urb);
}

static __always_inline int handle_giveback(const struct urb *urb)
{
	__u64 address = address_of(urb), now = bpf_ktime_get_ns();
	struct flight *found = bpf_map_lookup_elem(&urb_flights, &address);
	struct urb_key key = {};
	struct urb_count *count;
	__u64 since = 0;

	if (found) {
		struct flight flight = *found;

		bpf_map_delete_elem(&urb_flights, &address);
		/* Nothing is counted any more for a device that is gone. */
		if (!bpf_map_lookup_elem(&urb_devices, &flight.device))
			return 0;
		key = flight.key;
		since = flight.since;
	} else if (!received_key(urb, &key)) {
		return 0;
	}
	count = count_of(&key);
	if (!count)
		return 0;
	count_completion(count, urb, key.kind);
	if (since)
		add_time(&count->latency, now - since);
	return 0;
}

/* Forgets a device that goes, so that the next one of its number starts at 0. */
static __always_inline void forget(const struct hci_dev *hdev)
{
	struct urb_key key = {.hci = BPF_CORE_READ(hdev, id)};
	__u64 address = usb_device_of(hdev);

	bpf_map_delete_elem(&urb_devices, &address);
	for (int kind = KIND_ISOC; kind <= KIND_BULK; kind++) {
		key.kind = kind;
		key.in = 0;
		bpf_map_delete_elem(&urb_counts, &key);
		key.in = 1;
		bpf_map_delete_elem(&urb_counts, &key);
	}
}

static __always_inline int handle_device(const struct hci_dev *hdev, int event)
{
	if (event == HCI_DEV_UNREG)
		forget(hdev);
	else
		learn(hdev);
	return 0;
}

SEC("fentry/usb_submit_urb")
int BPF_PROG(usb_submit_urb_fentry, struct urb *urb)
{
	return handle_submit(urb);
}

SEC("kprobe/usb_submit_urb")
int BPF_KPROBE(usb_submit_urb_kprobe, struct urb *urb)
{
	return handle_submit(urb);
}

SEC("fentry/usb_anchor_urb")
int BPF_PROG(usb_anchor_urb_fentry, struct urb *urb)
{
	return handle_anchor(urb);
}

SEC("kprobe/usb_anchor_urb")
int BPF_KPROBE(usb_anchor_urb_kprobe, struct urb *urb)
{
	return handle_anchor(urb);
}

SEC("fentry/usb_unanchor_urb")
int BPF_PROG(usb_unanchor_urb_fentry, struct urb *urb)
{
	return handle_unanchor(urb);
}

SEC("kprobe/usb_unanchor_urb")
int BPF_KPROBE(usb_unanchor_urb_kprobe, struct urb *urb)
{
	return handle_unanchor(urb);
}

SEC("fentry/__usb_hcd_giveback_urb")
int BPF_PROG(usb_giveback_fentry, struct urb *urb)
{
	return handle_giveback(urb);
}

SEC("kprobe/__usb_hcd_giveback_urb")
int BPF_KPROBE(usb_giveback_kprobe, struct urb *urb)
{
	return handle_giveback(urb);
}

SEC("fentry/hci_sock_dev_event")
int BPF_PROG(hci_sock_dev_event_fentry, struct hci_dev *hdev, int event)
{
	return handle_device(hdev, event);
}

SEC("kprobe/hci_sock_dev_event")
int BPF_KPROBE(hci_sock_dev_event_kprobe, struct hci_dev *hdev, int event)
{
	return handle_device(hdev, event);
}

/* Never attached: the loader runs it, with the address of hci_dev_list as its argument. */
SEC("raw_tp")
int BPF_PROG(devices_run, struct list_head *head)
{
	return learn_all(head);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
