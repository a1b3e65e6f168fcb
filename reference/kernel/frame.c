// SPDX-License-Identifier: GPL-2.0-only
/* The protocol's lines (reference/protocol.py says what they mean):
 *   '<' TYPE SEQ(4 hex) BASE64(payload) '*' CRC32(8 hex) '\n', the CRC over everything between '<' and '*';
 * requests likewise, beginning with '>'. Whatever is not such a line is text for people; a line that begins with '$' is
 * text of people, for shell.c.
 *
 * In the mailbox a message is a header and its payload as it is; before that, in a reply, there may be words, and pieces
 * of memory that belong between them. A BEL on the
 * console says that a request lies there or, from us, the reply. The host writes the request half only, we the reply half
 * only. */
#include "kernel.h"

/* The longest program: 4096 ops with six arguments of ten bytes each, in base64. */
#define REQUEST_MAX 0x60000

#define DOORBELL '\a'

struct mail {
	u64 seq;
	u64 type;
	u64 size;
	u64 words, pieces; /* before the payload: words of 8 bytes, then pieces */
	u64 crc; /* of the pieces and the payload */
	u8 payload[]; /* behind both */
};

#define REQUEST_SPACE (MAILBOX_REQUEST_SIZE - sizeof(struct mail))
#define REPLY_SPACE (MAILBOX_REPLY_SIZE - sizeof(struct mail))

static struct mail *const mail_request = (struct mail *)MAILBOX_REQUEST;
static struct mail *const mail_reply = (struct mail *)MAILBOX_REPLY;
static bool by_mail;

static u8 request[REQUEST_MAX];
static u8 pending[3];
static u32 pending_count;
static u32 sent_crc;

static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char hex[] = "0123456789abcdef";

