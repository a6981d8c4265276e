/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_private.h - what the parts of the walker share.
 *
 * The walk has an explicit stack of frames, one per object whose parts are being saved, so nesting is bounded by memory and
 * not by the C stack. Opcodes go into the body of the current pod; a frame of kind CM_FRAME_POD marks where a pod began
 * and puts it into the one around it when everything above it is done.
 *
 * What a pod's bytes may depend on is the graph alone. Small immutable values are therefore shared by value, with one table
 * per pod (cm_atoms); everything else by identity, with one table for all saves (the memo of cm_shadow). The walk owns a reference
 * to all that it puts there, so that no address can come to mean another object while it lasts.
 *
 * Python code runs only while reducers are called, while globals are resolved, when signals are looked at, when
 * references are dropped and while a device is waited for. Elsewhere borrowed references are safe, and container sizes are read anew at every step.
 */
#ifndef CM_WALK_PRIVATE_H
#define CM_WALK_PRIVATE_H

#include "device.h"
#include "walk_shadow.h"

#include <stdbool.h>
#include <stddef.h>

#include <chipmink/policy.h>

enum {
    CM_ATOM_MOST = 256,      /* bytes of a str or bytes that is shared by value inside a pod and repeated in others */
    CM_BATCH = 1000,         /* elements per APPENDS, SETITEMS, ADDITEMS, as in pickle */
    CM_FRESH_MOST = 10000,   /* objects made by reducers of objects made by reducers ... */
    CM_TICKS = 4096,         /* objects between looks at signals */
    CM_SPLICE_SIZE = 64,     /* bytes that a child pod or buffer counts for in the size of a fragment */
    CM_VALUE_MOST = 1 << 20, /* length of a text that is kept alive to know it again */
    CM_RECENT = 256,         /* texts met again and again that are known by address */
};

/* Opcodes of pickle protocol 5 (Lib/pickletools.py describes them). */
enum cm_opcode {
    CM_OP_MARK = '(',
    CM_OP_POP = '0',
    CM_OP_POP_MARK = '1',
    CM_OP_BINFLOAT = 'G',
    CM_OP_BININT = 'J',
    CM_OP_BININT1 = 'K',
    CM_OP_BININT2 = 'M',
    CM_OP_NONE = 'N',
    CM_OP_REDUCE = 'R',
    CM_OP_BINUNICODE = 'X',
    CM_OP_APPEND = 'a',
    CM_OP_BUILD = 'b',
    CM_OP_EMPTY_DICT = '}',
    CM_OP_APPENDS = 'e',
    CM_OP_EMPTY_LIST = ']',
    CM_OP_SETITEM = 's',
    CM_OP_TUPLE = 't',
    CM_OP_EMPTY_TUPLE = ')',
    CM_OP_SETITEMS = 'u',
    CM_OP_BINBYTES = 'B',
    CM_OP_SHORT_BINBYTES = 'C',
    CM_OP_NEWOBJ = 0x81,
    CM_OP_TUPLE1 = 0x85,
    CM_OP_TUPLE2 = 0x86,
    CM_OP_TUPLE3 = 0x87,
    CM_OP_NEWTRUE = 0x88,
    CM_OP_NEWFALSE = 0x89,
    CM_OP_LONG1 = 0x8a,
    CM_OP_LONG4 = 0x8b,
    CM_OP_SHORT_BINUNICODE = 0x8c,
    CM_OP_EMPTY_SET = 0x8f,
    CM_OP_ADDITEMS = 0x90,
    CM_OP_FROZENSET = 0x91,
    CM_OP_NEWOBJ_EX = 0x92,
    CM_OP_STACK_GLOBAL = 0x93,
    CM_OP_BYTEARRAY8 = 0x96,
};

/* ---- small values, per pod (walk_memo.c) ---------------------------------------------------------------------------- */

enum cm_atom_tag { CM_ATOM_STR = 1, CM_ATOM_BYTES = 2 };

