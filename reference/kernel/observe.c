// SPDX-License-Identifier: GPL-2.0-only
/* The observation: a stream of 64-bit words, laid out as harness/observation/layout.py says. It leaves either as a digest
 * (length and CRC-32) or in full, with notes (where a WARN came from, what was printed) that are for people and are not
 * compared. To whom memory is shared with, the words are left where they are, and their digest is made there: emulated,
 * it would take longer than most programs. */
#include "kernel.h"

#define MAX_OUTS (OUT_MEMORY_SIZE / sizeof(u64))
#define MAX_COMPLAINTS S2FUZZ_MAX_COMPLAINTS /* per op; more are dropped, on both sides */
#define MAX_COMPLAINT_NOTES 256
#define MAX_MESSAGES 512 /* of a program, and of an op: */
#define MESSAGES_PER_OP 32
#define MAX_NOTES (MAX_COMPLAINT_NOTES + 2 * MAX_MESSAGES)
#define NOTES_SIZE (MAX_NOTES * 40ul + MAX_MESSAGES * S2FUZZ_MESSAGE_SIZE * 2ul) /* as varints, at most */
#define AFTER_WORDS (sizeof(pieces) + NOTES_SIZE)

struct complaint_record {
	u64 kind, code, value;
};

/* Of a message, `code` is its length, and `pc` where its text is. */
struct note {
	u64 record, kind, code, pc;
};

/* The words, put together where the host finds them. */
static u64 *kept;
static u64 most_words;
static bool keeps;
static struct piece pieces[POOL_MAX_PAGES];
static u64 piece_count, words_before;
static u64 count;
static u32 crc;
static bool full;
static bool over;

static u64 op_number;
/* What is large lies apart from the rest, so that a boot need not clear it. */
static u64 *const outs = (u64 *)OUT_MEMORY;
static u64 out_count;
static struct complaint_record complaints[MAX_COMPLAINTS];
static u64 complaint_count;
static u64 record_count;
static struct note notes[MAX_NOTES];
static u64 note_count, complaint_notes;
static u64 witnessed;
static char messages[MAX_MESSAGES][S2FUZZ_MESSAGE_SIZE];
static u64 message_count, messages_of_op, messages_dropped;

void observe_begin(bool in_full)
{
	u64 size;

	full = in_full;
	over = false;
	kept = frame_words_space(&size);
	most_words = (size - AFTER_WORDS) / sizeof(u64);
	keeps = full || frame_is_mail();
	piece_count = 0;
	words_before = 0;
	count = 0;
	crc = 0;
	record_count = 0;
	note_count = 0;
	complaint_notes = 0;
	witnessed = 0;
	message_count = 0;
	messages_dropped = 0;
	complaint_count = 0;
	events_begin();
	out_count = 0;
}

void observe_no_more(void)
{
	over = true;
}

void observe_words(const u64 *from, u64 number)
{
	if (keeps) {
		if (count + number > most_words)
			panic("the observation is too long");
		memcpy(&kept[count], from, number * sizeof(u64));
	} else {
		crc = crc32(crc, from, number * sizeof(u64));
	}
	count += number;
}

void observe_in_place(const u64 *from, u64 number)
{
	if (!frame_is_mail() || piece_count == POOL_MAX_PAGES) {
		observe_words(from, number);
		return;
	}
	pieces[piece_count++] = (struct piece){ count - words_before, (u64)from, number };
	words_before = count;
}

void observe_word(u64 value)
{
	observe_words(&value, 1);
}

void op_begin(u64 number)
{
	op_number = number;
	out_count = 0;
	complaint_count = 0;
	events_begin();
	messages_of_op = 0;
}

void op_out(u64 value)
{
	if (out_count == MAX_OUTS)
		panic("an op has too many out-values");
	outs[out_count++] = value;
}

