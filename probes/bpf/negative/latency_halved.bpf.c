// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Negative control: the latency family, except that each time is taken for half as long as it was.
 * A check that passes with it checks nothing.
 */
#define TIME_SHIFT 1
#include "../latency.bpf.c"