typedef struct cm_atom {
    uint64_t hash;
    uint64_t
        value; /* of str, bytes: tag, length, place in the body (16, 16, 32 bits); else the address of a cm_global */
    uint32_t generation; /* the slot is in use if it is the table's */
    uint32_t index;
} cm_atom;

typedef struct cm_atoms {
    cm_atom *slots;
    uint32_t mask, count, capacity;
    uint32_t generation;   /* of this use of the table, unlike that of any other in the walk */
    struct cm_atoms *next; /* among the spare ones */
} cm_atoms;

/* A text that was found in the table of the pod with that generation: the next time it need not be hashed. */
typedef struct cm_recent {
    PyObject *text; /* owned, so that its address stays its own */
    uint64_t hash;
    uint32_t generation, index;
} cm_recent;

/* ---- globals and types (walk_global.c) -------------------------------------------------------------------------------- */

/*
 * An object that every pod has for itself, like a small value: one that is saved by its name, or an immutable one of a type
 * whose instances are shared by everything (a dtype, a time zone, a member of an enum).
 */
typedef struct cm_global {
    PyObject *object, *module, *name; /* owned; without names: it is reduced, or not to be repeated at all */
    const struct cm_global *same;     /* stands for all equal values; NULL: not to be repeated */
    uint64_t hash;                    /* of the names or the value */
} cm_global;

/* How the instances of a type are saved. */
enum cm_type_kind {
    CM_TYPE_GENERIC,  /* __reduce_ex__ */
    CM_TYPE_DISPATCH, /* a function registered with copyreg or cloudpickle */
    CM_TYPE_CLASS,    /* they are classes */
    CM_TYPE_FUNCTION, /* they are Python functions */
    CM_TYPE_VALUE,    /* generic or dispatched; each pod has its own */
    CM_TYPE_PLAIN,    /* what object.__reduce_ex__ does is known: class and __dict__ */
};

typedef struct cm_type {
    PyTypeObject *type; /* owned */
    PyObject *reducer;  /* owned: of CM_TYPE_DISPATCH */
    const cm_global *global;
    unsigned int version;
    enum cm_type_kind kind;
    bool global_known; /* else `global` was not asked for yet */
    bool apart;        /* instances get pods of their own: they are often shared */
    bool owner;        /* the arrays in instances are their own: they share no memory with others after loading */
} cm_type;

typedef struct cm_words {
    uint32_t *words;
    size_t count, capacity;
} cm_words;

/* A dict made by a function's reducer: what all functions of a module share, or what one refers to in its globals. */
typedef struct cm_mark {
    PyObject *dict; /* owned */
    bool elements;  /* its values get pods of their own, else it does itself */
} cm_mark;

/* ---- frames ---------------------------------------------------------------------------------------------------- */

enum cm_frame_kind {
    CM_FRAME_POD,
    CM_FRAME_LIST,
    CM_FRAME_TUPLE,
    CM_FRAME_DICT,
    CM_FRAME_SET,
    CM_FRAME_FROZENSET,
    CM_FRAME_FRAGMENTS, /* a big list, dict or set: a run of elements after the other */
    CM_FRAME_REDUCE,
    CM_FRAME_BUILD, /* emits BUILD */
};

enum cm_frame_flags {
    CM_FLAG_RUN = 1,    /* a run of elements of the CM_FRAME_FRAGMENTS two frames below, in a fragment */
    CM_FLAG_SINGLE = 2, /* the one element stands without a MARK */
    CM_FLAG_BUILD = 4,  /* a state: BUILD follows */
    CM_FLAG_FINAL = 8,  /* of a pod: what is around it was final */
    CM_FLAG_APART = 16, /* its elements get pods of their own */
    CM_FLAG_OWNER = 32, /* an object of a type with `owner` */
};

