/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the loader knows of a kernel and BTF cannot say to a program. */
#ifndef CONFIG_BPF_H
#define CONFIG_BPF_H

#include "compat.bpf.h"

enum returns {
	RETURNS_UNSEEN,
	RETURNS_FEXIT,
	RETURNS_KRETPROBE,
};

/* Flags of hci_dev.dev_flags are members of an anonymous enum, whose numbers differ between releases. */
struct config {
	/* Mask of HCI_UNREGISTER, set once a device goes; 0 if the loader does not know it. */
	__u64 going;
	/* Mask of HCI_SCO_FLOWCTL, 0 if the kernel has no such flag. */
	__u64 sco_flowctl;
	/* Mask of HCI_USER_CHANNEL. */
	__u64 user_channel;
	/* Which program sees hci_send_frame return: enum returns. */
	__u64 returns;
};
_Static_assert(sizeof(struct config) == 32, "the loader writes 32 bytes");

const volatile struct config config = {.returns = RETURNS_FEXIT};

static __always_inline __u64 hci_flags(bool typed, const struct hci_dev *hdev)
{
	return READ(typed, hdev, dev_flags[0]);
}

/* Do the device's SCO packets take slots? */
static __always_inline bool hci_sco_flow_controlled(bool typed, const struct hci_dev *hdev)
{
	return hci_flags(typed, hdev) & config.sco_flowctl;
}

/* Is the device driven by a process, past the host? */
static __always_inline bool hci_is_user_channel(bool typed, const struct hci_dev *hdev)
{
	return hci_flags(typed, hdev) & config.user_channel;
}

/*
 * Does the device go? What it still sends (a reset) and what still comes is not counted: its counters
 * have been forgotten, and would come back.
 */
static __always_inline bool hci_is_going(bool typed, const struct hci_dev *hdev)
{
	return hci_flags(typed, hdev) & config.going;
}

#endif /* CONFIG_BPF_H */
