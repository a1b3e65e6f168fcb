/* SPDX-License-Identifier: GPL-2.0-only */
/* Capabilities come from the program's configuration (s2fuzz/machine.h), not from the CPU that runs us. */
#ifndef S2FUZZ_ASM_CPUFEATURE_H
#define S2FUZZ_ASM_CPUFEATURE_H

#include <linux/types.h>
#include <linux/bitfield.h>
#include <linux/bug.h>
#include <asm/cpucaps.h>
#include <asm/sysreg.h>
#include <s2fuzz/machine.h>

/* Where this is not an expression of IS_ENABLED() (6.1). Kconfig has CONFIG_ARM64_PA_BITS_52 with 64K pages only. */
#undef ID_AA64MMFR0_EL1_PARANGE_MAX
#define ID_AA64MMFR0_EL1_PARANGE_MAX						\
	(s2fuzz_machine.pa_bits_52 && S2FUZZ_PAGE_SHIFT == 16 ?			\
		 ID_AA64MMFR0_EL1_PARANGE_52 : ID_AA64MMFR0_EL1_PARANGE_48)

static __always_inline bool cpus_have_final_cap(int cap)
{
	return s2fuzz_has_cap(cap);
}

#define cpus_have_cap(cap) cpus_have_final_cap(cap)
#define cpus_have_const_cap(cap) cpus_have_final_cap(cap)
#define alternative_has_cap_likely(cap) cpus_have_final_cap(cap)
#define alternative_has_cap_unlikely(cap) cpus_have_final_cap(cap)
/* The same in 6.1. */
#define alternative_has_feature_likely(cap) cpus_have_final_cap(cap)
#define alternative_has_feature_unlikely(cap) cpus_have_final_cap(cap)

static __always_inline bool system_supports_tlb_range(void)
{
	return s2fuzz_machine.tlb_range;
}

static __always_inline bool system_supports_cnp(void)
{
	return s2fuzz_machine.cnp;
}

static __always_inline bool system_supports_lpa2(void)
{
	return s2fuzz_machine.lpa2;
}

static __always_inline bool system_supports_bti_kernel(void)
{
	return s2fuzz_machine.bti;
}

static inline unsigned int cpuid_feature_extract_unsigned_field(u64 features, int field)
{
	return (features >> field) & 0xf;
}

/* ID_AA64MMFR0_EL1.PARange to bits of physical address (Arm ARM, ID_AA64MMFR0_EL1). */
static inline u32 id_aa64mmfr0_parange_to_phys_shift(int parange)
{
	static const u8 bits[] = { 32, 36, 40, 42, 44, 48, 52 };

	return parange >= 0 && parange < (int)sizeof(bits) ? bits[parange] : 48;
}

/* ID_AA64MMFR1_EL1.VMIDBits: 16 when it reads 2, else 8. */
static inline unsigned int get_vmid_bits(u64 mmfr1)
{
	return cpuid_feature_extract_unsigned_field(mmfr1, ID_AA64MMFR1_EL1_VMIDBits_SHIFT) == 2 ? 16 : 8;
}

#endif