typedef struct cm_frame {
    uint8_t kind, stage, flags;
    uint32_t trace;   /* where its elements are noted in walk->notes; 0: nowhere */
    uint32_t batch;   /* elements since the MARK; of a pod: `repeating` around it */
    uint32_t fresh;   /* reducers that made it, one inside the other, see CM_FRESH_MOST */
    PyObject *object; /* owned */
    PyObject *held;   /* owned: elements of a set, a value in waiting, an iterator */
    union {
        struct {
            Py_ssize_t at, size;
            Py_ssize_t before; /* `at` before the element in hand */
            uint64_t outer;    /* of CM_FRAME_FRAGMENTS: the fingerprint around it; of a run: splices before it */
        };
        struct { /* CM_FRAME_POD */
            cm_pod *pod;
            cm_atoms *atoms;
            uint64_t hash, splices;
        } around;
        struct {                       /* CM_FRAME_REDUCE */
            PyObject *value;           /* owned: what __reduce_ex__ returned */
            PyObject *pending;         /* owned: a value whose key is being saved */
            PyObject *cells;           /* owned: list of cells of a function that were made empty, or NULL */
            const cm_global *repeated; /* the value this is in the pod, or NULL: it goes into the memo */
            int call;                  /* enum cm_call, walk_reduce.c */
        } reduce;
    };
} cm_frame;

/*
 * So many instances get their attributes back after a walk, and are walked by the next one, for what is known of them goes by their __dict__.
 * A millisecond; where there are more, what is known is worth more.
 */
enum { CM_LENT_MOST = 1000 };

struct cm_walk {
    cm_save *save;

    /* the pod under construction */
    cm_pod *pod;
    cm_body *body;
    cm_atoms *atoms; /* NULL until needed */
    bool final;      /* everything goes into it */

    uint64_t hash;    /* fingerprint of what was emitted since the element of a fragment began */
    uint64_t splices; /* pods and buffers spliced so far */

    cm_frame *frames;
    size_t frame_count, frame_capacity;
    uint32_t depth;     /* frames but those of pods and runs */
    uint32_t reducing;  /* CM_FRAME_REDUCE that do not have their object yet */
    uint32_t repeating; /* those of values in this pod: what is in them is remembered in the pod only */
    uint32_t owning;    /* those of objects whose arrays are their own: `owning` of `reducers` is True */
    uint32_t ticks;

    cm_shadow *shadow;
    PyObject *describe;   /* borrowed */
    cm_shade *shade;      /* of the pod under construction */
    cm_shade *root;       /* of the variable */
    PyObject *idle;       /* owned: set of names of variables that nothing can have changed, or NULL */
    cm_words notes, runs; /* of the shades that are open, one behind the other */
    PyObject **held;      /* owned: what this walk put into the memo */
    size_t held_count, held_capacity;
    cm_shade **part; /* shades that are part of this walk, in its order */
    size_t part_count, part_capacity;
    size_t part_held; /* of those used again, which have been held on to */
    uint64_t noted;   /* bytes of notes made in this walk */
    bool kept_shadow;
    cm_atoms *spare;
    uint32_t generations;
    cm_recent recent[CM_RECENT];
    cm_table globals, types;
    cm_table marks; /* cm_mark */
    cm_type *last_type;

    Py_buffer **buffers; /* exports held until the end */
    size_t buffer_count, buffer_capacity;
    PyObject *kept;               /* list: bytes that payloads point into */
    PyObject *lent[CM_LENT_MOST]; /* owned: instances whose attributes this walk has taken out; see walk_entries.h */
    size_t lent_count;            /* more than CM_LENT_MOST: they are left as they are */

