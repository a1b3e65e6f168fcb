// SPDX-License-Identifier: GPL-2.0-only
/* A shell for people, slow and readable: the line "$ map ipa=0x1000 size=0x1000 …" is one op on a table that lives
 * until "$ reset". It takes numbers only; reference/link/shell.py knows the other spellings. An answer ends with a line
 * "$", so that a program can read it too. */
#include "kernel.h"

/* A name=value that an op or `reset` takes. */
struct setting {
	const char *name;
	u64 initial, low, high;
	u64 mask; /* of the bits that may be set */
	u64 align;
	bool required;
};

struct description {
	u64 number;
	const char *name, *summary;
	u64 stages; /* a mask */
	u64 setting_count;
	struct setting settings[S2FUZZ_MAX_ARGS];
	u64 out_count;
	const char *outs[S2FUZZ_MAX_OUTS];
};

static const struct description ops[] = { S2FUZZ_OP_DESCRIPTIONS };
static const struct setting knobs[] = { S2FUZZ_KNOB_DESCRIPTIONS };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KNOBS COUNT(knobs)

_Static_assert(KNOBS <= 64 && S2FUZZ_MAX_ARGS <= 64, "a word has a bit for each setting");

struct text {
	const u8 *at, *end;
};

/* Before the first line, and after a program, the next line makes a table. After an init that failed, or an op that was
 * cut off by its budget and left who knows what, a program would end; here `reset` must come. */
static enum { NO_TABLE, TABLE, ENDED } state;

/* Whether the last op was told of in full. */
static bool is_told;

static void put_hex(u64 value)
{
	int shift = 60;

	while (shift && !(value >> shift & 15))
		shift -= 4;
	console_text("0x");
	for (; shift >= 0; shift -= 4)
		console_put("0123456789abcdef"[value >> shift & 15]);
}

static void put_decimal(s64 value)
{
	u64 rest = value < 0 ? -(u64)value : (u64)value;
	u8 digits[20], count = 0;

	if (value < 0)
		console_put('-');
	do
		digits[count++] = '0' + rest % 10;
	while (rest /= 10);
	while (count)
		console_put(digits[--count]);
}

static void put_named(const char *name, u64 value)
{
	console_put(' ');
	console_text(name);
	console_put('=');
	put_hex(value);
}

/* The line is the person's own, but what they pasted should not steer their terminal. */
static void put_text(struct text text)
{
	for (int i = 0; text.at < text.end && i < 60; i++, text.at++)
		console_put(*text.at >= ' ' && *text.at < 127 ? *text.at : '?');
}

static bool fail(const char *problem, struct text at)
{
	console_text("error: ");
	console_text(problem);
	console_text(" `");
	put_text(at);
	console_text("`\n");
	return false;
}

static bool next_word(struct text *line, struct text *word)
{
	while (line->at < line->end && (*line->at == ' ' || *line->at == '\t'))
		line->at++;
	word->at = line->at;
	while (line->at < line->end && *line->at != ' ' && *line->at != '\t')
		line->at++;
	word->end = line->at;
	return word->at < word->end;
}

static bool is(struct text word, const char *name)
{
	u64 length = word.end - word.at;

	return length == strlen(name) && !memcmp(word.at, name, length);
}

static bool read_number(struct text word, u64 *value)
{
	u64 base = 10;

	if (word.end - word.at > 2 && word.at[0] == '0' && word.at[1] == 'x') {
		base = 16;
		word.at += 2;
	}
	*value = 0;
	for (const u8 *at = word.at; at < word.end; at++) {
		u64 digit = *at >= 'a' ? *at - 'a' + 10ul : *at - (u64)'0';

		if ((*at > '9' && *at < 'a') || digit >= base || *value > (~0ul - digit) / base)
			return false;
		*value = *value * base + digit;
	}
	return word.at < word.end;
}

static bool read_setting(struct text word, const struct setting *settings, u64 count, u64 *values, u64 *given)
{
	struct text name = word, value = word;
	u64 number;

	while (name.at < word.end && *name.at != '=')
		name.at++;
	value.at = name.at < word.end ? name.at + 1 : word.end;
	name = (struct text){ word.at, name.at };
	for (u64 i = 0; i < count; i++) {
		const struct setting *setting = &settings[i];

		if (!is(name, setting->name))
			continue;
		if (*given & 1ul << i)
			return fail("given twice:", word);
		if (!read_number(value, &number))
			return fail("not a number (0x… or decimal):", word);
		if (number < setting->low || number > setting->high || number & ~setting->mask ||
		    number % setting->align)
			return fail("out of range:", word);
		*given |= 1ul << i;
		values[i] = number;
		return true;
	}
	return fail("unknown word", word);
}

static bool read_settings(struct text line, const struct setting *settings, u64 count, u64 *values)
{
	struct text word;
	u64 given = 0;

	for (u64 i = 0; i < count; i++)
		values[i] = settings[i].initial;
	while (next_word(&line, &word))
		if (!read_setting(word, settings, count, values, &given))
			return false;
	for (u64 i = 0; i < count; i++) {
		const u8 *name = (const u8 *)settings[i].name;

		if (settings[i].required && !(given & 1ul << i))
			return fail("missing:", (struct text){ name, name + strlen(settings[i].name) });
	}
	return true;
}

