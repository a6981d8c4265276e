/* SPDX-License-Identifier: Apache-2.0 */
#include "watch_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What older headers lack; from linux/userfaultfd.h and linux/fs.h of 6.11. */
enum {
    USER_MODE_ONLY = 1,
    FEATURE_WP_UNPOPULATED = 1 << 13,
    FEATURE_WP_ASYNC = 1 << 15,

    PAGE_IS_WPALLOWED = 1 << 0,
    PAGE_IS_WRITTEN = 1 << 1,
    PAGE_IS_PRESENT = 1 << 3,
    PAGE_IS_SWAPPED = 1 << 4,
    SCAN_WP_MATCHING = 1 << 0,
    SCAN_CHECK_WPASYNC = 1 << 1,

    VMA_SHARED = 1 << 3,
};

typedef struct page_region {
    uint64_t start, end, categories;
} page_region;

typedef struct scan_arguments {
    uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
} scan_arguments;

typedef struct vma_query {
    uint64_t size, flags, address;
    uint64_t start, end, vma_flags, page_size, offset, inode;
    uint32_t major, minor, name_size, build_id_size;
    uint64_t name, build_id;
} vma_query;

#define IOCTL_SCAN  _IOWR('f', 16, scan_arguments) /* of /proc/self/pagemap */
#define IOCTL_QUERY _IOWR('f', 17, vma_query)      /* of /proc/self/maps */

enum { REGIONS = 256 };

struct cm_pages {
    int userfault, pagemap, maps, status;
    uint64_t page;
};

/* ---- a handle ---------------------------------------------------------------------------------------------------- */

static void close_one(int fd)
{
    if (fd >= 0)
        close(fd);
}

cm_pages *cm_pages_open(void)
{
    cm_pages *pages = malloc(sizeof *pages);
    if (!pages)
        return NULL;
    *pages = (cm_pages){
        .userfault = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY),
        .pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC),
        .maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC),
        .status = open("/proc/self/status", O_RDONLY | O_CLOEXEC),
        .page = (uint64_t)sysconf(_SC_PAGESIZE),
    };
    struct uffdio_api api = {.api = UFFD_API, .features = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED};
    scan_arguments nothing = {.size = sizeof nothing};
    if (pages->userfault < 0 || pages->pagemap < 0 || pages->maps < 0 || pages->status < 0 ||
        ioctl(pages->userfault, UFFDIO_API, &api) < 0 || ioctl(pages->pagemap, IOCTL_SCAN, &nothing) < 0) {
        cm_pages_close(pages);
        return NULL;
    }
    return pages;
}

void cm_pages_close(cm_pages *pages)
{
    if (!pages)
        return;
    close_one(pages->userfault); /* the last one to close it ends what it watches */
    close_one(pages->pagemap);
    close_one(pages->maps);
    close_one(pages->status);
    free(pages);
}

uint64_t cm_pages_size(const cm_pages *pages)
{
    return pages->page;
}

/* ---- what kind of memory it is ----------------------------------------------------------------------------------- */

/* For kernels before 6.11, which have no IOCTL_QUERY. */
static int read_vma(vma_query *query)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    while (maps && !found && getline(&line, &capacity, maps) > 0) {
        char flags[5] = "";
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %x:%x %" SCNu64, &query->start, &query->end, flags,
                   &query->major, &query->minor, &query->inode) != 6)
            break;
        query->vma_flags = flags[3] == 'p' ? 0 : VMA_SHARED;
        found = query->start <= query->address && query->address < query->end;
    }
    free(line);
    if (maps)
        fclose(maps);
    return found ? 0 : -1;
}

bool cm_pages_mappings(const cm_pages *pages, cm_extent range, cm_extent *mappings)
{
    *mappings = range;
    for (uint64_t at = range.start; at < range.end; at = mappings->end) {
        vma_query query = {.size = sizeof query, .address = at};
        int result = ioctl(pages->maps, IOCTL_QUERY, &query);
        if (result < 0 && errno == ENOTTY)
            result = read_vma(&query);
        if (result < 0 || query.vma_flags & VMA_SHARED || query.inode || query.major || query.minor)
            return false;
        if (at == range.start)
            mappings->start = query.start;
        mappings->end = query.end;
    }
    return true;
}

