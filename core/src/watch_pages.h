/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch_pages.h - asks the kernel which pages of memory were written.
 *
 * userfaultfd with WP_ASYNC write-protects pages so that the first write to each only lifts the protection, in the
 * kernel; PAGEMAP_SCAN tells which pages are not protected any more, and protects them again in the same step (Linux
 * 6.7, see Documentation/admin-guide/mm/{userfaultfd,pagemap}.rst). No privileges are needed: faults of the kernel
 * itself, when read() writes to a buffer for instance, never wait for us, and are seen all the same.
 *
 * Only private anonymous memory is watched: what is shared, or a file's, may be changed by others, through other page
 * tables. Memory that a device writes to by itself is not seen either, see cm_pages_pinned.
 *
 * A handle is of the process that made it; its caller sees to it that a fork only closes it.
 */
#ifndef CM_WATCH_PAGES_H
#define CM_WATCH_PAGES_H

#include <stdbool.h>
#include <stdint.h>

typedef struct cm_pages cm_pages;

/* NULL: this kernel cannot do it, or does not allow it. */
cm_pages *cm_pages_open(void);
/* Ends all watching, unless a fork of this process has the handle still. */
void cm_pages_close(cm_pages *pages);
/* Bytes: ranges begin and end at multiples of it. */
uint64_t cm_pages_size(const cm_pages *pages);

typedef struct cm_extent {
    uint64_t start, end;
} cm_extent;

/* The mappings that the range lies in. False: they are not, or not all, private and anonymous. */
bool cm_pages_mappings(const cm_pages *pages, cm_extent range, cm_extent *mappings);
/* Whether all of it may be asked for, through whichever handle. */
bool cm_pages_watchable(const cm_pages *pages, cm_extent range);
/*
 * Watches a range from now on, of memory that stays mapped during the call. Its mappings are made watchable as a whole, so that they
 * stay in one piece: mremap does not move parts. False: it cannot be watched. [5 ms for 1 GB of small pages]
 */
bool cm_pages_add(cm_pages *pages, cm_extent range, cm_extent mappings);
/* Writing to it costs nothing any more. */
void cm_pages_remove(cm_pages *pages, cm_extent range);

typedef void (*cm_pages_visitor)(void *arg, uint64_t start, uint64_t end);
/*
 * Visits the runs of pages in the range that may have been written to, or lost, since they were visited last or added,
 * ascending; what is written from now on is for the next visit. False: the range is not, or not all, what was added:
 * anything may have changed, and what was visited must not be believed. [1.5 ms for 1 GB of small pages, 0.02 ms of
 * huge ones]
 */
bool cm_pages_visit(cm_pages *pages, cm_extent range, cm_pages_visitor visit, void *arg);

/*
 * Whether memory of this process is pinned for devices (io_uring's fixed buffers, RDMA): they may write to it without a
 * page fault. Pinning itself counts as writing.
 */
bool cm_pages_pinned(const cm_pages *pages);
/* Whether this process has loaded a driver that may pin memory without the kernel counting it (CUDA, ROCm). */
bool cm_pages_driven(void);

#endif
