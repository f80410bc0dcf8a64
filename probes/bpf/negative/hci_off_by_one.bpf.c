// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Negative control: the HCI family, except that the first packet of each kind and direction counts
 * twice, so that each counter of packets is too high by exactly one. A check that passes with it
 * checks nothing.
 */
#define FIRST_PACKET 2
#include "../hci.bpf.c"
