// SPDX-License-Identifier: GPL-2.0-only
/* The guest: EL1 of this CPU, with its stage 1 off (HCR_EL2.DC) or a vCPU's, under the table under test. It makes one access
 * at a time, by the code of el1.S, in the window of memory that harness/program/guest.py describes. */
#include "guest.h"
#include "el1.h"

#define HCR_VM (1ul << 0)
#define HCR_DC (1ul << 12)
#define HCR_RW (1ul << 31)
#define HCR_FWB (1ul << 46)
#define SCTLR_EL1_OFF 0x30d00800ul /* RES1 */
#define SCTLR_EL1_ON (SCTLR_EL1_OFF | 1ul << 12 | 1ul << 2 | 1ul << 0) /* I, C, M */
#define SPSR_EL1H_MASKED 0x3c5ul

/* A vCPU's stage 1: 34 bits of address, 4K pages, blocks of level 1. What is not TTBR0_EL1 is the same for all. */
#define GIGABYTE (1ul << 30)
#define TCR_EL1_ON (30ul | 1ul << 8 | 1ul << 10 | 3ul << 12 | 1ul << 23 | 1ul << 32) /* T0SZ, write-back, inner, EPD1, IPS */
#define MAIR_EL1_ON 0xfful /* index 0: Normal, write-back */
#define BLOCK_ATTRS (1ul << 10 | 3ul << 8 | 1ul) /* AF, inner shareable, index 0, EL1 may do all */

#define ESR_CLASS(esr) ((esr) >> 26 & 0x3f)
#define CLASS_HVC 0x16
#define CLASS_INSTRUCTION_ABORT 0x20
#define CLASS_DATA_ABORT 0x24 /* both from a lower level; of EL1's own, one more */
#define ESR_DETERMINED (0x3ful << 26 | 1ul << 7 | 0x3f)
#define ESR_WNR (1ul << 6)
#define ESR_S1PTW (1ul << 7)
#define STATUS_CLASS(esr) ((esr) & 0x3c)
#define STATUS_PERMISSION 0x0c
#define HPFAR_FIPA 0xfffffffffff0ul

#define PAR_TRANSLATION 0xff0ffffffffff180ul /* ATTR, PA, SH */
#define PAR_FAULTING 0x37ful /* S, PTW, FST, F */

#define PIECES (GUEST_WINDOW_SIZE / GUEST_PIECE)
#define STUB_PIECE PIECES /* where the window's pieces have their numbers, the stub's page has this */
#define NO_PIECE (~0ul)
/* What EL1 writes, which nothing else holds: so it is known where it went. The program's word takes its place there. */
#define MARK 0x5bad5bad5bad5badul
#define VECTOR_SYNC 4 /* EL1's, from EL1 */

bool has_monitor; /* set by start.S */
u64 el3_translate(bool write, u64 va, u64 ttbr0, u64 tcr, u64 mair, u64 sctlr, u64 hcr);
noreturn void el3_has_failed(void);

extern const char el1_code_start[], el1_code_end[];
void el1_run(u64 registers[2]);

static bool looked_at;
static struct guest_registers shown;
static u64 hcr_before;
/* Pieces that were made ready since the boot, the stub's page first, and what their data should be. */
static u64 ready[PIECES + 1], ready_count;
static bool is_ready[PIECES + 1];
static u64 data_of[PIECES + 1];

static u64 piece_address(u64 piece)
{
	return piece == STUB_PIECE ? GUEST_STUB : GUEST_WINDOW + piece * GUEST_PIECE;
}

static volatile u64 *piece_data(u64 piece)
{
	return (volatile u64 *)(piece_address(piece) + GUEST_DATA);
}

static void set_data(u64 piece, u64 value)
{
	*piece_data(piece) = data_of[piece] = value;
}

static u64 first_data(u64 piece)
{
	return piece_address(piece) + GUEST_DATA;
}

#define HVC(immediate) (0xd4000002u | (u32)(immediate) << 5)

static u64 *vcpu_table(u64 vcpu)
{
	return (u64 *)(GUEST_STUB + GUEST_VCPU_TABLES) + vcpu * GUEST_VCPU_ENTRIES;
}

