/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which USB devices are controllers.
 *
 * A device is known from when it is first heard of, by its list or by what happens to it, until its owner
 * forgets it.
 */
#ifndef USB_DEVICES_BPF_H
#define USB_DEVICES_BPF_H

#include "compat.bpf.h"
#include "drops.bpf.h"

/* What lies beyond is counted as dropped. */
#define MAX_DEVICES 64

/* A controller on USB. */
struct device_value {
	__u64 since; /* when it was first heard of */
	__u16 hci;
	__u8 pad[6];
};

/* By the address of the device in struct usb_device. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u64);
	__type(value, struct device_value);
} urb_devices SEC(".maps");

/* The device that an URB goes to, as urb_devices names it. */
static __always_inline __u64 device_of(const struct urb *urb)
{
	const struct usb_device *device = BPF_CORE_READ(urb, dev);

	return device ? address_of(&device->dev) : 0;
}

/* The address of the USB device that a controller is, or 0: its parent is an interface of that. */
static __always_inline __u64 usb_device_of(const struct hci_dev *hdev)
{
	const struct device *interface = BPF_CORE_READ(hdev, dev.parent);

	return interface ? (__u64)BPF_CORE_READ(interface, parent) : 0;
}

static __always_inline void learn(const struct hci_dev *hdev)
{
	struct device_value device = {.since = bpf_ktime_get_ns()};
	__u64 address = usb_device_of(hdev);

	if (!address)
		return;
	device.hci = BPF_CORE_READ(hdev, id);
	if (!bpf_map_lookup_elem(&urb_devices, &address) &&
	    bpf_map_update_elem(&urb_devices, &address, &device, BPF_NOEXIST))
		count_drop(DROP_MAP_FULL);
}

/*
 * Walks the list whose address is the first argument. Nothing is locked: a device that is removed
 * meanwhile ends the walk, and the loader walks again.
 * Returns how many devices there are, or a negative number if the walk did not reach the end.
 */
static __always_inline int learn_all(const struct list_head *head)
{
	const struct list_head *node = BPF_CORE_READ(head, next);

	for (int i = 0; i < MAX_DEVICES; i++) {
		if (node == head)
			return i;
		if (!node)
			break;
		learn((const void *)node - bpf_core_field_offset(struct hci_dev, list));
		node = BPF_CORE_READ(node, next);
	}
	return node == head ? MAX_DEVICES : -1;
}

#endif /* USB_DEVICES_BPF_H */
