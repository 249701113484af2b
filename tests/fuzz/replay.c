/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target over files, without a fuzzer: the corpus as a test, or one finding in a
 * debugger. Arguments are files and directories (not searched below); prints how many inputs ran.
 * Fails when an argument cannot be read or nothing ran. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input stands in a block of exactly its size, so that sanitizers see a byte too many. */
static int run_stream(FILE *f, size_t size)
{
    uint8_t *data = malloc(size ? size : 1);
    int ok = data && fread(data, 1, size, f) == size;
    if (ok) LLVMFuzzerTestOneInput(data, size);
    free(data);
    return ok;
}

static int run_file(const char *path, unsigned *count)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    int ok = f && fstat(fileno(f), &st) == 0 && run_stream(f, (size_t)st.st_size);
    if (f) fclose(f);
    if (ok)
        ++*count;
    else
        fprintf(stderr, "cannot read %s\n", path);
    return ok;
}

static int run_dir(DIR *dir, const char *path, unsigned *count)
{
    int ok = 1;
    for (struct dirent *e; (e = readdir(dir));) {
        char file[4096];
        struct stat st;
        int n = snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        if (e->d_name[0] == '.' || n < 0 || (size_t)n >= sizeof file) continue;
        if (stat(file, &st) == 0 && S_ISREG(st.st_mode)) ok &= run_file(file, count);
    }
    return ok;
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    int ok = 1;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        ok &= dir ? run_dir(dir, argv[i], &count) : run_file(argv[i], &count);
        if (dir) closedir(dir);
    }
    printf("%u inputs\n", count);
    return ok && count ? 0 : 1;
}