/* vCPU n has the guest's gigabyte g at gigabyte n ^ g; the stub's is behind those, for all at the same place. */
static void make_vcpu_tables(void)
{
	for (u64 vcpu = 0; vcpu < GUEST_VCPUS; vcpu++) {
		for (u64 g = 0; g < GUEST_VCPU_REACH / GIGABYTE; g++)
			vcpu_table(vcpu)[vcpu ^ g] = g * GIGABYTE | BLOCK_ATTRS;
		vcpu_table(vcpu)[GUEST_VCPU_CODE / GIGABYTE] = (GUEST_STUB & -GIGABYTE) | BLOCK_ATTRS;
	}
}

static void make_ready(u64 piece)
{
	if (is_ready[piece])
		return;
	if (piece == STUB_PIECE) {
		memcpy((void *)GUEST_STUB, el1_code_start, el1_code_end - el1_code_start);
		make_vcpu_tables();
	} else {
		*(volatile u32 *)piece_address(piece) = HVC(HVC_PIECE + piece);
	}
	set_data(piece, first_data(piece));
	asm volatile("dsb ish\n\tic iallu\n\tdsb ish\n\tisb" ::: "memory");
	ready[ready_count++] = piece;
	is_ready[piece] = true;
}

void guest_invalidate(void)
{
	asm volatile("dsb ish\n\ttlbi alle1\n\tdsb ish\n\tisb" ::: "memory");
}

bool guest_is_looked_at(void)
{
	return looked_at;
}

u64 guest_code(void)
{
	return shown.has_stage1 ? GUEST_VCPU_CODE : GUEST_STUB;
}

/* As a world switch does it: what the last vCPU has left in TLBs stays there. */
static void look_as(u64 vcpu)
{
	u64 ttbr = (u64)vcpu_table(vcpu) | GUEST_VCPU_ASID << 48;

	shown.vcpu = vcpu;
	asm volatile("msr ttbr0_el1, %0\n\tisb" :: "r"(ttbr) : "memory");
}

static bool is_shown(const struct guest_registers *registers)
{
	return registers->vttbr == shown.vttbr && registers->vtcr == shown.vtcr &&
	       registers->forces_write_back == shown.forces_write_back && registers->has_stage1 == shown.has_stage1;
}

void guest_look(const struct guest_registers *registers)
{
	u64 hcr = HCR_VM | (registers->has_stage1 ? 0 : HCR_DC) | HCR_RW | (registers->forces_write_back ? HCR_FWB : 0);

	if (looked_at && is_shown(registers)) {
		if (registers->vcpu != shown.vcpu)
			look_as(registers->vcpu);
		return;
	}
	if (!looked_at)
		asm volatile("mrs %0, hcr_el2" : "=r"(hcr_before));
	looked_at = true;
	shown = *registers;
	make_ready(STUB_PIECE);
	asm volatile("msr vttbr_el2, %0\n\t"
		     "msr vtcr_el2, %1\n\t"
		     "msr hcr_el2, %2\n\t"
		     "msr sctlr_el1, %3\n\t"
		     "msr tcr_el1, %4\n\t"
		     "msr mair_el1, %5\n\t"
		     "msr vbar_el1, %6\n\t"
		     "msr spsr_el2, %7\n\t"
		     "isb"
		     :
		     : "r"(shown.vttbr), "r"(shown.vtcr), "r"(hcr), "r"(shown.has_stage1 ? SCTLR_EL1_ON : SCTLR_EL1_OFF),
		       "r"(shown.has_stage1 ? TCR_EL1_ON : 0), "r"(MAIR_EL1_ON), "r"(guest_code()),
		       "r"(SPSR_EL1H_MASKED)
		     : "memory");
	if (shown.has_stage1)
		look_as(shown.vcpu);
	guest_invalidate();
}

void guest_end(void)
{
	if (!looked_at)
		return;
	looked_at = false;
	asm volatile("msr hcr_el2, %0\n\tmsr vttbr_el2, xzr\n\tisb" :: "r"(hcr_before) : "memory");
	guest_invalidate();
	for (u64 i = 0; i < ready_count; i++)
		if (data_of[ready[i]] != first_data(ready[i]))
			set_data(ready[i], first_data(ready[i]));
}

