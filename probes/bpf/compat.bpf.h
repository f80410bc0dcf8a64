/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Everything that programs need of the kernel: its types, cut down to the fields that are read, and
 * every difference between kernels. Offsets are relocated by CO-RE when an object is loaded. The
 * Bluetooth types are not in vmlinux but in the BTF of the bluetooth module.
 *
 * Neither vmlinux.h nor the C library's headers are used: no such header describes the types of a
 * module, and the build needs nothing but clang and libbpf's own headers.
 */
#ifndef COMPAT_BPF_H
#define COMPAT_BPF_H

/* Makes bpf_tracing.h use the kernel's names of registers (di, si) and not user space's. */
#define __VMLINUX_H__

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef _Bool bool;
enum {
	false = 0,
	true = 1,
};

/* include/uapi/linux/bpf.h: an interface to user space, so the numbers never change. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
};
enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs,
		flags, sp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31], sp, pc, pstate;
};
struct pt_regs;
#else
#error "registers of this architecture are not described here"
#endif

struct list_head {
	struct list_head *next;
};

struct task_struct {
	unsigned int flags;
};

struct sock_common {
	unsigned short skc_family;
};

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	atomic_t refs;
} refcount_t;

struct sock {
	struct sock_common __sk_common;
	refcount_t sk_wmem_alloc;
	int sk_sndbuf;
	__u16 sk_protocol;
};

struct file;

struct socket {
	struct file *file;
};

struct msghdr;

struct sk_buff {
	unsigned int len;
	unsigned char *data;
	struct sock *sk;
	unsigned int truesize;
	char cb[48];
};

/* What cb holds while an skb is in the Bluetooth code. */
struct bt_skb_cb {
	__u8 incoming : 1; /* byte 4, 6 since 6.17 */
};

struct work_struct {
	struct list_head entry;
};

struct delayed_work {
	struct work_struct work;
};

struct device {
	struct device *parent;
};

struct usb_device {
	struct device dev;
};

struct usb_iso_packet_descriptor {
	unsigned int offset;
	unsigned int length;
	unsigned int actual_length;
	int status;
};

struct urb {
	int unlinked;
	atomic_t use_count;
	struct usb_device *dev;
	unsigned int pipe;
	__u32 actual_length;
	unsigned char *setup_packet;
	int number_of_packets;
	struct usb_iso_packet_descriptor iso_frame_desc[];
};

struct hci_conn_hash {
	struct list_head list;
};

struct hci_dev {
	struct list_head list;
	__u16 id;
	unsigned int acl_cnt;
	unsigned int sco_cnt;
	unsigned int le_cnt;
	unsigned int iso_cnt; /* since 6.0: 26afbd826ee3 "Bluetooth: Add initial implementation of CIS" */
	unsigned int acl_pkts;
	unsigned int sco_pkts;
	unsigned int le_pkts;
	unsigned int iso_pkts; /* since 6.0 */
	struct hci_conn_hash conn_hash;
	struct delayed_work cmd_timer;
	struct delayed_work ncmd_timer; /* since 5.15: de75cd0d9b2f "Add ncmd=0 recovery handling" */
	struct work_struct error_reset;
	struct device dev;
	unsigned long dev_flags[1];
};

struct hci_conn {
	struct list_head list;
	__u16 handle;
	__u8 type;
	struct hci_dev *hdev;
};

struct hci_chan {
	struct hci_conn *conn;
};

#pragma clang attribute pop

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* include/linux/sched.h */
#define PF_KTHREAD 0x00200000

/* include/uapi/asm-generic/errno-base.h */
#define EAGAIN 11

/* include/linux/socket.h */
#define MSG_PEEK     0x0002
#define MSG_ERRQUEUE 0x2000

/* include/net/bluetooth/bluetooth.h */
#define AF_BLUETOOTH   31
#define BTPROTO_L2CAP  0
#define BTPROTO_HCI    1
#define BTPROTO_SCO    2
#define BTPROTO_RFCOMM 3
#define BTPROTO_ISO    8

/* Packet indicators. Spec: Core 5.4, Vol 4, Part A, 2. */
#define HCI_COMMAND_PKT 0x01
#define HCI_ACLDATA_PKT 0x02
#define HCI_SCODATA_PKT 0x03
#define HCI_EVENT_PKT	0x04
#define HCI_ISODATA_PKT 0x05

