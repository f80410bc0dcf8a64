/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* How URBs and their packets end, as places in tables of counts. */
#ifndef USB_OUTCOMES_BPF_H
#define USB_OUTCOMES_BPF_H

#include "compat.bpf.h"

/* The loader's table of names is in the same order. */
enum outcome {
	OUTCOME_OK,
	OUTCOME_ENOENT,
	OUTCOME_EXDEV,
	OUTCOME_ENODEV,
	OUTCOME_EINVAL,
	OUTCOME_EPIPE,
	OUTCOME_ETIME,
	OUTCOME_ENOSR,
	OUTCOME_ECOMM,
	OUTCOME_EPROTO,
	OUTCOME_EOVERFLOW,
	OUTCOME_EILSEQ,
	OUTCOME_ECONNRESET,
	OUTCOME_ESHUTDOWN,
	OUTCOME_ETIMEDOUT,
	OUTCOME_EREMOTEIO,
	OUTCOME_UNKNOWN,
	OUTCOMES,
};

/*
 * The place of a status in the counts. A function of its own, so that the verifier looks at it once.
 * Kernel: Documentation/driver-api/usb/error-codes.rst.
 */
__noinline int outcome_of(int status)
{
	switch (status) {
	case 0:
		return OUTCOME_OK;
	case -2:
		return OUTCOME_ENOENT;
	case -18:
		return OUTCOME_EXDEV;
	case -19:
		return OUTCOME_ENODEV;
	case -22:
		return OUTCOME_EINVAL;
	case -32:
		return OUTCOME_EPIPE;
	case -62:
		return OUTCOME_ETIME;
	case -63:
		return OUTCOME_ENOSR;
	case -70:
		return OUTCOME_ECOMM;
	case -71:
		return OUTCOME_EPROTO;
	case -75:
		return OUTCOME_EOVERFLOW;
	case -84:
		return OUTCOME_EILSEQ;
	case -104:
		return OUTCOME_ECONNRESET;
	case -108:
		return OUTCOME_ESHUTDOWN;
	case -110:
		return OUTCOME_ETIMEDOUT;
	case -121:
		return OUTCOME_EREMOTEIO;
	default:
		return OUTCOME_UNKNOWN;
	}
}

static __always_inline void add_outcome(__u64 *counts, int status, __u64 number)
{
	__u32 outcome = outcome_of(status);

	barrier_var(outcome); /* what is checked is what is used */
	if (outcome < OUTCOMES)
		counts[outcome] += number;
}

#endif /* USB_OUTCOMES_BPF_H */