static u64 determined(u64 par)
{
	return par & (par & PAR_FAULT ? PAR_FAULTING : PAR_TRANSLATION);
}

u64 guest_translate(u64 ipa, bool write)
{
	u64 par;

	if (write)
		asm volatile("at s12e1w, %1\n\tisb\n\tmrs %0, par_el1" : "=r"(par) : "r"(ipa) : "memory");
	else
		asm volatile("at s12e1r, %1\n\tisb\n\tmrs %0, par_el1" : "=r"(par) : "r"(ipa) : "memory");
	return determined(par);
}

bool hyp_translate(const struct hyp_registers *registers, u64 va, bool write, u64 *par)
{
	if (has_monitor)
		*par = determined(el3_translate(write, va, registers->ttbr0, registers->tcr, registers->mair,
						registers->sctlr, registers->hcr));
	return has_monitor;
}

/* Where the monitor has EL2 go on after an exception of its own. */
void el3_has_failed(void)
{
	panic("an exception at EL3");
}

/* What came of one entry of EL1. */
struct seen {
	struct outcome outcome;
	u64 piece; /* that was reached, as far as it is known */
};

static u64 read_far(void)
{
	u64 far;

	asm volatile("mrs %0, far_el2" : "=r"(far));
	return far;
}

static struct outcome abort_of(u64 esr, bool by_stage2)
{
	bool is_data = ESR_CLASS(esr) == CLASS_DATA_ABORT || ESR_CLASS(esr) == CLASS_DATA_ABORT + 1;
	struct outcome outcome = { .esr = esr & (ESR_DETERMINED | (is_data ? ESR_WNR : 0)), .by_stage2 = by_stage2 };
	u64 hpfar;

	if (!by_stage2)
		return outcome;
	outcome.address = read_far();
	if (STATUS_CLASS(esr) == STATUS_PERMISSION && !(esr & ESR_S1PTW))
		return outcome;
	asm volatile("mrs %0, hpfar_el2" : "=r"(hpfar));
	outcome.hpfar = hpfar & HPFAR_FIPA;
	return outcome;
}

/* The guest says by an HVC how far it came. */
static struct seen reached_by_hvc(u64 immediate, u64 x0, enum access access)
{
	struct seen seen = { .piece = NO_PIECE };
	u64 esr;

	if (immediate == HVC_DONE && access != ACCESS_EXEC) {
		seen.outcome.value = access == ACCESS_READ ? x0 : 0;
	} else if (immediate - HVC_PIECE < PIECES && access == ACCESS_EXEC) {
		seen.piece = immediate - HVC_PIECE;
	} else if (immediate == HVC_VECTOR && access == ACCESS_EXEC) {
		seen.piece = STUB_PIECE;
	} else if (immediate == HVC_VECTOR + VECTOR_SYNC) {
		asm volatile("mrs %0, esr_el1" : "=r"(esr));
		seen.outcome = abort_of(esr, false);
	} else {
		panic("the guest went astray");
	}
	return seen;
}

/* Where a write went, which is taken back. */
static u64 find_write(u64 expected)
{
	u64 piece = expected;

	for (u64 i = 0; i < ready_count && (piece == NO_PIECE || *piece_data(piece) != MARK); i++)
		piece = ready[i];
	if (piece == NO_PIECE || *piece_data(piece) != MARK)
		panic("the guest has written where it must not");
	*piece_data(piece) = data_of[piece];
	return piece;
}

/* One entry of EL1, which the first exception ends: its code holds no loop. `expected` is the piece that our walk leads to,
 * if any. */
static struct seen enter(enum access access, u64 address, u64 expected)
{
	static const u64 begins[] = { [ACCESS_READ] = EL1_READ, [ACCESS_WRITE] = EL1_WRITE, [ACCESS_EXEC] = EL1_EXEC };
	u64 registers[2] = { MARK, address }, esr;
	struct seen seen;