    PyObject *pickling_error, *store_error;
    PyObject *device_memory;      /* chipmink._core.DeviceMemory */
    PyObject *reducers;           /* chipmink._reducers.Reducers */
    PyObject *newobj, *newobj_ex; /* copyreg.__newobj__ and its kin */
    PyObject *slotnames;          /* copyreg._slotnames */
    PyObject *make_cell;          /* cloudpickle's function that makes an empty cell */
    PyObject *set_attribute;      /* setattr */
    PyObject *str_contents;       /* "cell_contents" */
    PyObject *protocol;           /* 5 */
    PyObject *str_reduce_ex, *str_reduce, *str_getstate, *str_name, *str_class;
    PyObject *str_locate, *str_value, *str_dispatch, *str_nature, *str_take_apart, *str_sort_key,
        *str_owning; /* of Reducers */
    bool fatal;      /* the exception that is set ends the save */
};

/* Spreads what is megabytes apart; neighbours in memory stay neighbours, for they are walked together. */
static inline size_t cm_address_hash(const void *object)
{
    uintptr_t address = (uintptr_t)object >> 4;
    return address + (address >> 20) * 0x9e3779b1u;
}

/* ---- walk_shadow.c, walk_memo.c, walk_reuse.c ---- */
/* What the memo says of the address, be it of this walk or left by an earlier one. */
bool cm_memo_at(const cm_shadow *shadow, PyObject *object, cm_memo_entry *entry);

/* Where the object is in this walk; false: it was not met. */
static inline bool cm_memo_find(const cm_walk *walk, PyObject *object, cm_memo_entry *entry)
{
    if (!cm_memo_at(walk->shadow, object, entry))
        return false;
    const cm_shade *shade = cm_shade_at(walk->shadow, entry->shade);
    return shade->seen == walk->shadow->generation && shade->idle != walk->shadow->generation;
}

/* Holds on to an object until the walk ends. -1 with MemoryError. */
CM_MUST_USE int cm_walk_hold(cm_walk *walk, PyObject *object);
/*
 * To be called before code of others runs: it may let go of objects in pods that are used again, and their addresses, which the
 * memo knows, must not become others'.
 */
CM_MUST_USE int cm_walk_foreign(cm_walk *walk);
/* The object is in the current pod. -1 with MemoryError. */
CM_MUST_USE int cm_memo_add(cm_walk *walk, PyObject *object, uint32_t index);
/* Every entry, also those that are of no walk any more; ends with what `visit` returns, when that is not 0. */
CM_MUST_USE int cm_memo_each(const cm_shadow *shadow, int (*visit)(void *arg, const cm_memo_entry *entry), void *arg);
/* After a walk: leaves out what is of no use for the next one. */
void cm_memo_trim(cm_shadow *shadow);
void cm_memo_clear(cm_shadow *shadow);
/*
 * Emits what is there already: a reference to an object met before, or as a child the pod that it had, if that can be used again.
 * 1, 0, or -1 with an exception.
 */
CM_MUST_USE int cm_walk_known(cm_walk *walk, PyObject *object);
/* The shade of an object that can be used again as a variable's own, now part of the walk. 1, 0, or -1 with an exception. */
CM_MUST_USE int cm_shade_reuse_root(cm_walk *walk, PyObject *name, PyObject *object, cm_shade **shade);
/* In a container built of fragments: uses the fragment that began with the element at `at`. 1 with *at moved on, 0, -1. */
CM_MUST_USE int cm_shade_reuse_run(cm_walk *walk, PyObject *container, enum cm_frame_kind kind, Py_ssize_t *at);
/* Whether the elements of a fragment stand in its container, a list or dict, from *at on; moves *at behind them. */
bool cm_shade_is_run(const cm_shadow *shadow, const cm_shade *run, PyObject *container, uint64_t *at);
/* Compares its own notes once more, all of whose objects are held on to. 1: they are the same, 0, or -1 with an exception. */
CM_MUST_USE int cm_shade_is_same(cm_walk *walk, cm_shade *shade);
/* The shade of a new pod becomes the current one, and ends. NULL with MemoryError. */
cm_shade *cm_shade_open(cm_walk *walk, PyObject *object);
void cm_shade_close(cm_walk *walk);
/* Everything that became part of the walk after the first `count` is not, after all. */
void cm_shades_cut(cm_walk *walk, size_t count);
CM_MUST_USE int cm_shade_name(cm_walk *walk, PyObject *name, cm_shade *shade, PyObject *description);
void cm_shades_free(cm_walk *walk);
/* Makes the pods of `top` and all below it, whose pages are known, part of the save. -1 with an exception. */
CM_MUST_USE int cm_shade_use_again(cm_walk *walk, cm_shade *top);