void op_complain(enum complaint kind, u64 code, u64 value, const void *pc)
{
	if (complaint_count < MAX_COMPLAINTS) {
		complaints[complaint_count++] = (struct complaint_record){ kind, code, value };
		if (kind == COMPLAINT_WARN)
			op_event(event_WARN, code, 0);
	}
	if (complaint_notes < MAX_COMPLAINT_NOTES) {
		complaint_notes++;
		op_note(kind, code, pc);
	}
}

void op_note(u64 kind, u64 code, const void *pc)
{
	if (!over && note_count < MAX_NOTES)
		notes[note_count++] = (struct note){ record_count, kind, code, (u64)pc };
}

void op_witness(u64 esr, u64 told)
{
	witnessed++;
	op_note(NOTE_STALE, esr, (const void *)told);
}

/* A message is for people, as notes are: it costs no budget, and no side is the worse for it. */
void op_print(const char *text, u64 length)
{
	if (over || messages_of_op == MESSAGES_PER_OP || message_count == MAX_MESSAGES) {
		messages_dropped++;
		return;
	}
	memcpy(messages[message_count], text, length);
	op_note(NOTE_PRINTED, length, messages[message_count]);
	messages_of_op++;
	message_count++;
}

/* To the console, where a panic ends all. */
void observe_print_messages(void)
{
	for (u64 i = 0; i < note_count; i++) {
		if (notes[i].kind != NOTE_PRINTED)
			continue;
		console_text("printed: ");
		for (u64 at = 0; at < notes[i].code; at++) {
			u8 byte = ((const char *)notes[i].pc)[at];

			console_put(byte >= ' ' && byte < 127 ? byte : '?');
		}
		console_text("\n");
	}
}

void observe_complaints(void)
{
	observe_word(complaint_count);
	observe_words((const u64 *)complaints, 3 * complaint_count);
	complaint_count = 0;
}

void op_end(bool over_budget, s64 ret)
{
	const struct event_record *events;
	u64 event_count;

	observe_word(op_number);
	observe_word(over_budget);
	observe_word(ret);
	observe_word(out_count);
	observe_words(outs, out_count);
	observe_complaints();
	events = events_recorded(&event_count);
	observe_word(event_count);
	observe_words((const u64 *)events, 3 * event_count);
	if (messages_dropped)
		op_note(NOTE_UNPRINTED, messages_dropped, NULL);
	messages_dropped = 0;
	record_count++;
}

/* For the shell: the words since observe_begin(true), and where a complaint of the first record came from (or 0). */
const u64 *observe_kept(void)
{
	return kept;
}

u64 observe_place(u64 complaint)
{
	for (u64 i = 0; i < note_count; i++)
		if (notes[i].kind < NOTE_PRINTED && !complaint--)
			return notes[i].pc;
	return 0;
}

/* On the console, runs of zero words, which empty entries are, travel as a 0 and their length. */
static void send_words(void)
{
	for (u64 i = 0; i < count;) {
		u64 run = 0;

		while (i + run < count && !kept[i + run])
			run++;
		frame_varint(run ? 0 : kept[i]);
		if (run)
			frame_varint(run);
		i += run ? run : 1;
	}
}

static void send_notes(void)
{
	frame_varint(note_count);
	for (u64 i = 0; i < note_count; i++) {
		frame_varint(notes[i].record);
		frame_varint(notes[i].kind);
		frame_varint(notes[i].code);
		for (u64 at = 0; notes[i].kind == NOTE_PRINTED && at < notes[i].code; at++)
			frame_varint(((const u8 *)notes[i].pc)[at]);
		if (notes[i].kind != NOTE_PRINTED)
			frame_varint(notes[i].pc);
	}
}

void observe_end(u32 seq)
{
	if (frame_is_mail()) {
		frame_begin(full ? 'W' : 'V', seq);
		frame_words(count, pieces, piece_count);
	} else {
		frame_begin(full ? 'F' : 'D', seq);
		frame_varint(count);
		frame_varint(full ? crc32(0, kept, count * sizeof(u64)) : crc);
		if (full)
			send_words();
	}
	if (full)
		send_notes();
	else
		frame_varint(witnessed);
	frame_end();
}
