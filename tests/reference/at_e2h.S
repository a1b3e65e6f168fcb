/* SPDX-License-Identifier: GPL-2.0-only */
/* Does AT S1E2R go by HCR_EL2.E2H? At EL3: translates an address whose top byte is not 0, first without E2H, then with it. Each
 * is asked twice: TCR_EL2 has its bit 20, which is TBI without E2H, and then bit 37, which is TBI0 with it. Prints PAR_EL1.F of
 * the four. */
	.globl _start
_start:
	ldr	x0, =0x30531
	msr	scr_el3, x0
	adr	x0, root
	msr	ttbr0_el2, x0
	ldr	x0, =0xff
	msr	mair_el2, x0
	ldr	x0, =0x30c50831
	msr	sctlr_el2, x0
	ldr	x5, =0x1200000040000000

	msr	hcr_el2, xzr
	bl	ask_both
	mov	x0, #(1 << 34)
	msr	hcr_el2, x0
	bl	ask_both

	mov	x0, #0x18 /* SYS_EXIT */
	adr	x1, success
	hlt	#0xf000
	b	.

ask_both:
	mov	x29, x30
	ldr	x0, =0x80903519 /* 39 bits, write-back, inner shareable, RES1; bit 20 */
	bl	ask
	ldr	x0, =0x2200803519 /* the same with E2H: EPD1, IPS 40 bits; bit 37 */
	bl	ask
	ret	x29

ask:
	msr	tcr_el2, x0
	isb
	at	s1e2r, x5
	isb
	mrs	x0, par_el1
	and	w0, w0, #1
	add	w0, w0, #'0'
	ldr	x1, =0x09000000
	str	w0, [x1]
	ret

	.balign	8
success:
	.quad	0x20026, 0
	.ltorg
	.balign	4096
root:	/* level 1: 1G at 0x40000000, Normal, accessed, for EL2 alone */
	.quad	0, 0x40000701
	.fill	510, 8, 0
