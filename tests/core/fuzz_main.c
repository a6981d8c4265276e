/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_main.c - runs a fuzz target over its corpus: `fuzz_x SEEDS REFUSED`. Every file of the first directory must be
 * accepted, every one of the second refused; and of each seed, every truncation and flipped bit must do no harm.
 */
#include "fuzz.h"

#include <dirent.h>
#include <string.h>

enum { FILE_MOST = 1 << 20, SPOILT_MOST = 4096 };

/* Each input in memory of its exact size, so that reading beyond it is noticed. */
static int run_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + !size);
    fuzz_must(copy);
    memcpy(copy, data, size);
    int result = fuzz_one(copy, size);
    free(copy);
    return result;
}

static void spoil(uint8_t *data, size_t size)
{
    size_t most = size < SPOILT_MOST ? size : SPOILT_MOST;
    for (size_t cut = 0; cut < most; cut++)
        run_copy(data, cut);
    for (size_t bit = 0; bit < most * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        run_copy(data, size);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static int run_directory(const char *path, int accept)
{
    static uint8_t data[FILE_MOST];
    char name[4096];
    int wrong = 0, count = 0;
    DIR *dir = opendir(path);
    if (!dir) {
        perror(path);
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        FILE *file = fopen(name, "rbe");
        fuzz_must(file);
        size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        int result = run_copy(data, size);
        if (accept ? result != 0 : result >= 0) {
            printf("%s was %s (%d)\n", name, accept ? "refused" : "accepted", result);
            wrong++;
        }
        if (accept)
            spoil(data, size);
        count++;
    }
    closedir(dir);
    printf("%s: %d files, %d wrong\n", path, count, wrong);
    return wrong || !count;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s SEEDS REFUSED\n", argv[0]);
        return 2;
    }
    int wrong = run_directory(argv[1], 1);
    return run_directory(argv[2], 0) || wrong;
}
