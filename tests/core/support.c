/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_root[1024]; /* made and removed by the process that runs the suite */
static char scratch[2048];      /* in it, of the process of one test */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void remove_tree(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

const char *scratch_dir(void)
{
    if (!scratch[0]) {
        snprintf(scratch, sizeof scratch, "%s/XXXXXX", scratch_root);
        ck_assert_ptr_nonnull(mkdtemp(scratch));
    }
    return scratch;
}

const char *scratch_path(const char *name)
{
    static char paths[8][4096];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_dir(), name);
    return path;
}

void write_file(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_msg(fd >= 0, "cannot open %s: %s", path, strerror(errno));
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)data + done, size - done);
        ck_assert_msg(n > 0, "cannot write %s: %s", path, strerror(errno));
        done += (size_t)n;
    }
    close(fd);
}

void *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rbe");
    ck_assert_msg(file, "cannot open %s: %s", path, strerror(errno));
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    *size = (size_t)ftell(file);
    rewind(file);
    void *data = malloc(*size + 1);
    ck_assert_uint_eq(fread(data, 1, *size, file), *size);
    fclose(file);
    return data;
}

uint64_t seeded_next(seeded *random)
{
    random->state += 0x9e3779b97f4a7c15; /* splitmix64 */
    uint64_t z = random->state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

void seeded_fill(uint64_t seed, void *data, size_t size)
{
    seeded random = {seed};
    uint8_t *at = data;
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t value = seeded_next(&random);
        memcpy(at, &value, 8);
    }
    uint64_t value = seeded_next(&random);
    memcpy(at, &value, size);
}

const char *small_disk(const char *name, const char *size)
{
    const char *path = scratch_path(name);
    char options[64];
    snprintf(options, sizeof options, "size=%s", size);
    if (mkdir(path, 0700) < 0 || unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", path, "tmpfs", 0, options) < 0) {
        fprintf(stderr, "SKIPPED: no small disk can be mounted here: %s\n", strerror(errno));
        return NULL;
    }
    return path;
}

pid_t start_role(const char *role, const char *path, int fd)
{
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        execl("/proc/self/exe", "chipmink-test", role, path, number, (char *)NULL);
        _exit(127);
    }
    return child;
}

int run_suite(Suite *suite)
{
    const char *parent = getenv("TMPDIR");
    snprintf(scratch_root, sizeof scratch_root, "%s/chipmink-test-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(scratch_root)) {
        perror(scratch_root);
        return EXIT_FAILURE;
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    remove_tree(scratch_root);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
