/* SPDX-License-Identifier: Apache-2.0 */
#include "pickle.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define cm_cleanup(f) __attribute__((cleanup(f)))

enum {
    OP_STOP = '.',
    OP_MARK = '(',
    OP_POP = '0',
    OP_DUP = '2',
    OP_GET = 'g',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_PUT = 'p',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_GLOBAL = 'c',
    OP_INST = 'i',
    OP_BYTES = 'B',
    OP_UNICODE4 = 'X',
    OP_PROTO = 0x80,
    OP_EXT1 = 0x82,
    OP_EXT2 = 0x83,
    OP_EXT4 = 0x84,
    OP_SHORT_UNICODE = 0x8c,
    OP_UNICODE8 = 0x8d,
    OP_BYTES8 = 0x8e,
    OP_STACK_GLOBAL = 0x93,
    OP_MEMOIZE = 0x94,
    OP_FRAME = 0x95,
    OP_BYTEARRAY8 = 0x96,
    PROTO_MOST = 5,
    PROTO_OLD = 2, /* up to here names are Python 2's: "__builtin__", "copy_reg" */
};

/* ---- opcodes ----------------------------------------------------------------------------------------------------- */

enum operand {
    UNKNOWN,
    NONE,
    FIXED,    /* `width` bytes */
    COUNTED,  /* a length of `width` bytes, and that many bytes */
    SIGNED,   /* the same, the length must not be negative */
    TEXT,     /* the same, in UTF-8; surrogates may stand alone */
    LINE,     /* up to a newline */
    NUMBER,   /* the same, of a number */
    QUOTED,   /* the same, in quotes */
    TWO_LINES /* module and name */
};

enum effect {
    PLAIN,   /* takes `takes` off the stack, puts `gives` there */
    TO_MARK, /* takes all down to the mark, puts one there */
    ONTO,    /* takes all down to the mark, which stands on the container they go into */
    OWN      /* written out in step() */
};

typedef struct opcode {
    uint8_t operand, width, effect, takes, gives;
    uint8_t least, multiple; /* TO_MARK, ONTO: how many are taken */
    const char *type;        /* of what it puts there; "": that of the class or function below */
} opcode;

#define PUSH(operand_, width_, type_)                                                                                  \
    {                                                                                                                  \
        .operand = (operand_), .width = (width_), .gives = 1, .type = (type_)                                          \
    }
#define TAKE(takes_, gives_, type_)                                                                                    \
    {                                                                                                                  \
        .operand = NONE, .takes = (takes_), .gives = (gives_), .type = (type_)                                         \
    }

