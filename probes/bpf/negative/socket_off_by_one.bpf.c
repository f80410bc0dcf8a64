// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Negative control: the socket family, except that the first call of each series counts twice, so
 * that each counter of calls is too high by exactly one. A check that passes with it checks nothing.
 */
#define FIRST_CALL 2
#include "../socket.bpf.c"