/* ---- walk_idle.c ---- */
/* The current variable refers to something in the pod of that shade. */
void cm_idle_link(const cm_walk *walk, cm_shade *target);
/* The current variable has that memory, which others may see, too; or has the memory of an object, if it exports any. -1 with MemoryError. */
CM_MUST_USE int cm_idle_memory(const cm_walk *walk, uint64_t address, uint64_t size);
CM_MUST_USE int cm_idle_exporter(cm_walk *walk, PyObject *object);
/* After a walk: memory of what was looked at in an earlier one is forgotten. */
void cm_idle_keep(cm_shadow *shadow);
/* Uses the pods of a variable again that nothing can have changed: its place. 1, 0, or -1 with an exception. */
CM_MUST_USE int cm_idle_use(cm_walk *walk, PyObject *name, PyObject *value, cm_shade **found, uint32_t *index);
/* The variable is an object of another one; it is not. -1 with an exception. */
CM_MUST_USE int cm_idle_alias(const cm_walk *walk, PyObject *name, PyObject *value);
CM_MUST_USE int cm_idle_own(const cm_walk *walk, PyObject *name);
/* The variable could not be saved. -1 with an exception. */
CM_MUST_USE int cm_idle_lose(const cm_walk *walk, PyObject *name);

/* Notes for the current shade. The object is a list, tuple, set or frozenset of `count`: where its elements are to be noted. */
uint32_t cm_trace_elements(cm_walk *walk, PyObject *object, Py_ssize_t count);
void cm_trace_dict(cm_walk *walk, PyObject *dict);
/* A list, dict or set built of fragments. */
void cm_trace_whole(cm_walk *walk, PyObject *object);
void cm_trace_instance(cm_walk *walk, PyObject *object, uint64_t class_hash, PyObject *dict);
void cm_trace_value(cm_walk *walk, PyObject *object); /* the pod's object is an immutable value */
void cm_trace_external(cm_walk *walk, PyObject *object, const cm_memo_entry *entry);
void cm_trace_run(cm_walk *walk, PyObject *element); /* the next of a fragment */
/* It goes through a reducer, or for other reasons cannot be told to be the same. */
static inline void cm_trace_opaque(cm_walk *walk)
{
    if (walk->shade)
        walk->shade->opaque = true;
}

/* Immutable values that are known by their address alone, as long as it is theirs. */
static inline bool cm_is_value(const PyObject *object)
{
    const PyTypeObject *type = Py_TYPE(object);
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyFloat_Type || object == Py_None ||
           type == &PyBool_Type || type == &PyBytes_Type;
}

/* What stands for an address in notes, see walk_shadow.c; 0: nothing can, there are too many regions. */
uint32_t cm_note_word_elsewhere(cm_shadow *shadow, const void *address);
enum { CM_REGION_SHIFT = 27 };
static inline uint32_t cm_note_word(cm_shadow *shadow, const void *address)
{
    uint64_t offset = (uint64_t)(uintptr_t)address - shadow->regions[shadow->region];
    if (offset >> CM_REGION_SHIFT || offset & 15)
        return cm_note_word_elsewhere(shadow, address);
    return shadow->region << 24 | (uint32_t)(offset >> 3);
}

