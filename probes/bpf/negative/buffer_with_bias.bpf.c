// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Negative control: the buffer family, but sk_wmem_alloc is taken as it is, so that each socket seems to
 * have one byte more in its buffer than it has; and times are halved.
 */
#define WMEM_BIAS  0
#define TIME_SHIFT 1
#include "../buffer.bpf.c"
