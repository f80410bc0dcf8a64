// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Negative control: the buffer family, but what is turned away for one cause is counted for the other. */
#define TURNED_AWAY_FULL      suspended
#define TURNED_AWAY_SUSPENDED full
#include "../buffer.bpf.c"
