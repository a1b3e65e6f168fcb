/* SPDX-License-Identifier: GPL-2.0-only */
/* guest.c: what the hardware makes of the table under test. */
#ifndef S2FUZZ_GUEST_H
#define S2FUZZ_GUEST_H

#include "walker.h"

/* What a guest's translations go by: VTTBR_EL2, VTCR_EL2, whether stage 2 forces write-back (HCR_EL2.FWB), and whether it
 * has a stage 1, which is that vCPU's then. */
struct guest_registers {
	u64 vttbr, vtcr;
	bool forces_write_back;
	bool has_stage1;
	u64 vcpu;
};

/* The real registers become those, until the program ends. From then on TLBIs are carried out. What TLBs hold stays where
 * but the vCPU is another one. */
void guest_look(const struct guest_registers *registers);
bool guest_is_looked_at(void);

/* The program is over: the registers are what they were, TLBs empty, and the window's data as they began. */
void guest_end(void);

/* PAR_EL1 by AT S12E1R or AT S12E1W, but for its bits that no translation or fault defines. */
u64 guest_translate(u64 ipa, bool write);
#define PAR_FAULT 1ul
#define PAR_STATUS_CLASS(par) ((par) >> 1 & 0x3c)
#define PAR_STATUS_ADDRESS_SIZE 0x00
#define PAR_STATUS_TRANSLATION 0x04

/* EL2's own registers for a stage 1 that nobody runs under: TTBR0_EL2, TCR_EL2, MAIR_EL2, SCTLR_EL2, HCR_EL2. */
struct hyp_registers {
	u64 ttbr0, tcr, mair, sctlr, hcr;
};

/* The same by AT S1E2R or AT S1E2W, which the monitor carries out (el3.S). False: there is none. */
bool hyp_translate(const struct hyp_registers *registers, u64 va, bool write, u64 *par);

/* What an access came to: the syndrome (0: it succeeded), HPFAR_EL2 where that is defined, and what was read. */
struct outcome {
	u64 esr, hpfar, value;
	u64 address; /* of an abort of stage 2, what was accessed: the stub's page or the target's */
	bool by_stage2;
};

/* An access at EL1 to an address of which `stub` and `target` are our own walks, which allow it. What the translations are
 * now, not what a TLB may hold; if that showed, it is noted. */
struct outcome guest_access(enum access access, u64 address, u64 value, const struct walk *stub,
			    const struct walk *target);

/* Where the guest has its code, as it is looked at. */
u64 guest_code(void);

/* Instructions of hosted code, by what they are recorded as (boundary.c). */
void guest_tlbi(u64 number, u64 operand);
void guest_dsb(u64 domain);
void guest_isb(void);

/* Whom a TLBI hits: everyone of EL1&0; or the VMID of VTTBR_EL2; or this only where HCR_EL2 says that EL1&0 is meant. */
enum tlbi_reach { TLBI_NOBODY, TLBI_EVERY_VMID, TLBI_ITS_VMID, TLBI_ITS_REGIME };
enum tlbi_reach guest_tlbi_reach(u64 number);

/* Everything of EL1&0. */
void guest_invalidate(void);

#endif