static const opcode opcodes[256] = {
    [OP_MARK] = {.operand = NONE, .effect = OWN},
    [OP_STOP] = {.operand = NONE, .effect = OWN},
    [OP_POP] = {.operand = NONE, .effect = OWN},
    ['1'] = {.operand = NONE, .effect = OWN}, /* POP_MARK */
    [OP_DUP] = {.operand = NONE, .takes = 1, .gives = 2},
    ['F'] = PUSH(NUMBER, 0, "float"),
    ['I'] = PUSH(NUMBER, 0, "int"),
    ['L'] = PUSH(NUMBER, 0, "int"),
    ['J'] = PUSH(FIXED, 4, "int"),
    ['K'] = PUSH(FIXED, 1, "int"),
    ['M'] = PUSH(FIXED, 2, "int"),
    [0x8a] = PUSH(COUNTED, 1, "int"),
    [0x8b] = PUSH(SIGNED, 4, "int"),
    ['G'] = PUSH(FIXED, 8, "float"),
    ['N'] = PUSH(NONE, 0, "NoneType"),
    [0x88] = PUSH(NONE, 0, "bool"),
    [0x89] = PUSH(NONE, 0, "bool"),
    ['S'] = PUSH(QUOTED, 0, "str"),
    ['T'] = PUSH(SIGNED, 4, "str"),
    ['U'] = PUSH(COUNTED, 1, "str"),
    ['V'] = PUSH(LINE, 0, "str"),
    [OP_UNICODE4] = PUSH(TEXT, 4, "str"),
    [OP_SHORT_UNICODE] = PUSH(TEXT, 1, "str"),
    [OP_UNICODE8] = PUSH(TEXT, 8, "str"),
    [OP_BYTES] = PUSH(COUNTED, 4, "bytes"),
    ['C'] = PUSH(COUNTED, 1, "bytes"),
    [OP_BYTES8] = PUSH(COUNTED, 8, "bytes"),
    [OP_BYTEARRAY8] = PUSH(COUNTED, 8, "bytearray"),
    [0x98] = TAKE(1, 1, "memoryview"), /* READONLY_BUFFER */
    ['}'] = PUSH(NONE, 0, "dict"),
    [']'] = PUSH(NONE, 0, "list"),
    [')'] = PUSH(NONE, 0, "tuple"),
    [0x8f] = PUSH(NONE, 0, "set"),
    [0x85] = TAKE(1, 1, "tuple"),
    [0x86] = TAKE(2, 1, "tuple"),
    [0x87] = TAKE(3, 1, "tuple"),
    ['t'] = {.operand = NONE, .effect = TO_MARK, .type = "tuple"},
    ['l'] = {.operand = NONE, .effect = TO_MARK, .type = "list"},
    ['d'] = {.operand = NONE, .effect = TO_MARK, .multiple = 2, .type = "dict"},
    [0x91] = {.operand = NONE, .effect = TO_MARK, .type = "frozenset"},
    ['o'] = {.operand = NONE, .effect = TO_MARK, .least = 1, .type = ""},
    [OP_INST] = {.operand = TWO_LINES, .effect = TO_MARK, .type = ""},
    ['a'] = TAKE(2, 1, NULL),
    ['s'] = TAKE(3, 1, NULL),
    ['b'] = TAKE(2, 1, NULL),
    ['e'] = {.operand = NONE, .effect = ONTO},
    ['u'] = {.operand = NONE, .effect = ONTO, .multiple = 2},
    [0x90] = {.operand = NONE, .effect = ONTO},
    ['R'] = TAKE(2, 1, ""),
    [0x81] = TAKE(2, 1, ""),
    [0x92] = TAKE(3, 1, ""),
    [OP_GLOBAL] = PUSH(TWO_LINES, 0, NULL),
    [OP_STACK_GLOBAL] = TAKE(2, 1, NULL),
    [OP_EXT1] = PUSH(FIXED, 1, NULL),
    [OP_EXT2] = PUSH(FIXED, 2, NULL),
    [OP_EXT4] = PUSH(FIXED, 4, NULL),
    [OP_GET] = {.operand = LINE, .effect = OWN},
    [OP_BINGET] = {.operand = FIXED, .width = 1, .effect = OWN},
    [OP_LONG_BINGET] = {.operand = FIXED, .width = 4, .effect = OWN},
    [OP_PUT] = {.operand = LINE, .effect = OWN},
    [OP_BINPUT] = {.operand = FIXED, .width = 1, .effect = OWN},
    [OP_LONG_BINPUT] = {.operand = FIXED, .width = 4, .effect = OWN},
    [OP_MEMOIZE] = {.operand = NONE, .effect = OWN},
    [OP_PROTO] = {.operand = FIXED, .width = 1, .effect = OWN},
    [OP_FRAME] = {.operand = FIXED, .width = 8, .effect = OWN},
};

/* ---- the reader -------------------------------------------------------------------------------------------------- */

typedef struct piece {
    const uint8_t *at;
    size_t size;
} piece;

typedef struct memo_slot {
    uint64_t index; /* plus one; 0: free */
    uint32_t local;
} memo_slot;

typedef struct reader {
    const uint8_t *data;
    size_t size, at, opcode_at;
    cm_pod *pod;
    uint64_t depth, *marks; /* a mark: the depth it stands at */
    size_t mark_count, mark_room;
    memo_slot *memo;
    size_t memo_slots;
    uint64_t memo_count;   /* different indices: the next MEMOIZE's index */
    uint32_t root;         /* the local index of the lowest object of the stack, or CM_INDEX_ROOT */
    uint32_t locals;       /* objects memoized in the pod */
    int protocol, written; /* of the stream; what the pod's body has been told */
    piece texts[2];        /* the last two texts pushed: what STACK_GLOBAL most often takes */
    const char *kind;      /* of the lowest object of the stack: its opcode's type */
    char name[CM_PICKLE_TYPE_MAX], lowest[CM_PICKLE_TYPE_MAX]; /* a global's; that at the bottom of the stack */
    char *why;
} reader;

