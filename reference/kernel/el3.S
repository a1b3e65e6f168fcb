/* SPDX-License-Identifier: GPL-2.0-only */
/* The monitor: what EL3 does where the machine has it (QEMU's secure=on). It lets EL2 boot as it boots without, and asks EL2's
 * MMU about tables that EL2 itself does not run under. */

#define SCR_EL2 0x30531 /* pointer authentication untrapped, AArch64, HVC, RES1, not secure */
#define SPSR_EL2H_MASKED 0x3c9

#define GICD_IGROUPR 0x08000080
#define GICD_IGROUPR_END 0x08000100
#define GICC_PMR 0x08010004

	.text
/* From start.S, at EL3: goes on at x30, at EL2, which is not secure, as all interrupts are then. */
	.globl el3_boot
el3_boot:
	adrp	x0, el3_vectors
	add	x0, x0, :lo12:el3_vectors
	msr	vbar_el3, x0
	ldr	x0, =SCR_EL2
	msr	scr_el3, x0
	msr	cptr_el3, xzr
	msr	mdcr_el3, xzr

	ldr	x0, =GICD_IGROUPR
	ldr	x1, =GICD_IGROUPR_END
	mov	w2, #-1
1:	str	w2, [x0], #4
	cmp	x0, x1
	b.lo	1b
	ldr	x0, =GICC_PMR
	mov	w2, #0xff
	str	w2, [x0]

	mov	x0, #SPSR_EL2H_MASKED
	msr	spsr_el3, x0
	msr	elr_el3, x30
	isb
	eret

/* u64 el3_translate(bool write, u64 va, u64 ttbr0, u64 tcr, u64 mair, u64 sctlr, u64 hcr): PAR_EL1 by AT S1E2R or AT S1E2W,
 * with the registers of EL2 as they are given. */
	.globl el3_translate
el3_translate:
	smc	#0
	ret

	.balign	2048
el3_vectors:
	.irp	number, 0, 1, 2, 3, 4, 5, 6, 7
	.balign	128
	b	el3_failed
	.endr
	.balign	128 /* synchronous, from EL2: there is but the SMC above */
	mrs	x7, ttbr0_el2
	mrs	x8, tcr_el2
	mrs	x9, mair_el2
	mrs	x10, sctlr_el2
	mrs	x11, hcr_el2
	msr	ttbr0_el2, x2
	msr	tcr_el2, x3
	msr	mair_el2, x4
	msr	sctlr_el2, x5
	msr	hcr_el2, x6
	isb
	b	el3_ask
	.irp	number, 9, 10, 11, 12, 13, 14, 15
	.balign	128
	b	el3_failed
	.endr

el3_ask:
	cbnz	x0, 1f
	at	s1e2r, x1
	b	2f
1:	at	s1e2w, x1
2:	isb
	mrs	x0, par_el1
	msr	ttbr0_el2, x7
	msr	tcr_el2, x8
	msr	mair_el2, x9
	msr	sctlr_el2, x10
	msr	hcr_el2, x11
	isb
	tlbi	alle2
	dsb	nsh
	isb
	eret

/* EL2 tells of it, which can. */
el3_failed:
	adrp	x0, el3_has_failed
	add	x0, x0, :lo12:el3_has_failed
	msr	elr_el3, x0
	mov	x0, #SPSR_EL2H_MASKED
	msr	spsr_el3, x0
	eret

	.section .note.GNU-stack, "", @progbits
