/* SPDX-License-Identifier: GPL-2.0-only */
/* What the test kernel's own files share. It uses nothing of Linux; those that meet the hosted files say so by
 * S2FUZZ_HOSTED_SIDE, and include the tree's headers as well.
 *
 * A file calls only those before it: lib, console, frame, config, events, observe, services, mmu, pool, walker, guest,
 * cpus, hosted, under_test, context, faults, boundary, slots, memslots, abort_handler, handles, ops, alternatives, program,
 * shell, main. Apart stand exceptions, where panic() leads from everywhere and which the CPU enters, and what hosted code
 * enters: ubsan, coverage, checks. */
#ifndef S2FUZZ_KERNEL_H
#define S2FUZZ_KERNEL_H

#ifndef S2FUZZ_HOSTED_SIDE
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long s64;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)
#endif

#include "generated.h"

#define noreturn __attribute__((noreturn))
#define POOL_PAGE_SIZE (1ul << S2FUZZ_PAGE_SHIFT) /* the granule; our own tables have pages of 4K throughout */
#define WORDS_PER_PAGE (POOL_PAGE_SIZE / 8)
#define S2FUZZ_GRANULE ((S2FUZZ_PAGE_SHIFT - 12) / 2ul) /* as the knob has it */

/* lib.c: what the compiler may call, and little else. */
void *memset(void *to, int byte, unsigned long size);
void *memcpy(void *to, const void *from, unsigned long size);
void *memmove(void *to, const void *from, unsigned long size);
int memcmp(const void *a, const void *b, unsigned long size);
unsigned long strlen(const char *text);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, unsigned long size);
void crc32_init(void);
u32 crc32(u32 crc, const void *data, unsigned long size);

/* console.c: the PL011. */
void console_init(void);
u8 console_get(void);
u8 console_await(void);
void console_put(u8 byte);
void console_text(const char *text);
void console_hex(u64 value);

/* mmu.c */
void mmu_enable(void);
void pool_window(u64 pages);

/* alternatives.c: hosted objects that the kernel's own build made. */
#define BUG_BRK 0x800 /* BUG_BRK_IMM: WARN and BUG */
#define SITE_BRK 0xe000 /* and up: the recorded instruction of that number */
#define TEXT_ALIAS 0x100000000ul /* how far above itself text is mapped for writing, where there is what to patch */

enum brk { BRK_UNKNOWN, BRK_CARRIED_OUT, BRK_BUG };

void alternatives_reset(void);
enum brk alternatives_brk(u64 immediate, u64 pc, u64 *registers);

/* exceptions.c: report and stop; the host restarts the machine. Linux has a panic() of another type. */
#define panic test_kernel_panic
noreturn void panic(const char *reason);
noreturn void panic_at(const char *reason, const void *place);

/* Where the current function was called. What follows a call that never returns may be another function. */
#define CALL_SITE (__builtin_return_address(0) - 4)

/* frame.c: messages, see reference/protocol.py. They travel as lines on the console, or through the mailbox: memory
 * that the host maps too. A reply goes back the way its request came. */

struct frame {
	u8 type;
	u32 seq;
	const u8 *payload;
	u64 size;
};

#define SHELL_LINE '$' /* the type of a line that a person wrote; its payload is the text */

bool frame_receive(struct frame *frame);
void frame_to_console(void);
void frame_begin(u8 type, u32 seq);
void frame_bytes(const void *data, u64 size);
void frame_varint(u64 value);
/* Where the words of a reply by mail lie, which may be written before it begins; then frame_words() says how many there
 * are, and between which of them there are words that lie elsewhere. */
struct piece {
	u64 before; /* words in the mailbox, since the piece before */
	u64 address, words;
};

bool frame_is_mail(void);
u64 *frame_words_space(u64 *size);
void frame_words(u64 count, const struct piece *pieces, u64 piece_count);
void frame_end(void);

/* Reads varints from a payload; `bad` is set, and zero read, past its end. */
struct reader {
	const u8 *at;
	const u8 *end;
	bool bad;
};

u64 read_varint(struct reader *reader);
u64 read_scaled(struct reader *reader);

/* config.c: the machine of the program. False: the payload is malformed, or says what no machine has. */
struct config {
#define FIELD(name, initial, low, high) u64 name;
	S2FUZZ_KNOBS(FIELD)
#undef FIELD
};

extern struct config config;

bool config_read(struct reader *reader);

/* The values of the knobs that have names: kvm_mode_vhe. */
#define CHOICE(knob, name, number) knob##_##name = number,
enum { S2FUZZ_CHOICES(CHOICE) };
#undef CHOICE

/* Of VMID, that KVM has. */
u64 vmid_bits(void);

/* events.c: what an op does at the boundary. */
#define EVENT(name, number) event_##name = number,
enum event { S2FUZZ_EVENTS(EVENT) };
#undef EVENT

