/* Calls that a file system may not have: each fails with the number in the environment variable of its name, if there
   is one, and says so in the file REFUSED_LOG. Loaded before the C library by tests/odd_file_systems.rs. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int refused(const char *call) {
    char variable[64];
    snprintf(variable, sizeof variable, "REFUSE_%s", call);
    const char *number = getenv(variable);
    if (!number) return 0;
    const char *path = getenv("REFUSED_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (log) {
        fprintf(log, "%s\n", call);
        fclose(log);
    }
    errno = atoi(number);
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int link(const char *from, const char *to) { return refused("LINK") ? -1 : REAL(link)(from, to); }

int linkat(int from_in, const char *from, int to_in, const char *to, int flags) {
    return refused("LINK") ? -1 : REAL(linkat)(from_in, from, to_in, to, flags);
}

int flock(int file, int operation) { return refused("FLOCK") ? -1 : REAL(flock)(file, operation); }

int fsync(int file) {
    struct stat found;
    int is_folder = fstat(file, &found) == 0 && S_ISDIR(found.st_mode);
    return is_folder && refused("FSYNC_FOLDER") ? -1 : REAL(fsync)(file);
}

/* Opening a folder to sync it; reading one goes through opendir. */
int open64(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & (O_CREAT | __O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    struct stat found;
    int is_folder = getenv("REFUSE_OPEN_FOLDER") && stat(path, &found) == 0 && S_ISDIR(found.st_mode);
    return is_folder && refused("OPEN_FOLDER") ? -1 : REAL(open64)(path, flags, mode);
}