static void put_complaints(const u64 *complaints, u64 count)
{
	for (u64 i = 0; i < count; i++, complaints += 3) {
		console_text(complaints[0] == COMPLAINT_WARN ? " WARN" :
			     complaints[0] == COMPLAINT_POOL ? " pool misuse" :
			     complaints[0] == COMPLAINT_UBSAN ? " UBSan" : " locking");
		if (complaints[0] != COMPLAINT_WARN)
			put_named("code", complaints[1]);
		if (complaints[2])
			put_named("address", complaints[2]);
		if (observe_place(i)) {
			console_text(" at ");
			put_hex(observe_place(i));
		}
	}
}

static void run(u64 number, const u64 *args)
{
	observe_begin(true);
	is_told = false;
	if (!table_op(number, args))
		state = ENDED;
}

/* The last op's record (harness/observation/layout.py) as a line. */
static void show(const struct description *op)
{
	const u64 *record = observe_kept(), *outs = &record[4];
	u64 out_count = record[3];

	console_text(op->name);
	console_put(' ');
	if (record[1])
		console_text("budget");
	else
		put_decimal(record[2]);
	for (u64 i = 0; i < out_count; i++) {
		if (i && i % op->out_count == 0)
			console_put(';');
		put_named(op->outs[i % op->out_count], outs[i]);
	}
	put_complaints(&outs[out_count + 1], outs[out_count]);
	console_put('\n');
	observe_print_messages();
}

static const struct description *find(struct text name)
{
	for (u64 i = 0; i < COUNT(ops); i++)
		if (is(name, ops[i].name))
			return &ops[i];
	return NULL;
}

static const struct description *find_init(void)
{
	const struct description *op = ops;

	while (op->number != S2FUZZ_OP_INIT)
		op++;
	return op;
}

static bool reset(struct text line)
{
	u64 values[KNOBS];

	if (!read_settings(line, knobs, KNOBS, values))
		return false;
	table_reset(values);
	state = TABLE;
	run(S2FUZZ_OP_INIT, NULL);
	return true;
}

static void tree(void)
{
	struct pool_page page = { .index = NO_PAGE };

	while (pool_next_used(&page)) {
		console_text("page ");
		put_hex(page.pa);
		put_named("refcount", page.refcount);
		console_put('\n');
		for (u64 i = 0; i < WORDS_PER_PAGE; i++) {
			if (!page.words[i])
				continue;
			console_text("  [");
			put_hex(i);
			console_text("] ");
			put_hex(page.words[i]);
			console_put('\n');
		}
	}
}

static void put_settings(const struct setting *settings, u64 count)
{
	for (u64 i = 0; i < count; i++) {
		console_text(settings[i].required ? " " : " [");
		console_text(settings[i].name);
		console_put('=');
		if (!settings[i].required) {
			put_hex(settings[i].initial);
			console_put(']');
		}
	}
}

static void help(void)
{
	for (u64 i = 0; i < COUNT(ops); i++) {
		if (!table_has(ops[i].number))
			continue;
		console_text(ops[i].name);
		put_settings(ops[i].settings, ops[i].setting_count);
		console_text(": ");
		console_text(ops[i].summary);
		console_put('\n');
	}
	console_text("reset");
	put_settings(knobs, KNOBS);
	console_text(": a fresh machine and an empty table\n"
		     "tree: the pages in use, and their entries that are not zero\n"
		     "help: this\n");
}

static void command(struct text line)
{
	static const struct text nothing;
	const struct description *op;
	struct text word;
	u64 args[S2FUZZ_MAX_ARGS];

	if (!next_word(&line, &word))
		return;
	if (is(word, "help"))
		return help();
	if (is(word, "reset")) {
		if (reset(line))
			show(find_init());
		return;
	}
	op = find(word);
	if (!op && !is(word, "tree")) {
		fail("unknown word", word);
		return;
	}
	if (op && !table_has(op->number)) {
		fail("this kernel has no", word);
		return;
	}
	if (state == NO_TABLE)
		reset(nothing);
	if (!op)
		tree();
	else if (!(op->stages & 1ul << table_stage()))
		fail("the table's stage, which `reset stage=…` chooses, has no", word);
	else if (state == ENDED)
		fail("an op was cut off or made no table, so only `reset` or `tree` may follow, not", word);
	else if (read_settings(line, op->settings, op->setting_count, args)) {
		run(op->number, args);
		show(op);
	}
}

void shell_line(const u8 *line, u64 size)
{
	command((struct text){ line, line + size });
	console_text("$\n");
}

void shell_observe(void)
{
	static const struct text nothing;

	if (state == NO_TABLE)
		reset(nothing);
	if (is_told)
		observe_begin(true);
	table_observe();
	is_told = true;
}

void shell_forget(void)
{
	state = NO_TABLE;
}