__attribute__((format(printf, 2, 3))) static int refuse(reader *r, const char *format, ...)
{
    va_list arguments;
    int used = snprintf(r->why, CM_PICKLE_WHY_MAX, "not a complete pickle: at byte %zu ", r->opcode_at);

    va_start(arguments, format);
    vsnprintf(r->why + used, CM_PICKLE_WHY_MAX - (size_t)used, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

static void reader_clear(reader *r)
{
    free(r->marks);
    free(r->memo);
}

static uint64_t little_endian(const uint8_t *at, size_t width)
{
    uint64_t value = 0;

    while (width-- > 0)
        value = value << 8 | at[width];
    return value;
}

/* ---- operands ---------------------------------------------------------------------------------------------------- */

static bool is_text(const uint8_t *s, size_t size)
{
    for (size_t i = 0; i < size;) {
        uint8_t c = s[i];
        size_t more = c < 0x80                ? 0
                      : c >= 0xc2 && c < 0xe0 ? 1
                      : c >= 0xe0 && c < 0xf0 ? 2
                      : c >= 0xf0 && c < 0xf5 ? 3
                                              : 4;
        if (more == 4 || more >= size - i)
            return false;
        for (size_t k = 1; k <= more; k++)
            if ((s[i + k] & 0xc0) != 0x80)
                return false;
        if ((c == 0xe0 && s[i + 1] < 0xa0) || (c == 0xf0 && s[i + 1] < 0x90) || (c == 0xf4 && s[i + 1] > 0x8f))
            return false;
        i += more + 1;
    }
    return true;
}

/* Digits, signs, points, exponents, 0x, inf, nan, the L at the end: not all of them are numbers, but nothing else is one. */
static bool is_number(const piece *line)
{
    static const char allowed[] = "+-.0123456789abcdefABCDEFxXLinfINFtyTY_ ";
    bool digit = false;

    for (size_t i = 0; i < line->size; i++) {
        if (line->at[i] == '\0' || strchr(allowed, line->at[i]) == NULL)
            return false;
        digit = digit || line->at[i] > ' ';
    }
    return digit;
}

static bool is_quoted(const piece *line)
{
    size_t size = line->size;

    while (size > 0 && (line->at[size - 1] == ' ' || line->at[size - 1] == '\r'))
        size--;
    return size >= 2 && (line->at[0] == '\'' || line->at[0] == '"') && line->at[size - 1] == line->at[0];
}

static int read_line(reader *r, piece *line)
{
    const uint8_t *start = r->data + r->at;
    size_t most = r->size - r->at;
    const uint8_t *end = memchr(start, '\n', most);

    if (end == NULL)
        return refuse(r, "a line has no end");
    *line = (piece){start, (size_t)(end - start)};
    r->at += line->size + 1;
    return 0;
}

static int read_operand(reader *r, const opcode *op, piece *operand, piece *second)
{
    size_t left = r->size - r->at;
    uint64_t length = op->width;
    int result;

    *operand = *second = (piece){r->data + r->at, 0};
    switch (op->operand) {
    case NONE:
        return 0;
    case COUNTED:
    case SIGNED:
    case TEXT:
        if (left < op->width)
            return refuse(r, "the file ends in a length");
        length = little_endian(r->data + r->at, op->width);
        r->at += op->width;
        left -= op->width;
        if (op->operand == SIGNED && length > INT32_MAX)
            return refuse(r, "a length is negative");
        break;
    case FIXED:
        break;
    default:
        result = read_line(r, operand);
        if (result == 0 && op->operand == TWO_LINES)
            result = read_line(r, second);
        if (result == 0 && op->operand == NUMBER && !is_number(operand))
            return refuse(r, "there is no number");
        if (result == 0 && op->operand == QUOTED && !is_quoted(operand))
            return refuse(r, "a string is not in quotes");
        if (result == 0 && op->operand == TWO_LINES &&
            (operand->size == 0 || second->size == 0 || !is_text(operand->at, operand->size) ||
             !is_text(second->at, second->size)))
            return refuse(r, "a name is empty or no text");
        return result;
    }
    if (left < length)
        return refuse(r, "%llu bytes are announced and %zu there", (unsigned long long)length, left);
    *operand = (piece){r->data + r->at, (size_t)length};
    r->at += (size_t)length;
    if (op->operand == TEXT && !is_text(operand->at, operand->size))
        return refuse(r, "a text is not UTF-8");
    return 0;
}

/* ---- memo -------------------------------------------------------------------------------------------------------- */

static memo_slot *memo_find(reader *r, uint64_t index)
{
    size_t at = (size_t)(index * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (r->memo_slots - 1);

    while (r->memo[at].index != 0 && r->memo[at].index != index + 1)
        at = (at + 1) & (r->memo_slots - 1);
    return &r->memo[at];
}

static int memo_grow(reader *r)
{
    memo_slot *old = r->memo;
    size_t count = r->memo_slots;

    r->memo_slots = count == 0 ? 64 : count * 2;
    r->memo = calloc(r->memo_slots, sizeof *r->memo);
    if (r->memo == NULL) {
        r->memo = old;
        r->memo_slots = count;
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++)
        if (old[i].index != 0)
            *memo_find(r, old[i].index - 1) = old[i];
    free(old);
    return 0;
}

static uint64_t fence(const reader *r)
{
    return r->mark_count > 0 ? r->marks[r->mark_count - 1] : 0;
}

static int memo_put(reader *r, uint64_t index)
{
    if (r->depth <= fence(r))
        return refuse(r, "nothing is there to memoize");
    if (r->locals == CM_INDEX_ROOT - 1)
        return refuse(r, "more is memoized than can be told apart");
    if (2 * (r->memo_count + 1) > r->memo_slots && memo_grow(r) < 0)
        return -ENOMEM;
    memo_slot *slot = memo_find(r, index);
    r->memo_count += slot->index == 0;
    slot->index = index + 1;
    slot->local = r->locals++;
    if (r->depth == 1 && r->mark_count == 0)
        r->root = slot->local;
    if (r->pod != NULL)
        cm_body_memoize(cm_pod_body(r->pod));
    return 0;
}

static int memo_get(reader *r, uint64_t index)
{
    memo_slot *slot = r->memo_slots > 0 ? memo_find(r, index) : NULL;

    if (slot == NULL || slot->index == 0)
        return refuse(r, "object %llu is asked for, which was not memoized", (unsigned long long)index);
    if (r->depth++ == 0) {
        r->kind = NULL;
        r->root = slot->local;
    }
    if (r->pod != NULL)
        cm_pod_get(r->pod, slot->local);
    return 0;
}

/* The index of a text opcode: digits, nothing else. */
static int text_index(reader *r, const piece *line, uint64_t *index)
{
    *index = 0;
    for (size_t i = 0; i < line->size; i++) {
        if (line->at[i] < '0' || line->at[i] > '9' || i >= 10)
            return refuse(r, "there is no memo index");
        *index = *index * 10 + (uint64_t)(line->at[i] - '0');
    }
    return line->size > 0 ? 0 : refuse(r, "there is no memo index");
}

/* ---- what the value is ------------------------------------------------------------------------------------------- */

/* These only stand in for the class that follows. */
static bool is_stand_in(const char *name)
{
    static const char *const ends[] = {"._reconstructor", "._reconstruct", ".__newobj__", ".__newobj_ex__"};

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t length = strlen(name), end = strlen(ends[i]);
        if (length > end && strcmp(name + length - end, ends[i]) == 0)
            return true;
    }
    return false;
}

static bool printable(const piece *text)
{
    for (size_t i = 0; i < text->size; i++)
        if (text->at[i] <= ' ' || text->at[i] == 0x7f)
            return false;
    return text->size > 0 && text->size < CM_PICKLE_TYPE_MAX / 2;
}

/* A class or function came onto the stack, which has `depth` objects with it. */
static void note_global(reader *r, const piece *module, const piece *name)
{
    if (!printable(module) || !printable(name))
        return;
    snprintf(r->name, sizeof r->name, "%.*s.%.*s", (int)module->size, (const char *)module->at, (int)name->size,
             (const char *)name->at);
    if (r->depth == 1 || (r->depth > 1 && is_stand_in(r->lowest)))
        memcpy(r->lowest, r->name, sizeof r->lowest);
}

static void note_kind(reader *r, const opcode *op)
{
    if (r->depth == 1 && op->type != NULL)
        r->kind = op->type;
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

/* Which names of Python are meant goes by the protocol: the pod's body says it where it matters, and takes it back at the end. */
static void tell_protocol(reader *r, int protocol)
{
    if (r->pod == NULL || (r->written <= PROTO_OLD) == (protocol <= PROTO_OLD))
        return;
    r->written = protocol <= PROTO_OLD ? PROTO_OLD : PROTO_MOST;
    cm_body_byte(cm_pod_body(r->pod), OP_PROTO);
    cm_body_byte(cm_pod_body(r->pod), (uint8_t)r->written);
}

static bool is_large(reader *r, uint8_t code, const piece *operand)
{
    enum cm_buffer_kind kind;

    if (operand->size < CM_PAYLOAD_MIN)
        return false;
    if (code == OP_BYTES || code == OP_BYTES8)
        kind = CM_PAYLOAD_BYTES;
    else if (code == OP_UNICODE4 || code == OP_UNICODE8)
        kind = CM_PAYLOAD_STR;
    else if (code == OP_BYTEARRAY8)
        kind = CM_PAYLOAD_BYTEARRAY;
    else
        return false;
    cm_pod_buffer(r->pod, kind, operand->at, operand->size);
    return true;
}

static int own_step(reader *r, uint8_t code, const piece *operand)
{
    uint64_t index = little_endian(operand->at, operand->size <= 4 ? operand->size : 0);
    int result = 0;

    switch (code) {
    case OP_PROTO:
        if (operand->at[0] > PROTO_MOST)
            return refuse(r, "it is of protocol %d, later than %d", operand->at[0], PROTO_MOST);
        r->protocol = operand->at[0];
        return 0;
    case OP_FRAME:
        if (little_endian(operand->at, 8) > r->size - r->at)
            return refuse(r, "a frame reaches beyond the end");
        return 0;
    case OP_GET:
        result = text_index(r, operand, &index);
        return result < 0 ? result : memo_get(r, index);
    case OP_BINGET:
    case OP_LONG_BINGET:
        return memo_get(r, index);
    case OP_PUT:
        result = text_index(r, operand, &index);
        return result < 0 ? result : memo_put(r, index);
    case OP_BINPUT:
    case OP_LONG_BINPUT:
        return memo_put(r, index);
    case OP_MEMOIZE:
        return memo_put(r, r->memo_count);
    case OP_MARK:
        if (r->mark_count == r->mark_room) {
            size_t room = r->mark_room == 0 ? 64 : r->mark_room * 2;
            uint64_t *more = realloc(r->marks, room * sizeof *more);
            if (more == NULL)
                return -ENOMEM;
            r->marks = more;
            r->mark_room = room;
        }
        r->marks[r->mark_count++] = r->depth;
        break;
    case OP_POP:
        if (r->mark_count > 0 && r->depth == fence(r))
            r->mark_count--; /* a mark on top counts as an object */
        else if (r->depth <= fence(r))
            return refuse(r, "the stack is empty");
        else
            r->depth--;
        break;
    default: /* POP_MARK */
        if (r->mark_count == 0)
            return refuse(r, "there is no mark");
        r->depth = r->marks[--r->mark_count];
        break;
    }
    if (r->pod != NULL)
        cm_body_byte(cm_pod_body(r->pod), code);
    return 0;
}

static int stack_step(reader *r, const opcode *op)
{
    if (op->effect == PLAIN) {
        if (r->depth - fence(r) < op->takes)
            return refuse(r, "the stack has too few objects");
        r->depth = r->depth - op->takes + op->gives;
        return 0;
    }
    if (r->mark_count == 0)
        return refuse(r, "there is no mark");
    uint64_t taken = r->depth - r->marks[r->mark_count - 1];
    if (taken < op->least || (op->multiple > 0 && taken % op->multiple != 0))
        return refuse(r, "objects are missing");
    r->depth = r->marks[--r->mark_count];
    if (op->effect == TO_MARK)
        r->depth++;
    else if (r->depth <= fence(r))
        return refuse(r, "there is no container to add to");
    return 0;
}

/* APPEND, SETITEM, BUILD and those onto a container leave the object that it was. */
static bool changes_in_place(const opcode *op, uint8_t code)
{
    return op->effect == ONTO || code == 'a' || code == 's' || code == 'b';
}

static int step(reader *r, uint8_t code)
{
    const opcode *op = &opcodes[code];
    piece operand, second;

    if (op->operand == UNKNOWN && (code == 'P' || code == 'Q'))
        return refuse(r, "it refers to an object outside of it (a persistent id)");
    if (op->operand == UNKNOWN && code == 0x97)
        return refuse(r, "it refers to a buffer that was pickled out of band");
    if (op->operand == UNKNOWN)
        return refuse(r, "there is no opcode 0x%02x", code);
    int result = read_operand(r, op, &operand, &second);
    if (result < 0)
        return result;
    if (op->effect == OWN)
        return own_step(r, code, &operand);
    result = stack_step(r, op);
    if (result < 0)
        return result;
    note_kind(r, op);
    if (r->depth == 1 && !changes_in_place(op, code))
        r->root = CM_INDEX_ROOT;
    if (op->operand == TEXT) {
        r->texts[0] = r->texts[1];
        r->texts[1] = operand;
    } else if (code == OP_GLOBAL || code == OP_INST) {
        note_global(r, &operand, &second);
    } else if (code == OP_STACK_GLOBAL) {
        note_global(r, &r->texts[0], &r->texts[1]);
    }
    if (r->depth == 1 && (code == OP_GLOBAL || code == OP_STACK_GLOBAL))
        r->kind = NULL;
    if (r->pod == NULL)
        return 0;
    if (code == OP_GLOBAL || code == OP_INST || code == OP_STACK_GLOBAL || (code >= OP_EXT1 && code <= OP_EXT4))
        tell_protocol(r, r->protocol);
    if (!is_large(r, code, &operand))
        cm_body_bytes(cm_pod_body(r->pod), r->data + r->opcode_at, r->at - r->opcode_at);
    return 0;
}

static int read_all(reader *r)
{
    for (;;) {
        r->opcode_at = r->at;
        if (r->at == r->size)
            return refuse(r, r->size == 0 ? "there is nothing in it" : "it ends without STOP");
        uint8_t code = r->data[r->at++];
        if (code == OP_STOP)
            break;
        int result = step(r, code);
        if (result < 0)
            return result;
    }
    if (r->depth != 1 || r->mark_count != 0)
        return refuse(r, "it stops with %llu objects on the stack instead of one", (unsigned long long)r->depth);
    if (r->at != r->size)
        return refuse(r, "it stops, and %zu more bytes follow", r->size - r->at);
    tell_protocol(r, PROTO_MOST);
    return 0;
}

int cm_pickle_read(const void *data, size_t size, cm_pod *pod, uint32_t *root, char type[CM_PICKLE_TYPE_MAX],
                   char why[CM_PICKLE_WHY_MAX])
{
    reader r cm_cleanup(reader_clear) = {
        .data = data, .size = size, .pod = pod, .written = PROTO_MOST, .root = CM_INDEX_ROOT, .why = why};
    int result = read_all(&r);

    strcpy(type, "pickle");
    *root = r.root;
    if (result < 0)
        return result;
    if (r.kind != NULL && r.kind[0] != '\0')
        strcpy(type, r.kind);
    else if (r.kind != NULL && r.lowest[0] != '\0')
        memcpy(type, r.lowest, CM_PICKLE_TYPE_MAX);
    return 0;
}