/* A note of one element: what stands for its address, with the lowest bit set if the shade owns it. */
static inline uint32_t cm_trace_word(cm_walk *walk, PyObject *object)
{
    uint32_t word = cm_note_word(walk->shadow, object);
    if (!word)
        cm_trace_opaque(walk);
    if (!word || !cm_is_value(object))
        return word;
    if ((PyUnicode_CheckExact(object) && PyUnicode_GET_LENGTH(object) > CM_VALUE_MOST) ||
        (PyBytes_CheckExact(object) && PyBytes_GET_SIZE(object) > CM_VALUE_MOST))
        cm_trace_opaque(walk); /* too much to be kept alive for this */
    Py_INCREF(object);
    return word | 1;
}

static inline void cm_trace_element(cm_walk *walk, uint32_t trace, Py_ssize_t at, Py_ssize_t size, PyObject *object)
{
    if (!trace)
        return;
    if (at < size)
        walk->notes.words[trace + (size_t)at] = cm_trace_word(walk, object);
    else
        cm_trace_opaque(walk); /* it has grown meanwhile */
}

/* ---- walk_memo.c ---- */
/* Room for one more value in the table of the current pod, which is made if need be. -1 with MemoryError. */
int cm_atoms_room(cm_walk *walk);
void cm_atoms_release(cm_walk *walk, cm_atoms *atoms); /* its pod is finished */
void cm_atoms_free(cm_walk *walk);
void *cm_table_find(const cm_table *table, const void *address);
int cm_table_add(cm_table *table, void *record); /* -1 with MemoryError */

/* ---- walk_atoms.c: emit one value; as cm_walk_value (1: in a pod whose frame was pushed) ---- */
void cm_emit_long(cm_walk *walk, long long value);
CM_MUST_USE int cm_emit_int(cm_walk *walk, PyObject *object); /* exact int */
CM_MUST_USE int cm_emit_str(cm_walk *walk, PyObject *object); /* exact str */
CM_MUST_USE int cm_emit_bytes(cm_walk *walk, PyObject *object);
CM_MUST_USE int cm_emit_bytearray(cm_walk *walk, PyObject *object);
CM_MUST_USE int cm_emit_picklebuffer(cm_walk *walk, PyObject *object);
CM_MUST_USE int cm_emit_device_memory(cm_walk *walk, PyObject *object);

static inline bool cm_is_device_memory(const cm_walk *walk, PyObject *object)
{
    return Py_IS_TYPE(object, (PyTypeObject *)walk->device_memory);
}
CM_MUST_USE int cm_emit_global(cm_walk *walk, const cm_global *global);
/* If the current pod has the value already: pushes it. 1, 0, or -1 with an exception. */
CM_MUST_USE int cm_emit_repeated(cm_walk *walk, const cm_global *global);
/* The same for an object that is in a value. */
CM_MUST_USE int cm_emit_within(cm_walk *walk, const PyObject *object);
CM_MUST_USE int cm_memoize_within(cm_walk *walk, PyObject *object);
/* Emits MEMOIZE and remembers what is on top of the stack as the value in this pod. */
CM_MUST_USE int cm_memoize_repeated(cm_walk *walk, const cm_global *global);
/* Pushes an object that was saved. */
CM_MUST_USE int cm_emit_reference(cm_walk *walk, const cm_memo_entry *entry);

/* ---- walk_global.c ---- */
/* The global that a class or function, or any object asked for before, is; NULL without an exception: it has no name. */
CM_MUST_USE int cm_walk_locate(cm_walk *walk, PyObject *object, const cm_global **global);
/* The same for an object whose reducer returned `name`: PicklingError unless it is there. */
CM_MUST_USE int cm_walk_locate_named(cm_walk *walk, PyObject *object, PyObject *name, const cm_global **global);
/* For an instance of CM_TYPE_VALUE: what it is to be repeated as, NULL if it is not. */
CM_MUST_USE int cm_walk_locate_value(cm_walk *walk, PyObject *object, const cm_global **value);
/* Marks what the reducer of a function returned. */
CM_MUST_USE int cm_walk_mark(cm_walk *walk, PyObject *dict, bool elements);
cm_type *cm_walk_type(cm_walk *walk, PyTypeObject *type); /* NULL with an exception */
void cm_walk_globals_free(cm_walk *walk);

