/* SPDX-License-Identifier: GPL-2.0-only */
/* The machine that a program configures, and what the hosted code is told of it: a capability by its number. Ours, and
 * the same wherever the hosted file's headers come from. */
#ifndef S2FUZZ_MACHINE_H
#define S2FUZZ_MACHINE_H

#include <linux/types.h>
#include <asm/cpucaps.h>

/* Knobs of harness/program/machine.py, which are on or off. */
#define S2FUZZ_MACHINE(X)						\
	X(fwb) X(tlb_range) X(hw_af) X(ac03_cpu_38) X(ttl) X(cnp)	\
	X(repeat_tlbi) X(lpa2) X(pa_bits_52) X(bti) X(hvhe)

struct s2fuzz_machine {
#define S2FUZZ_FIELD(name) bool name;
	S2FUZZ_MACHINE(S2FUZZ_FIELD)
#undef S2FUZZ_FIELD
};

extern struct s2fuzz_machine s2fuzz_machine;

static __always_inline bool s2fuzz_has_cap(int cap)
{
	switch (cap) {
	case ARM64_HAS_STAGE2_FWB:
		return s2fuzz_machine.fwb;
	case ARM64_HAS_TLB_RANGE:
		return s2fuzz_machine.tlb_range;
	case ARM64_WORKAROUND_AMPERE_AC03_CPU_38:
		return s2fuzz_machine.ac03_cpu_38;
	case ARM64_HAS_ARMv8_4_TTL:
		return s2fuzz_machine.ttl;
	case ARM64_HAS_CNP:
		return s2fuzz_machine.cnp;
	case ARM64_WORKAROUND_REPEAT_TLBI:
		return s2fuzz_machine.repeat_tlbi;
#ifdef ARM64_HAS_LPA2
	case ARM64_HAS_LPA2:
		return s2fuzz_machine.lpa2;
#endif
	case ARM64_BTI:
		return s2fuzz_machine.bti;
#ifdef ARM64_KVM_HVHE
	case ARM64_KVM_HVHE:
		return s2fuzz_machine.hvhe;
#endif
	default:
		return false;
	}
}

#endif