struct event_record {
	u64 kind, a, b;
};

/* Where an op is left when the budget is spent. */
struct op_exit {
	u64 registers[13];
};

extern struct op_exit op_exit;

int op_enter(struct op_exit *exit) __attribute__((returns_twice));
noreturn void op_leave(struct op_exit *exit);

void budget_reset(u64 budget);
void count_boundary(void);
void bound_uncounted(void);
void events_begin(void);
void op_event(enum event kind, u64 a, u64 b);
/* Counts against the budget, if it is of a kind that does, then records. */
void event(enum event kind, u64 a, u64 b);
const struct event_record *events_recorded(u64 *count);

/* pool.c: the page pool, as pgtable/memory.py has it. Addresses are those the PTEs carry. */
#define MISUSE(name, number) MISUSE_##name = number,
enum misuse { S2FUZZ_MISUSES(MISUSE) };
#undef MISUSE

#define NO_PAGE (~0ul)

struct pool_page {
	u64 index;
	u64 pa;
	u64 refcount;
	u64 table; /* that it was allocated for */
	const u64 *words;
};

void pool_reset(u64 base, u64 pages);
/* For the table under test of that number. */
u64 pool_alloc(u64 table);
u64 pool_alloc_exact(u64 size, u64 table);
void pool_free_exact(u64 pa, u64 size);
void pool_get(u64 pa);
void pool_put(u64 pa);
u64 pool_count(u64 pa);
void *pool_to_virt(u64 pa);
bool pool_has(u64 pa);
u64 pool_to_phys(const void *va);
bool pool_holds(const void *va);
void pool_check_poison(void);
u64 pool_allocs(void);
u64 pool_frees(void);
u64 pool_in_use(void);
bool pool_next_used(struct pool_page *page);

/* observe.c: the observation, as harness/observation/layout.py lays it out. */
#define COMPLAINT(name, number) COMPLAINT_##name = number,
enum complaint { S2FUZZ_COMPLAINTS(COMPLAINT) };
#undef COMPLAINT

/* What holds a root, and what holds pages. */
#define HOLDER(name, number) HOLDER_##name = number,
enum holder { S2FUZZ_HOLDERS(HOLDER) };
#undef HOLDER

#define CACHE(name, number) CACHE_##name = number,
enum cache { S2FUZZ_CACHES(CACHE) };
#undef CACHE

/* Notes that are no complaints, as reference/protocol.py says: a message, how many more there were, dump_stack(). */
#define NOTE(name, number) NOTE_##name = number,
enum { S2FUZZ_NOTES(NOTE) };
#undef NOTE

void observe_begin(bool in_full);
void observe_word(u64 value);
void observe_words(const u64 *words, u64 count);
/* The same, of words that stay as they are until the reply is read: they may be left where they lie. */
void observe_in_place(const u64 *words, u64 count);
/* Of what follows, nothing is kept. */
void observe_no_more(void);
void observe_end(u32 seq);
const u64 *observe_kept(void);
u64 observe_place(u64 complaint);

/* An op's results, gathered until it ends. */
void op_begin(u64 number);
void op_out(u64 value);
void op_complain(enum complaint kind, u64 code, u64 value, const void *pc);
void op_note(u64 kind, u64 code, const void *pc);
void op_print(const char *text, u64 length);
/* An access of the guest by what a TLB still held: its syndrome (0: none), and what reference/protocol.py says (STALE). */
void op_witness(u64 esr, u64 told);
void observe_complaints(void);
void observe_print_messages(void);

/* services.c */
void services_reset(void);
void services_op_ends(void);

void op_end(bool over_budget, s64 ret);

/* cpus.c: the program's logical CPUs; the first one runs. */
void cpus_init(void);
void cpus_reset(u64 count);

/* hosted.c */
void hosted_save(void);
void hosted_restore(void);

/* program.c: decodes a program, runs it, leaves its observation in observe.c; stops for a debugger before the record
 * `stop_before` (NO_RECORD: never). False: the payload is malformed. */
#define NO_RECORD (~0ul)
bool program_run(struct reader *reader, bool in_full, u64 stop_before);

/* The same by hand, for the shell: a fresh machine with these knobs, and an op on what the ops before it left, with a
 * budget of its own. False: the op was not carried out to its end, or was an init that failed. */
void table_reset(const u64 *knobs);
bool table_op(u64 number, const u64 *args);
u64 table_stage(void);

/* Adds what there is now to the observation: of the last op by hand, or of none. */
void table_observe(void);

/* Whether the kernel under test has the op. */
bool table_has(u64 number);

/* shell.c: a line that a person wrote. A program takes the shell's table away. What the last line's op did, and what
 * there is now, is left in observe.c for whoever asks; asked again, the latter alone. */
void shell_line(const u8 *line, u64 size);
void shell_observe(void);
void shell_forget(void);

#endif
