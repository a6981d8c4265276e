/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node.h - node ids: what a file of the tree is, in 64 bits.
 *
 * The kernel names files by node ids and keeps them for as long as it likes, millions after a `find`. So a node id is no
 * index into a table: it is the place in the tree itself, and nothing has to be remembered for it or forgotten.
 *
 *     63..61      60..45    44..23       22..0
 *     type        session   checkpoint   place    CM_NODE_PLACE: a fixed place of the tree (enum cm_place)
 *                                        index    the variable at that index of the checkpoint's, by name in byte order:
 *                                                 its pickle, its info, a link to its pickle,
 *                                                 its file in work/
 *     type        60..0 the first bits of an object's id: the object
 *     type   60 = in delta/, 59..0 of an id: a link to the object
 *
 * Files of work/ that are no variable of a checkpoint have number 0 and an index given out in order: these are remembered, but only
 * while they are open or not committed (fs/work.h).
 *
 * Checkpoints and objects are immutable, so are their nodes. References move, but their nodes do not either: the node of a
 * link says where it points to (`head` is the place HEAD of checkpoint 12), so that moving a reference changes which node a
 * name means, never a node. Session names become numbers in the order in which this mount met them (cm_view keeps that list;
 * it is as long as there are sessions).
 *
 * Objects are told apart by 61 or 60 of the 256 bits of their ids; whoever looks one up checks that there is only one.
 *
 * Inode numbers, what `ls -i` shows and `du` counts by, are node ids too, but for pickles and infos: there they come from what is
 * in them, so that an unchanged variable is one inode in all checkpoints that have it.
 */
#ifndef CM_NODE_H
#define CM_NODE_H

#include <chipmink/chipmink.h>

typedef uint64_t cm_node;

enum cm_node_type {
    CM_NODE_PLACE = 0,
    CM_NODE_PICKLE = 1,      /* vars/<name>.pkl */
    CM_NODE_OBJECT = 2,      /* pods/ab/<id>; info/<name>.png */
    CM_NODE_INFO = 3,        /* info/<name>.txt */
    CM_NODE_LINK_HERE = 4,   /* delta/{added,changed}/<name>.pkl */
    CM_NODE_LINK_PARENT = 5, /* delta/removed/<name>.pkl, the index is that in the parent */
    CM_NODE_LINK_OBJECT = 6, /* log/<number>/pods/<id>, delta/pods/<id> */
    CM_NODE_WORK = 7,        /* work/<name>.pkl: a variable of the head, or, number 0, an index of its own */
};

enum cm_place {
    CM_PLACE_ROOT = 1, /* FUSE_ROOT_ID */
    CM_PLACE_SESSIONS,
    CM_PLACE_STORE_OBJECTS, /* pods */
    CM_PLACE_OBJECTS_BYTE,  /* pods/ab, ab in the checkpoint's field */
    CM_PLACE_STATISTICS,    /* stats.json */
    /* of a session */
    CM_PLACE_SESSION,
    CM_PLACE_HEAD, /* link to the checkpoint */
    CM_PLACE_REF,  /* the same, one directory deeper */
    CM_PLACE_BRANCHES,
    CM_PLACE_TAGS,
    CM_PLACE_LOG,
    CM_PLACE_BY_TIME,
    CM_PLACE_MOMENT, /* by-time/<time>: link to the checkpoint */
    CM_PLACE_WORK,
    CM_PLACE_ERRORS, /* work/.errors */
    /* of a checkpoint */
    CM_PLACE_CHECKPOINT,
    CM_PLACE_NAMESPACE,   /* <number>.pkl */
    CM_PLACE_DESCRIPTION, /* checkpoint.json */
    CM_PLACE_CODE,
    CM_PLACE_PICKLES, /* vars */
    CM_PLACE_INFOS,
    CM_PLACE_OBJECTS, /* pods */
    CM_PLACE_DELTA,
    CM_PLACE_ADDED,
    CM_PLACE_CHANGED,
    CM_PLACE_REMOVED,
    CM_PLACE_NEW_OBJECTS, /* delta/pods */
};

#define CM_NODE_SESSION_MAX UINT64_C(0xffff)
#define CM_NODE_NUMBER_MAX  UINT64_C(0x3fffff)
#define CM_NODE_INDEX_MAX   UINT64_C(0x7fffff)
#define CM_NODE_ID_BITS     61
#define CM_NODE_LINK_BITS   60

static inline cm_node cm_node_make(enum cm_node_type type, uint64_t session, uint64_t number, uint64_t index)
{
    return (uint64_t)type << 61 | session << 45 | number << 23 | index;
}

static inline cm_node cm_node_place(enum cm_place place, uint64_t session, uint64_t number)
{
    return cm_node_make(CM_NODE_PLACE, session, number, place);
}

static inline bool cm_node_is_place(cm_node node, enum cm_place place)
{
    return node >> 61 == CM_NODE_PLACE && (node & CM_NODE_INDEX_MAX) == place;
}

/* The same checkpoint's (or session's) other place. */
static inline cm_node cm_node_sibling(cm_node node, enum cm_place place)
{
    return (node & ~(UINT64_C(7) << 61 | CM_NODE_INDEX_MAX)) | place;
}

static inline enum cm_node_type cm_node_type(cm_node node)
{
    return (enum cm_node_type)(node >> 61);
}

static inline uint64_t cm_node_session(cm_node node)
{
    return node >> 45 & CM_NODE_SESSION_MAX;
}

static inline uint64_t cm_node_number(cm_node node)
{
    return node >> 23 & CM_NODE_NUMBER_MAX;
}

static inline uint64_t cm_node_index(cm_node node)
{
    return node & CM_NODE_INDEX_MAX;
}

/* The first 61 bits of an id. */
static inline uint64_t cm_node_id_bits(const cm_id *id)
{
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | id->bytes[i];
    return bits >> 3;
}

static inline cm_node cm_node_object(const cm_id *id)
{
    return (uint64_t)CM_NODE_OBJECT << 61 | cm_node_id_bits(id);
}

static inline cm_node cm_node_object_link(const cm_id *id, bool in_delta)
{
    return (uint64_t)CM_NODE_LINK_OBJECT << 61 | (uint64_t)in_delta << 60 | cm_node_id_bits(id) >> 1;
}

/* An id that begins with the bits an object's or object link's node has, and is zero after; *bits: how many these are. */
static inline cm_id cm_node_id_prefix(cm_node node, unsigned *bits)
{
    bool link = cm_node_type(node) == CM_NODE_LINK_OBJECT;
    uint64_t value = link ? node << 4 : node << 3;
    cm_id id = {{0}};

    *bits = link ? CM_NODE_LINK_BITS : CM_NODE_ID_BITS;
    for (int i = 0; i < 8; i++)
        id.bytes[i] = (uint8_t)(value >> (56 - 8 * i));
    return id;
}

#endif
