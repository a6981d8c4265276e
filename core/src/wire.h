/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - what a client and the store server say to each other. docs/FORMAT.md describes the protocol.
 *
 * A connection is a Unix socket of type SOCK_SEQPACKET: one packet asks, one packet answers, both at most CM_WIRE_PACKET
 * bytes. Bulk bytes do not go through the socket: each connection has an area of memory (a sealed memfd of the client's) that
 * both sides have mapped; what does not fit into it is passed as a memfd of its own with the packet.
 */
#ifndef CM_WIRE_H
#define CM_WIRE_H

#include "backend.h"
#include "buffer.h"

enum {
    CM_WIRE_VERSION = 5,
    CM_WIRE_PACKET = 64 << 10,
    CM_WIRE_AREA = 4 << 20,
    CM_WIRE_GET_MOST = 1024, /* ids in one request: they and what is said of the records fit into packets */
    CM_WIRE_READ_MOST = 16,  /* refs read by one begin */
};

enum cm_wire_op {
    CM_WIRE_HELLO = 1, /* + the area's memfd */
    CM_WIRE_FIND = 2,
    CM_WIRE_GET = 3,
    CM_WIRE_LIST = 4,
    CM_WIRE_BEGIN = 5,
    CM_WIRE_PUT = 6,
    CM_WIRE_COMMIT = 7,
    CM_WIRE_ABORT = 8,
    CM_WIRE_REF_GET = 9,
    CM_WIRE_REF_LIST = 10,
    CM_WIRE_DISK = 11,
    CM_WIRE_CONTROL = 12, /* words for the server itself: mount, stop, ... */
    CM_WIRE_GC = 13,      /* answered by several packets: progress, then the report */
};

/* Fixed-size items in the area, little endian. */
enum {
    CM_WIRE_INFO = 24,    /* u64 kind, size, stored */
    CM_WIRE_LISTED = 56,  /* id, info */
    CM_WIRE_CONTENT = 88, /* id, u64 kind, u64 size, u64 offset of the bytes in the area, id of the base or zeros */
    CM_WIRE_PUT_DONE = 8, /* u64 stored */
};

/* In what a put answers: it is stored as a difference; it was in the store before, or is being put by another call. */
#define CM_WIRE_DIFFERENT (UINT64_C(1) << 63)
#define CM_WIRE_THERE     (UINT64_C(1) << 62)

void cm_wire_put_info(uint8_t *at, const cm_object_info *info);
void cm_wire_get_info(const uint8_t *at, cm_object_info *info);

/* A mapped memfd. */
typedef struct cm_area {
    uint8_t *bytes; /* NULL: none */
    size_t size;
} cm_area;

/* A fresh sealed memfd of `size` bytes, mapped for writing. */
CM_MUST_USE int cm_area_make(size_t size, int *fd, cm_area *area);
/* Maps a memfd that came over the wire; refuses one that could shrink under us, or is larger than `most`. */
CM_MUST_USE int cm_area_map(int fd, size_t most, cm_area *area);
void cm_area_clear(cm_area *area);

/* [blocks] `pass`: a file descriptor to go along, or -1. -EPIPE, -ECONNRESET: the other side has gone. */
CM_MUST_USE int cm_wire_send(int socket, const cm_buffer *packet, int pass);
/* [blocks] Replaces `packet`. *passed: a descriptor that came along, the caller's to close, or -1. -ECONNRESET: gone. */
CM_MUST_USE int cm_wire_receive(int socket, cm_buffer *packet, int *passed);

/* The server's socket in a store: at most 108 bytes whatever the path (it goes through the directory's descriptor). */
CM_MUST_USE int cm_wire_connect(const char *store, int *socket);
/* Binds and listens, 0600; an earlier server's socket is replaced, so the caller must hold the store. */
CM_MUST_USE int cm_wire_listen(const char *store, int *socket);
/* Takes the socket's name away. */
void cm_wire_unlink(const char *store);
/* The other side runs as the same user (or is root): 0 or -EPERM. */
CM_MUST_USE int cm_wire_check_peer(int socket);

#endif
