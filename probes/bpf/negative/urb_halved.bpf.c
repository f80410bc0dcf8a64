// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Negative control: the urb family with each latency halved.
 * A test that compares values must fail with it.
 */
#define TIME_SHIFT 1
#include "../urb.bpf.c"
