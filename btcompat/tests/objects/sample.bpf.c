// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * A program for each thing that can be judged. Types are made up; the test
 * makes kernels that fit them or not.
 */
#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))
#define FIELD_EXISTS(field) __builtin_preserve_field_info(field, 2)
#define TYPE_EXISTS(type) __builtin_preserve_type_info(*(typeof(type) *)0, 0)

typedef unsigned long long u64;
typedef unsigned int u32;

struct dev {
	u32 count;
	int level;
	struct dev *parent;
} CORE;

struct dev___new {
	u32 added;
} CORE;

static long (*bpf_probe_read_kernel)(void *dst, u32 size, const void *src) = (void *)113;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;

struct {
	int (*type)[1];
	u32 (*key);
	u64 (*value);
} results SEC(".maps");

static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) =
	(void *)2;

static __attribute__((always_inline)) int put(u64 value)
{
	u32 key = 0;

	return bpf_map_update_elem(&results, &key, &value, 0);
}

/* Reads a field with the width that it has here. */
SEC("fentry/dev_send")
int read_count(u64 *ctx)
{
	struct dev *dev = (void *)ctx[0];
	u32 count;

	bpf_probe_read_kernel(&count, sizeof(count), &dev->count);
	return put(count);
}

/* Reads a field only where there is one. */
SEC("fentry/dev_send")
int read_guarded(u64 *ctx)
{
	struct dev___new *dev = (void *)ctx[0];
	u32 added = 0;

	if (FIELD_EXISTS(dev->added))
		bpf_probe_read_kernel(&added, sizeof(added), &dev->added);
	return put(added);
}

/* Reads it in any case. */
SEC("fentry/dev_send")
int read_unguarded(u64 *ctx)
{
	struct dev___new *dev = (void *)ctx[0];
	u32 added = 0;

	bpf_probe_read_kernel(&added, sizeof(added), &dev->added);
	return put(added);
}

/* Reads the third argument. */
SEC("fexit/dev_send")
int read_third(u64 *ctx)
{
	return put(ctx[2]);
}

/* Takes the first argument for a device. */
SEC("kprobe/dev_send")
int kprobe_send(u64 *ctx)
{
	struct dev *dev = (void *)ctx[14];
	u32 count;

	bpf_probe_read_kernel(&count, sizeof(count), &dev->count);
	return put(count);
}

/* Attached to what user space says. */
SEC("?kprobe")
int manual(u64 *ctx)
{
	return put(bpf_ktime_get_ns());
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