static int base64_value(u8 c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static int hex_value(u8 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_hex(const u8 *at, int digits, u32 *value)
{
	*value = 0;
	while (digits--) {
		int digit = hex_value(*at++);

		if (digit < 0)
			return false;
		*value = *value << 4 | digit;
	}
	return true;
}

/* Decodes in place: the output never overtakes the input. */
static bool decode_base64(u8 *text, u64 length, u64 *size)
{
	u8 *out = text;
	u32 bits = 0;
	int held = 0;

	for (u64 i = 0; i < length; i++) {
		int value = base64_value(text[i]);

		if (value < 0)
			return false;
		bits = bits << 6 | value;
		held += 6;
		if (held >= 8) {
			held -= 8;
			*out++ = bits >> held;
		}
	}
	*size = out - text;
	return true;
}

static bool take_mail(struct frame *frame)
{
	frame->type = mail_request->type;
	frame->seq = mail_request->seq;
	frame->payload = mail_request->payload;
	frame->size = mail_request->size;
	return frame->size <= REQUEST_SPACE &&
	       crc32(0, frame->payload, frame->size) == mail_request->crc;
}

static bool take_line(struct frame *frame)
{
	u64 length = 0;
	u8 byte;

	while ((byte = console_get()) != '\n' && byte != '\r') {
		if (length < REQUEST_MAX)
			request[length] = byte;
		length++;
	}
	*frame = (struct frame){ SHELL_LINE, 0, request, length };
	return length <= REQUEST_MAX;
}

/* Waits for a request. False: what came was not one (its CRC, length or form is wrong). */
bool frame_receive(struct frame *frame)
{
	u64 length = 0;
	u32 crc;
	u8 byte;

	do {
		byte = console_await();
	} while (byte != '>' && byte != DOORBELL && byte != SHELL_LINE);
	by_mail = byte == DOORBELL;
	if (by_mail)
		return take_mail(frame);
	if (byte == SHELL_LINE)
		return take_line(frame);
	while ((byte = console_get()) != '\n') {
		if (length < REQUEST_MAX)
			request[length] = byte;
		length++;
	}
	if (length < 14 || length > REQUEST_MAX || request[length - 9] != '*')
		return false;
	if (!parse_hex(&request[length - 8], 8, &crc) || crc != crc32(0, request, length - 9))
		return false;
	frame->type = request[0];
	if (!parse_hex(&request[1], 4, &frame->seq))
		return false;
	frame->payload = &request[5];
	return decode_base64(&request[5], length - 14, &frame->size);
}

static void put_crc(u8 byte)
{
	sent_crc = crc32(sent_crc, &byte, 1);
	console_put(byte);
}

static void put_group(void)
{
	u32 bits = pending[0] << 16 | pending[1] << 8 | pending[2];

	for (u32 i = 0; i <= pending_count; i++)
		put_crc(base64[(bits >> (18 - 6 * i)) & 63]);
	pending_count = 0;
	memset(pending, 0, sizeof(pending));
}

/* What is said next goes to the console, whichever way the request came. */
void frame_to_console(void)
{
	by_mail = false;
}

void frame_begin(u8 type, u32 seq)
{
	if (by_mail) {
		mail_reply->type = type;
		mail_reply->seq = seq;
		mail_reply->words = mail_reply->pieces = 0;
		mail_reply->size = 0;
		return;
	}
	console_put('<');
	sent_crc = 0;
	pending_count = 0;
	memset(pending, 0, sizeof(pending));
	put_crc(type);
	for (int shift = 12; shift >= 0; shift -= 4)
		put_crc(hex[(seq >> shift) & 15]);
}

bool frame_is_mail(void)
{
	return by_mail;
}

u64 *frame_words_space(u64 *size)
{
	*size = REPLY_SPACE;
	return (u64 *)mail_reply->payload;
}

static u8 *mail_pieces(void)
{
	return &mail_reply->payload[mail_reply->words * sizeof(u64)];
}

static u64 pieces_size(void)
{
	return mail_reply->pieces * sizeof(struct piece);
}

void frame_words(u64 count, const struct piece *pieces, u64 piece_count)
{
	mail_reply->words = count;
	mail_reply->pieces = piece_count;
	memcpy(mail_pieces(), pieces, pieces_size());
}

void frame_bytes(const void *data, u64 size)
{
	const u8 *at = data;

	if (by_mail) {
		u8 *end = mail_pieces() + pieces_size() + mail_reply->size;

		if (end + size > mail_reply->payload + REPLY_SPACE)
			panic("the reply does not fit the mailbox");
		memcpy(end, data, size);
		mail_reply->size += size;
		return;
	}
	while (size--) {
		pending[pending_count++] = *at++;
		if (pending_count == 3)
			put_group();
	}
}

void frame_varint(u64 value)
{
	u8 byte;

	do {
		byte = value & 0x7f;
		value >>= 7;
		if (value)
			byte |= 0x80;
		frame_bytes(&byte, 1);
	} while (value);
}

void frame_end(void)
{
	u32 crc;

	if (by_mail) {
		mail_reply->crc = crc32(0, mail_pieces(), pieces_size() + mail_reply->size);
		asm volatile("dmb ish" ::: "memory");
		console_put(DOORBELL);
		return;
	}
	if (pending_count)
		put_group();
	crc = sent_crc;
	console_put('*');
	for (int shift = 28; shift >= 0; shift -= 4)
		console_put(hex[(crc >> shift) & 15]);
	console_put('\n');
}

static u8 read_byte(struct reader *reader)
{
	if (reader->at < reader->end)
		return *reader->at++;
	reader->bad = true;
	return 0;
}

u64 read_varint(struct reader *reader)
{
	u64 value = 0;
	u8 byte;
	int shift = 0;

	do {
		byte = read_byte(reader);
		value |= (u64)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80 && shift < 64);
	return value;
}

/* The lowest six bits say how far the rest is shifted left. */
u64 read_scaled(struct reader *reader)
{
	u8 byte = read_byte(reader);
	int scale = byte & 63, shift = 1;
	u64 value = (byte >> 6) & 1;

	while (byte & 0x80 && shift < 64) {
		byte = read_byte(reader);
		value |= (u64)(byte & 0x7f) << shift;
		shift += 7;
	}
	return value << scale;
}