	asm volatile("msr elr_el2, %0\n\tmsr spsr_el2, %1" :: "r"(guest_code() + begins[access]), "r"(SPSR_EL1H_MASKED));
	el1_run(registers);
	asm volatile("mrs %0, esr_el2" : "=r"(esr));
	switch (ESR_CLASS(esr)) {
	case CLASS_HVC:
		seen = reached_by_hvc(esr & 0xffff, registers[0], access);
		if (access == ACCESS_WRITE && !seen.outcome.esr)
			seen.piece = find_write(expected);
		return seen;
	case CLASS_INSTRUCTION_ABORT:
	case CLASS_DATA_ABORT:
		return (struct seen){ abort_of(esr, true), NO_PIECE };
	default:
		panic("the guest ended otherwise than by an abort or HVC");
	}
}

/* Whether the hardware has set the access flag where our walk says that it does. A TLB's entry spares it that. */
static bool is_marked(const struct walk *walk)
{
	return walk->end != WALK_PA || !walk->is_young || walk_entry(walk) != walk->entry;
}

/* Whether that is what our walks say. */
static bool is_expected(const struct seen *seen, enum access access, const struct walk *stub, const struct walk *target,
			u64 expected)
{
	const struct outcome *outcome = &seen->outcome;

	if (stub->end != WALK_PA)
		return outcome->by_stage2 && ESR_CLASS(outcome->esr) == CLASS_INSTRUCTION_ABORT &&
		       outcome->address - guest_code() < GUEST_PIECE;
	if (!is_marked(stub) || !is_marked(target))
		return false;
	if (expected == NO_PIECE || outcome->esr)
		return expected == NO_PIECE && outcome->esr;
	return access == ACCESS_READ ? outcome->value == data_of[expected] : seen->piece == expected;
}

static bool same(const struct seen *a, const struct seen *b)
{
	return a->outcome.esr == b->outcome.esr && a->outcome.hpfar == b->outcome.hpfar &&
	       a->outcome.value == b->outcome.value && a->piece == b->piece;
}

static void note_stale(const struct seen *seen, enum access access)
{
	if (seen->outcome.esr)
		op_witness(seen->outcome.esr, seen->outcome.hpfar);
	else
		op_witness(0, access == ACCESS_READ ? seen->outcome.value : piece_address(seen->piece));
}

struct outcome guest_access(enum access access, u64 address, u64 value, const struct walk *stub,
			    const struct walk *target)
{
	u64 expected = NO_PIECE;
	struct seen seen;

	if (target->end == WALK_PA) {
		expected = (target->pa - GUEST_WINDOW) / GUEST_PIECE;
		make_ready(expected);
	}
	seen = enter(access, address, expected);
	if (!is_expected(&seen, access, stub, target, expected)) {
		struct seen first = seen;

		/* By what a TLB held, or else our walk is not the hardware's: then it comes to the same again. What the first
		 * went through may have had it set access flags that the second does not come to. */
		walk_restore(stub);
		walk_restore(target);
		guest_invalidate();
		seen = enter(access, address, expected);
		if (!same(&first, &seen))
			note_stale(&first, access);
	}
	if (access == ACCESS_WRITE && !seen.outcome.esr)
		set_data(seen.piece, value);
	return seen.outcome;
}

enum tlbi_reach guest_tlbi_reach(u64 number)
{
	switch (number) {
#define REACH(number, op1, crm, op2, form, reach) case number: return TLBI_##reach;
	S2FUZZ_TLBI_OPERATIONS(REACH)
	}
	return TLBI_NOBODY;
}

void guest_tlbi(u64 number, u64 operand)
{
	switch (number) {
#define TLBI_ALONE(op1, crm, op2) asm volatile("sys #" #op1 ", c8, c" #crm ", #" #op2 ::: "memory")
#define TLBI_OPERAND(op1, crm, op2) asm volatile("sys #" #op1 ", c8, c" #crm ", #" #op2 ", %0" :: "r"(operand) : "memory")
#define CARRY_OUT(number, op1, crm, op2, form, reach) case number: TLBI_##form(op1, crm, op2); break;
	S2FUZZ_TLBI_OPERATIONS(CARRY_OUT)
	}
}

void guest_dsb(u64 domain)
{
	switch (domain) {
#define WAIT(name, number) case number: asm volatile("dsb " #name ::: "memory"); break;
	S2FUZZ_DSB_DOMAINS(WAIT)
	}
}

void guest_isb(void)
{
	asm volatile("isb" ::: "memory");
}