/* hci_conn.type: include/net/bluetooth/hci.h. BIS_LINK and PA_LINK came in 6.16. */
#define SCO_LINK  0x00
#define ACL_LINK  0x01
#define ESCO_LINK 0x02
#define LE_LINK	  0x80
#define CIS_LINK  0x82
#define BIS_LINK  0x83

/* Spec: Core 5.4, Vol 4, Part E, 7.7. */
#define HCI_EV_DISCONN_COMPLETE 0x05
#define HCI_EV_CMD_COMPLETE	0x0e
#define HCI_EV_CMD_STATUS	0x0f
#define HCI_EV_HARDWARE_ERROR	0x10
#define HCI_EV_NUM_COMP_PKTS	0x13
#define HCI_EV_LE_META		0x3e

/*
 * A member of one of the kernel's structures. In fentry and fexit programs the verifier knows what arguments
 * point to, and what these point to: a load does. To a kprobe program they are numbers, and a helper reads.
 * `typed` says which of the two a handler serves: a constant, since handlers are inlined.
 */
#define READ(typed, pointer, member)                                                               \
	((typed) ? (pointer)->member : BPF_CORE_READ(pointer, member))

/* Who calls a handler. */
#define FENTRY true
#define KPROBE false

/*
 * The first bytes of a packet's control block, which hold all that is asked of it. Only of use with the
 * functions that follow.
 */
static __always_inline __u64 hci_skb_control(bool typed, const struct sk_buff *skb)
{
	const __u64 *control = (const void *)skb + bpf_core_field_offset(struct sk_buff, cb);
	__u64 read = 0;

	if (typed)
		return *control;
	bpf_probe_read_kernel(&read, sizeof(read), control);
	return read;
}

/* The packet indicator: bt_cb(skb)->pkt_type, the first byte of the control block in every release. */
static __always_inline __u8 control_pkt_type(__u64 control)
{
	return control;
}

/* Does the packet come from the controller? bt_cb(skb)->incoming, as a little-endian machine has it. */
static __always_inline bool control_incoming(__u64 control)
{
	const struct bt_skb_cb *cb = 0;

	control >>= 8 * bpf_core_field_offset(cb->incoming);
	control <<= __CORE_RELO(cb, incoming, LSHIFT_U64);
	return control >> __CORE_RELO(cb, incoming, RSHIFT_U64);
}

/* The device that a work item is a member of. */
#define hci_dev_of(work, member)                                                                   \
	((const struct hci_dev *)((const void *)(work)-bpf_core_field_offset(struct hci_dev, member)))

/*
 * A pointer as a number. In fentry programs the verifier knows what an argument points to, and then
 * does not let it be passed to a global function; what a helper has read is a plain number.
 */
static __always_inline __u64 address_of(const void *pointer)
{
	const void *copy = pointer;
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &copy);
	return address;
}

/*
 * Is the task that calls a kernel thread? Kernels give its structure to programs that know its type since
 * 5.11 (3ca1032ab7ab "bpf: Implement get_current_task_btf and RET_PTR_TO_BTF_ID").
 */
static __always_inline bool current_is_kthread(bool typed)
{
	const struct task_struct *task = typed ? bpf_get_current_task_btf() :
						 (const void *)bpf_get_current_task();

	return READ(typed, task, flags) & PF_KTHREAD;
}

static __always_inline unsigned int hci_iso_cnt(bool typed, const struct hci_dev *hdev)
{
	return bpf_core_field_exists(hdev->iso_cnt) ? READ(typed, hdev, iso_cnt) : 0;
}

static __always_inline unsigned int hci_iso_pkts(bool typed, const struct hci_dev *hdev)
{
	return bpf_core_field_exists(hdev->iso_pkts) ? READ(typed, hdev, iso_pkts) : 0;
}

/* Has the kernel a pool for ISO packets? Since 6.0. */
static __always_inline bool hci_has_iso_pool(void)
{
	return bpf_core_field_exists(((struct hci_dev *)0)->iso_pkts);
}

#endif /* COMPAT_BPF_H */