bool cm_pages_pinned(const cm_pages *pages)
{
    char text[4096];
    ssize_t size = pread(pages->status, text, sizeof text - 1, 0);
    if (size < 0)
        return true;
    text[size] = 0;
    const char *line = strstr(text, "\nVmPin:");
    return !line || strtoull(line + strlen("\nVmPin:"), NULL, 10) > 0;
}

/* Asked with each save: looking through what is loaded takes microseconds, dlopen searches all directories. */
static int is_driver(struct dl_phdr_info *library, size_t size, void *found)
{
    static const char *const drivers[] = {"libcuda.so.", "libhsa-runtime64.so."};
    (void)size;
    const char *slash = strrchr(library->dlpi_name, '/'), *name = slash ? slash + 1 : library->dlpi_name;
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++)
        *(bool *)found |= strncmp(name, drivers[i], strlen(drivers[i])) == 0;
    return *(bool *)found;
}

bool cm_pages_driven(void)
{
    bool found = false;
    dl_iterate_phdr(is_driver, &found);
    return found;
}

/* ---- ranges ------------------------------------------------------------------------------------------------------ */

/* Fails where part of it is watched through another handle. */
static bool take(const cm_pages *pages, cm_extent range)
{
    struct uffdio_register all = {.range = {range.start, range.end - range.start}, .mode = UFFDIO_REGISTER_MODE_WP};
    return ioctl(pages->userfault, UFFDIO_REGISTER, &all) == 0;
}

static bool protect(const cm_pages *pages, cm_extent range, uint64_t mode)
{
    struct uffdio_writeprotect all = {.range = {range.start, range.end - range.start}, .mode = mode};
    return ioctl(pages->userfault, UFFDIO_WRITEPROTECT, &all) == 0;
}

bool cm_pages_watchable(const cm_pages *pages, cm_extent range)
{
    /* What cannot be watched is refused, and what can be is passed over: no page is looked at. */
    scan_arguments scan = {
        .size = sizeof scan,
        .flags = SCAN_CHECK_WPASYNC,
        .start = range.start,
        .end = range.end,
        .category_inverted = PAGE_IS_WPALLOWED,
        .category_mask = PAGE_IS_WPALLOWED,
    };
    return ioctl(pages->pagemap, IOCTL_SCAN, &scan) == 0;
}

bool cm_pages_add(cm_pages *pages, cm_extent range, cm_extent mappings)
{
    /* Not by a scan: before 6.13 memory moved by mremap may be marked as protected, though it is not. */
    return take(pages, mappings) && protect(pages, range, UFFDIO_WRITEPROTECT_MODE_WP);
}

void cm_pages_remove(cm_pages *pages, cm_extent range)
{
    /* What is not mapped any more is not protected either; and somebody else may watch it by now. */
    if (cm_pages_watchable(pages, range) && take(pages, range))
        (void)protect(pages, range, 0);
}

bool cm_pages_visit(cm_pages *pages, cm_extent range, cm_pages_visitor visit, void *arg)
{
    /*
     * Memory that was unmapped, and mapped again, is not watchable; if somebody else watches it by now, taking it
     * fails. To scan first would take from them what was written.
     */
    if (!cm_pages_watchable(pages, range) || !take(pages, range))
        return false;
    page_region regions[REGIONS];
    while (range.start < range.end) {
        /* Neither in memory nor in swap, nor protected as a page that is not there: it was dropped (MADV_DONTNEED). */
        scan_arguments scan = {
            .size = sizeof scan,
            .flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
            .start = range.start,
            .end = range.end,
            .regions = (uint64_t)(uintptr_t)regions,
            .region_count = REGIONS,
            .category_inverted = PAGE_IS_PRESENT,
            .category_anyof_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT,
            .return_mask = PAGE_IS_WRITTEN | PAGE_IS_SWAPPED,
        };
        int found = ioctl(pages->pagemap, IOCTL_SCAN, &scan);
        if (found < 0 || scan.walk_end <= range.start)
            return false;
        for (int i = 0; i < found; i++)
            if (regions[i].categories & PAGE_IS_WRITTEN || !(regions[i].categories & PAGE_IS_SWAPPED))
                visit(arg, regions[i].start, regions[i].end);
        range.start = scan.walk_end;
    }
    return true;
}
