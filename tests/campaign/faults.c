/* Loaded by LD_PRELOAD: count the calls that change files below one folder, and let call number N fail or kill.

The variable STADIA_FAULTS names a file of the layout of `struct state`, made by faults.py and shared by every thread
and process of a command. Calls of the C library to itself cannot be caught, so the stdio functions are counted too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#undef open
#undef open64
#undef openat
#undef openat64

enum { CALLS = 16384, TEXT = 128 };

struct state {
    long count;   /* of calls so far */
    long fail_at; /* number of the call that fails, from 1; 0: none */
    long error;   /* its errno; 0: SIGKILL instead */
    char folder[1024];
    char calls[CALLS][TEXT]; /* "name path", for messages */
};

static struct state *shared;
static __thread int busy;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }
#define REAL(name, type) static __typeof__(type) next; if (!next) next = (__typeof__(type))real(name)

static int armed(void) {
    if (shared) return 1;
    const char *path = getenv("STADIA_FAULTS");
    if (!path || busy) return 0;
    busy = 1;
    int (*open_file)(const char *, int, ...) = (int (*)(const char *, int, ...))real("open64");
    int handle = open_file(path, O_RDWR | O_CLOEXEC);
    if (handle >= 0) {
        void *at = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
        if (at != MAP_FAILED) shared = at;
        close(handle);
    }
    busy = 0;
    return shared != NULL;
}

/* Count a call on an absolute path; return 1 where it must fail, with errno set. */
static int count_call(const char *name, const char *path) {
    size_t length = strlen(shared->folder);
    if (strncmp(path, shared->folder, length) || (path[length] != '/' && path[length])) return 0;
    long number = __atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST);
    if (number <= CALLS) snprintf(shared->calls[number - 1], TEXT, "%s %s", name, path + length);
    if (number != shared->fail_at) return 0;
    if (!shared->error) raise(SIGKILL);
    errno = (int)shared->error;
    return 1;
}

static int fails_handle(const char *name, int handle) {
    if (!armed()) return 0;
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length <= 0) return 0;
    path[length] = 0;
    return count_call(name, path);
}

static int fails_path(const char *name, int folder, const char *path) {
    if (!armed()) return 0;
    if (path[0] == '/') return count_call(name, path);
    char link[64], whole[2 * PATH_MAX];
    int before = errno;
    if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, whole, PATH_MAX - 1);
    errno = before;
    if (length <= 0) return 0;
    snprintf(whole + length, PATH_MAX, "/%s", path);
    return count_call(name, whole);
}

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

#define MODE(flags, mode)                                                  \
    mode_t mode = 0;                                                       \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {           \
        va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
    }
#define OPEN(name)                                                         \
    int name(const char *path, int flags, ...) {                           \
        MODE(flags, mode)                                                  \
        REAL(#name, int (*)(const char *, int, ...));                      \
        if (writes(flags) && fails_path("open", AT_FDCWD, path)) return -1; \
        return next(path, flags, mode);                                    \
    }
#define OPENAT(name)                                                       \
    int name(int folder, const char *path, int flags, ...) {               \
        MODE(flags, mode)                                                  \
        REAL(#name, int (*)(int, const char *, int, ...));                 \
        if (writes(flags) && fails_path("open", folder, path)) return -1;  \
        return next(folder, path, flags, mode);                            \
    }
#define FOPEN(name)                                                        \
    FILE *name(const char *path, const char *mode) {                       \
        REAL(#name, FILE *(*)(const char *, const char *));                \
        if (strpbrk(mode, "wa+") && fails_path("fopen", AT_FDCWD, path)) return NULL; \
        return next(path, mode);                                           \
    }
#define HANDLE(name, type, parameters, arguments)                          \
    type name parameters {                                                 \
        REAL(#name, type (*) parameters);                                  \
        if (fails_handle(#name, handle)) return -1;                        \
        return next arguments;                                             \
    }
#define PATH(name, parameters, arguments, folder)                          \
    int name parameters {                                                  \
        REAL(#name, int (*) parameters);                                   \
        if (fails_path(#name, folder, path)) return -1;                    \
        return next arguments;                                             \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)
HANDLE(write, ssize_t, (int handle, const void *data, size_t size), (handle, data, size))
HANDLE(pwrite, ssize_t, (int handle, const void *data, size_t size, off_t at), (handle, data, size, at))
HANDLE(pwrite64, ssize_t, (int handle, const void *data, size_t size, off64_t at), (handle, data, size, at))
HANDLE(writev, ssize_t, (int handle, const struct iovec *parts, int count), (handle, parts, count))
HANDLE(pwritev, ssize_t, (int handle, const struct iovec *parts, int count, off_t at), (handle, parts, count, at))
HANDLE(sendfile, ssize_t, (int handle, int from, off_t *at, size_t size), (handle, from, at, size))
HANDLE(sendfile64, ssize_t, (int handle, int from, off64_t *at, size_t size), (handle, from, at, size))
HANDLE(fsync, int, (int handle), (handle))
HANDLE(fdatasync, int, (int handle), (handle))
HANDLE(ftruncate, int, (int handle, off_t size), (handle, size))
HANDLE(ftruncate64, int, (int handle, off64_t size), (handle, size))
HANDLE(fchmod, int, (int handle, mode_t mode), (handle, mode))
PATH(rename, (const char *path, const char *to), (path, to), AT_FDCWD)
PATH(renameat, (int folder, const char *path, int other, const char *to), (folder, path, other, to), folder)
PATH(renameat2, (int folder, const char *path, int other, const char *to, unsigned flags),
     (folder, path, other, to, flags), folder)
PATH(link, (const char *path, const char *to), (path, to), AT_FDCWD)
PATH(unlink, (const char *path), (path), AT_FDCWD)
PATH(remove, (const char *path), (path), AT_FDCWD)
PATH(unlinkat, (int folder, const char *path, int flags), (folder, path, flags), folder)
PATH(rmdir, (const char *path), (path), AT_FDCWD)
PATH(mkdir, (const char *path, mode_t mode), (path, mode), AT_FDCWD)
PATH(mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode), folder)
PATH(chmod, (const char *path, mode_t mode), (path, mode), AT_FDCWD)
PATH(fchmodat, (int folder, const char *path, mode_t mode, int flags), (folder, path, mode, flags), folder)
PATH(truncate, (const char *path, off_t size), (path, size), AT_FDCWD)
PATH(truncate64, (const char *path, off64_t size), (path, size), AT_FDCWD)

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    REAL("fwrite", size_t (*)(const void *, size_t, size_t, FILE *));
    if (fails_handle("fwrite", fileno(stream))) return 0;
    return next(data, size, count, stream);
}

int fflush(FILE *stream) {
    REAL("fflush", int (*)(FILE *));
    if (stream && fails_handle("fflush", fileno(stream))) return EOF;
    return next(stream);
}

int fclose(FILE *stream) {
    REAL("fclose", int (*)(FILE *));
    int flags = fcntl(fileno(stream), F_GETFL);
    int fails = flags >= 0 && writes(flags) && fails_handle("fclose", fileno(stream));
    int error = errno, result = next(stream);
    if (!fails) return result;
    errno = error;
    return EOF;
}
