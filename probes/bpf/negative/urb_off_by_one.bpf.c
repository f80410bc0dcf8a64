// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Negative control: the urb family with each completion counted twice.
 * A test that compares values must fail with it.
 */
#define ONE_COMPLETION 2
#include "../urb.bpf.c"