/* ---- walk_order.c ---- */
/* A new list of a set's elements, in an order that depends on their values alone where these are plain values. */
PyObject *cm_walk_ordered(cm_walk *walk, PyObject *set);

/* ---- walk_reduce.c ---- */
/* Whether instances are saved as their class and dict, and the class need not be walked. 1 and the hash of its name; 0; -1. */
CM_MUST_USE int cm_walk_is_plain(cm_walk *walk, PyTypeObject *type, uint64_t *class_hash);
/* Sets `owning` of `reducers`. -1 with an exception. */
CM_MUST_USE int cm_walk_own(cm_walk *walk, bool owning);
/* Saves an object that has no opcodes of its own. As cm_walk_value. */
CM_MUST_USE int cm_walk_reduce(cm_walk *walk, PyObject *object);
CM_MUST_USE int cm_step_reduce(cm_walk *walk);

/* ---- walk_steps.c ---- */
CM_MUST_USE int cm_walk_dict(cm_walk *walk, PyObject *dict, uint8_t flags);
/* Does one step of the uppermost frame. 0: go on; -1 with an exception. */
CM_MUST_USE int cm_walk_step(cm_walk *walk);
/* Saves one object. 0: it is emitted. 1: a frame was pushed for it. -1 with an exception. */
CM_MUST_USE int cm_walk_value(cm_walk *walk, PyObject *object);

/* ---- walk_stack.c ---- */
/* A new uppermost frame that owns a reference to `object`; NULL with an exception. Invalidates pointers to frames. */
cm_frame *cm_walk_push(cm_walk *walk, enum cm_frame_kind kind, PyObject *object);
void cm_walk_pop(cm_walk *walk);
/* Asks the policy. 1: a pod of its own was opened, with a frame below the object's. 0: none. -1 with an exception. */
CM_MUST_USE int cm_walk_place(cm_walk *walk, PyObject *object, enum cm_class cls, uint64_t length, uint64_t size);
/* As cm_walk_place, without asking. */
CM_MUST_USE int cm_walk_place_apart(cm_walk *walk, PyObject *object);
CM_MUST_USE int cm_walk_pod_open(cm_walk *walk, PyObject *object, enum cm_pod_kind kind, bool final);
/* Ends the pod of the uppermost frame and splices it into the one around it; the variable's own stays current. */
CM_MUST_USE int cm_walk_pod_close(cm_walk *walk);
/* Emits MEMOIZE and remembers the object as the value on top of the stack, in the memo. */
CM_MUST_USE int cm_walk_memoize(cm_walk *walk, PyObject *object);
CM_MUST_USE int cm_walk_signals(cm_walk *walk);
CM_MUST_USE int cm_walk_keep(cm_walk *walk, PyObject *object);
/* Sets an exception for a failure of the store and returns -1. */
int cm_walk_store_failed(cm_walk *walk, int result);
/* "x[3].foo": where the walk is. NULL without an exception when that cannot be told. */
PyObject *cm_walk_path(cm_walk *walk, PyObject *name);

static inline cm_frame *cm_walk_top(cm_walk *walk)
{
    return &walk->frames[walk->frame_count - 1];
}

static inline void cm_emit(cm_walk *walk, uint8_t opcode)
{
    cm_body_byte(walk->body, opcode);
}

/* Mixes into the fingerprint of the element in hand. */
static inline void cm_mix(cm_walk *walk, uint64_t value)
{
    uint64_t hash = (walk->hash ^ value) * 0x9e3779b97f4a7c15u;
    walk->hash = hash ^ (hash >> 32);
}

#endif
